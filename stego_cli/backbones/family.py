"""Networks that are DINO's up to a few parts: DINOv2 without registers, and MSN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from timm.layers.mlp import SwiGLUPacked
from torch import Tensor, nn

from stego_cli.backbones.vit import DinoVit

if TYPE_CHECKING:
    from stego_cli.config.model import VitArchitecture


class _Scale(nn.Module):
    """One learned factor per channel; timm has the same, in another place in each of its versions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Dinov2Vit(DinoVit):
    """DINOv2 without registers (Oquab et al., 2024): DINO's network and positions, and a scale after every branch.

    timm has the same network, but samples the position table in another way, so that features differ at every
    resolution but the native 518. With registers the two agree, so there timm's is used.

    Args:
        sizes: Of the network; with gated layers, `mlp_ratio` is the width of one of the two halves.
        gated: Whether the two layers of each block are gated ones, as in the largest network.
    """

    def __init__(self, sizes: VitArchitecture, *, gated: bool = False) -> None:
        # With gated layers the plain ones are only placeholders, so they are made small.
        super().__init__(sizes.model_copy(update={"mlp_ratio": 1.0}) if gated else sizes)
        for block in self.blocks:
            block.ls1, block.ls2 = _Scale(sizes.width), _Scale(sizes.width)
            if gated:
                block.mlp = SwiGLUPacked(sizes.width, hidden_features=2 * round(sizes.width * sizes.mlp_ratio))


class MsnVit(DinoVit):
    """MSN (Assran et al., 2022): DINO's network with a plainer rule for other resolutions."""

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Add the class token and positions to patch embeddings (B, h, w, C) -> (B, 1 + h*w, C); called by timm."""
        batch, height, width, channels = x.shape
        tokens = torch.cat([self.cls_token.expand(batch, -1, -1), x.reshape(batch, -1, channels)], dim=1)
        return tokens + msn_positions(self.pos_embed, (height, width))


def msn_positions(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Interpolate a learned position table as MSN does, which keeps it whenever the number of positions agrees.

    MSN itself knows square grids only. For others each side is scaled on its own, as its attention maps are.

    Args:
        table: Shape (1, 1 + n * n, C): the class position, then a square grid in row-major order.
        grid: Height and width of the wanted grid, in patches.

    Returns:
        Shape (1, 1 + height * width, C).
    """
    count, channels = table.shape[1] - 1, table.shape[2]
    side = round(count**0.5)
    if grid == (side, side):
        return table
    positions = table[:, 1:].reshape(1, side, side, channels).permute(0, 3, 1, 2)  # (1, n*n, C) -> (1, C, n, n)
    positions = nn.functional.interpolate(positions, size=grid, mode="bicubic", align_corners=False)
    return torch.cat([table[:, :1], positions.flatten(2).transpose(1, 2)], dim=1)
