"""Tokens of a vision transformer from what the filter bank says of each patch, in place of its pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stego_cli.backbones.filterbank import Filterbank


class FilterbankStem(nn.Module):
    """The filter bank, every channel alike, and a linear map: stands where timm's `PatchEmbed` would.

    A small network that sees few images need not find edges, colours and the horizon again; it begins with them. The
    filter bank stays as it is; `bank.fit_projection` brings its channels to one scale.

    Args:
        width: Of the tokens.

    Attributes:
        bank: The filter bank, with features (B, C, h, w).
        proj: From its channels to the width.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bank = Filterbank(even=True)
        self.proj = nn.Linear(self.bank.channels, width)
        self.patch_size = (self.bank.patch_size, self.bank.patch_size)  # as timm asks for it

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to tokens on their grid (B, h, w, width)."""
        with torch.no_grad():
            maps = self.bank.features(images)
        return self.tokens(maps)

    def tokens(self, maps: Tensor) -> Tensor:
        """Map features of the filter bank (B, C, h, w) to tokens (B, h, w, width)."""
        tokens: Tensor = self.proj(maps.permute(0, 2, 3, 1))
        return tokens

    def dynamic_feat_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the grid (h, w) of an image (H, W); called by timm."""
        return size[0] // self.patch_size[0], size[1] // self.patch_size[1]
