"""A vision transformer that sees part of an image and says which visual words all of it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

from stego_cli.backbones.positions import dino_positions
from stego_cli.backbones.stem import FilterbankStem
from stego_cli.backbones.vit import DinoVit

if TYPE_CHECKING:
    from stego_cli.config.model import VitArchitecture


@dataclass(frozen=True)
class ViewBatch:
    """Views of images with what is to be learned from them.

    Attributes:
        images: Shape (B, 3, H, W), normalised; or what the network's stem says of their patches, (B, C, h, w).
        words: Visual word of each patch, shape (B, N), N = h * w, int64.
        order: The patches of each view in random order, the visible ones first, shape (B, N), int64.
    """

    images: Tensor
    words: Tensor
    order: Tensor

    def to(self, device: torch.device) -> ViewBatch:
        """Return the same on a device."""
        return ViewBatch(*(each.to(device, non_blocking=True) for each in (self.images, self.words, self.order)))

    def split(self, size: int) -> list[ViewBatch]:
        """Cut into pieces of at most so many views."""
        starts = range(0, len(self.images), size)
        return [ViewBatch(*(each[i : i + size] for each in (self.images, self.words, self.order))) for i in starts]


class Pretrainee(nn.Module):
    """The network that is kept, and a light one on top that is thrown away.

    The network sees the visible patches alone (He et al., "Masked autoencoders are scalable vision learners", CVPR
    2022). One more block reads its tokens beside empty ones that know only their place, and says the visual word of
    each hidden patch, as HuBERT does for speech (Hsu et al., 2021).

    Args:
        sizes: Of the network.
        words: Number of visual words.
    """

    def __init__(self, sizes: VitArchitecture, words: int) -> None:
        super().__init__()
        self.network = DinoVit(sizes)
        width = sizes.width
        self.reading = nn.Linear(width, width)
        self.hidden = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder = Block(width, sizes.heads, mlp_ratio=2.0, qkv_bias=True)
        self.norm = nn.LayerNorm(width)
        self.of_hidden = nn.Linear(width, words)
        self.of_visible = nn.Linear(width, words)
        for head in (self.of_hidden, self.of_visible):  # all words are as likely before anything is learned
            nn.init.trunc_normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)

    def forward(self, views: ViewBatch, visible: int) -> tuple[Tensor, Tensor]:
        """Return the mean cross-entropy of the words of hidden and of visible patches.

        Args:
            views: The views.
            visible: How many patches of each the network sees, fewer than N; as many hidden ones are asked for, or
                all there are.
        """
        seen, asked = views.order[:, :visible], views.order[:, visible : 2 * visible]
        stem = self.network.patch_embed
        embedded = stem.tokens(views.images) if isinstance(stem, FilterbankStem) else stem(views.images)
        _, height, width, _ = embedded.shape
        tokens = self.tokens(embedded, seen)[:, 1:]
        guesses = self._guess_hidden(tokens, (height, width), seen, asked)
        hidden = functional.cross_entropy(guesses.flatten(0, 1), views.words.gather(1, asked).flatten())
        own = functional.cross_entropy(self.of_visible(tokens).flatten(0, 1), views.words.gather(1, seen).flatten())
        return hidden, own

    def tokens(self, embedded: Tensor, seen: Tensor) -> Tensor:
        """Run the network on some of its embedded patches.

        Args:
            embedded: All patches of views, shape (B, h, w, C).
            seen: Which ones it sees, shape (B, n).

        Returns:
            Class token and patch tokens, shape (B, 1 + n, C).
        """
        network = self.network
        tokens = network._pos_embed(embedded)  # noqa: SLF001 - the rule for positions, as in use
        tokens = torch.cat([tokens[:, :1], _pick(tokens[:, 1:], seen)], dim=1)
        for block in network.blocks:
            tokens = block(tokens)
        normed: Tensor = network.norm(tokens)
        return normed

    def _guess_hidden(self, tokens: Tensor, grid: tuple[int, int], seen: Tensor, asked: Tensor) -> Tensor:
        """Return scores (B, m, words) of the asked patches of a grid, given the tokens (B, n, C) of the seen ones."""
        table = dino_positions(self.network.pos_embed, grid, square_image=grid[0] == grid[1])
        places = table[:, 1:].expand(len(tokens), -1, -1)
        known = self.reading(tokens) + _pick(places, seen)
        empty = self.hidden + _pick(places, asked)
        answer = self.decoder(torch.cat([known, empty], dim=1))[:, known.shape[1] :]
        scores: Tensor = self.of_hidden(self.norm(answer))
        return scores


def _pick(tokens: Tensor, which: Tensor) -> Tensor:
    """Take tokens (B, N, C) by number (B, n): (B, n, C)."""
    return tokens.gather(1, which[..., None].expand(-1, -1, tokens.shape[-1]))
