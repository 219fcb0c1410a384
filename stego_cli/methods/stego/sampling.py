"""Values of maps at positions between their cells, bilinearly, without a copy of any whole map.

Maps are read as rows, one per cell, so that a position costs four row reads wherever its map lies in the batch. That
is what makes comparisons with other images of the batch cheap: no permuted copy of the batch is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

Size: TypeAlias = tuple[int, int]  # height and width
WITHOUT_BAGS = ("mps",)  # devices on which older versions of torch have no embedding bags


@dataclass(frozen=True)
class Positions:
    """Positions on a map of known size: the four cells around each, and how much each of them counts.

    Attributes:
        cells: Row-major cell numbers, int64, shape (B, P, 4).
        weights: Shares that sum to 1, float32, shape (B, P, 4).
    """

    cells: Tensor
    weights: Tensor


def size_of(maps: Tensor) -> Size:
    """Return height and width, the last two dimensions."""
    return maps.shape[-2], maps.shape[-1]


def at_cells(rows: Tensor, columns: Tensor, size: Size) -> Positions:
    """Return positions given in cells, (0, 0) being the centre of the first one; what lies outside is clamped.

    Args:
        rows: Shape (B, P), any range.
        columns: The same shape.
        size: Height and width of the map.
    """
    height, width = size
    rows, columns = rows.float().clamp(0, height - 1), columns.float().clamp(0, width - 1)
    top, left = rows.floor(), columns.floor()
    down, right = rows - top, columns - left
    above, before = top.long(), left.long()
    below, after = (above + 1).clamp(max=height - 1), (before + 1).clamp(max=width - 1)
    cells = [above * width + before, above * width + after, below * width + before, below * width + after]
    weights = [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]
    return Positions(torch.stack(cells, -1), torch.stack(weights, -1))


def at_coords(coords: Tensor, size: Size) -> Positions:
    """Return positions given as (x, y), where -1 and 1 are the centres of the first and last cells.

    The grid is transposed first, as in the reference: position i * S + j is the one at `coords[b, j, i]`. No mean
    over all positions depends on it.

    Args:
        coords: Shape (B, S, T, 2); what lies outside [-1, 1] is clamped.
        size: Height and width of the map.
    """
    x, y = coords.transpose(1, 2).flatten(1, 2).unbind(-1)
    return at_cells((y + 1) / 2 * (size[0] - 1), (x + 1) / 2 * (size[1] - 1), size)


def edges_to_corners(coords: Tensor, size: Size) -> Tensor:
    """Turn (x, y) where -1 and 1 are the borders of a map into (x, y) where they are its corner cells' centres.

    Args:
        coords: Shape (..., 2).
        size: Height and width of the map, in cells. Along a single cell every position is the same.
    """
    stretch = [cells / max(cells - 1, 1) for cells in reversed(size)]
    return torch.stack([coords[..., 0] * stretch[0], coords[..., 1] * stretch[1]], dim=-1)


@dataclass(frozen=True)
class Source:
    """A batch of maps that vectors can be sampled from.

    Attributes:
        size: Height and width of the maps.
        blend: Maps four numbers of cells, counted through the whole batch, and their shares, both (..., 4), to the
            vector between those cells: (..., C), float32.
        factors: What the channels of each map are multiplied by, shape (B, C); None for nothing.
    """

    size: Size
    blend: Callable[[Tensor, Tensor], Tensor]
    factors: Tensor | None = None

    def sample(self, positions: Positions, images: Tensor | None = None) -> Tensor:
        """Return the vectors at the positions.

        Args:
            positions: P for each of the B images.
            images: Which map of the batch they lie on, int64, shape (draws, B); None for each image's own.

        Returns:
            Shape (B, P, C), or (B, draws, P, C) when `images` are given; float32.
        """
        cells, weights = positions.cells, positions.weights
        if images is None:
            images = torch.arange(len(cells), device=cells.device)
        else:
            images = images.T  # (B, draws)
            cells, weights = cells[:, None], weights[:, None].expand(-1, images.shape[1], -1, -1)
        vectors = self.blend(cells + (images * self.size[0] * self.size[1])[..., None, None], weights)
        return vectors if self.factors is None else vectors * self.factors[images][..., None, :]


def map_source(maps: Tensor, factors: Tensor | None = None) -> Source:
    """Sample from maps of shape (B, C, h, w); gradients flow back into them."""
    rows = maps.flatten(2).transpose(1, 2).reshape(-1, maps.shape[1]).float()  # (B, C, h, w) -> (B * h * w, C)
    return Source(size_of(maps), lambda cells, weights: _blend_rows(rows, cells, weights), factors)


def label_source(labels: Tensor, num_classes: int) -> Source:
    """Sample from label maps (B, H, W) as if they were features with one channel per class, and one for no class.

    Ignored pixels are thus alike, as in the reference. The one-hot map itself is never made.
    """
    flat = torch.where((labels >= 0) & (labels < num_classes), labels.long() + 1, 0).flatten()

    def blend(cells: Tensor, weights: Tensor) -> Tensor:
        return (functional.one_hot(flat[cells], num_classes + 1) * weights[..., None]).sum(-2)

    return Source(size_of(labels), blend)


def _blend_rows(rows: Tensor, cells: Tensor, weights: Tensor) -> Tensor:
    """Return weighted sums of four rows of (N, C) each; the gradient is summed in a fixed order on every device."""
    if rows.device.type in WITHOUT_BAGS:
        return (functional.embedding(cells, rows) * weights[..., None]).sum(-2)
    # A bag of four is read and summed at once: seven times as fast on a CPU, and no copy of the rows is made.
    bags = functional.embedding_bag(
        cells.reshape(-1, 4), rows, mode="sum", per_sample_weights=weights.reshape(-1, 4).contiguous()
    )
    return bags.view(*cells.shape[:-1], -1)
