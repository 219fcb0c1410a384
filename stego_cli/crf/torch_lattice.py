"""The permutohedral lattice in PyTorch, on any device: built by sorting, filtered by sums over rows.

The same lattice as in `stego_cli.crf.lattice`, for a batch of images at once: the lattice points of different images
have different keys, so they never meet. Nothing is added atomically: the same inputs give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from stego_cli.crf.packing import Packing, blur_gain, pack

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Rows:
    """Weighted sums of rows: each result is the sum of some rows of a table, times their weights.

    Attributes:
        rows: Which rows, int32: shape (results, k), or a list, one result after the other.
        weights: Same shape.
        begins: Where each result's part of the list begins; None for shape (results, k).
    """

    rows: Tensor
    weights: Tensor
    begins: Tensor | None = None

    def of(self, table: Tensor) -> Tensor:
        """Return the sums of a table (rows, C), shape (results, C)."""
        return embedding_bag(self.rows, table, self.begins, mode="sum", per_sample_weights=self.weights)

    def times(self, factors: Tensor) -> Rows:
        """Return the same sums with other weights; `factors` as many as there are weights, in their order."""
        return Rows(self.rows, self.weights * factors.reshape(self.weights.shape), self.begins)


@dataclass(frozen=True)
class TorchLattice:
    """A lattice of M points under P pixels of all images together: three sums over rows, one after the other.

    Attributes:
        splat: From pixels to lattice points.
        blurs: From lattice points to lattice points, along each direction.
        slice: From lattice points to pixels.
    """

    splat: Rows
    blurs: tuple[Rows, ...]
    slice: Rows

    def filter(self, values: Tensor) -> Tensor:
        """Filter values (P, C) of every pixel: with `strength * D^-1/2 K D^-1/2`. Takes (P + 2 M) * C floats."""
        spread = self.splat.of(values)
        for blur in self.blurs:
            spread = blur.of(spread)
        return self.slice.of(spread)

    @property
    def size(self) -> int:
        """M."""
        return len(self.blurs[0].rows)


def build_torch_lattice(features: Tensor, real: Tensor, largest: Sequence[float], strength: float) -> TorchLattice:
    """Return the lattice on which the pixels of each image are filtered.

    The host waits for the device once, to learn how many lattice points there are.

    Args:
        features: Shape (d, B, N) float32, non-negative, in units of the kernel's reach.
        real: Shape (N,) float32: 1, or 0 for what is no pixel and only brings lattice points into being.
        largest: What each feature does not exceed.
        strength: Of the kernel.

    Raises:
        OverflowError: If the features spread over more cells than can be counted.
    """
    size, images, count = features.shape
    packing = pack(largest, images)
    bases, ranks, offsets = _simplices(features.reshape(size, -1), packing)
    image = torch.arange(images, device=features.device).repeat_interleave(count)
    keys = _keys(bases + image * packing.cells, ranks, packing)
    weights = _weights(ranks, offsets) * real.repeat(images)[:, None]
    unique, points, order, begins = _numbered(keys.reshape(-1))
    splat = Rows(torch.div(order, size + 1, rounding_mode="floor").int(), weights.reshape(-1)[order], begins)
    plain = TorchLattice(
        splat, tuple(_blur(unique, packing, direction) for direction in range(size + 1)),
        Rows(points.reshape(-1, size + 1), weights),
    )  # fmt: skip
    gain = blur_gain(size)
    sums = plain.filter(torch.ones(images * count, 1, device=features.device)) * gain + 1e-20
    factors = torch.sqrt(strength * gain / sums).expand(-1, size + 1).reshape(-1)
    return TorchLattice(splat.times(factors[order]), plain.blurs, plain.slice.times(factors))


def _simplices(features: Tensor, packing: Packing) -> tuple[Tensor, Tensor, Tensor]:
    """Find the cell of the lattice around every pixel, step by step as in `cells.simplices_of`, to the bit.

    Args:
        features: Shape (d, P).
        packing: How points become keys.

    Returns:
        Key of the cell's corner of remainder 0 without that remainder, shape (P,); the order of the coordinates within
        the cell, int64, and how far from that corner the pixel lies, both of shape (d + 1, P).
    """
    size, pixels = features.shape
    corners = size + 1
    elevated = features.new_empty(corners, pixels)
    total = features.new_zeros(pixels)
    for j in range(size, 0, -1):
        part = features[j - 1] * float(packing.scale[j - 1])
        elevated[j] = total - part * j
        total = total + part
    elevated[0] = total
    inverse = float(torch.tensor(1.0) / corners)
    cells = torch.round(elevated * inverse)
    rest = elevated - cells * corners
    ranks = cells.sum(0).expand(corners, -1).clone()
    for i, j in combinations(range(corners), 2):
        ahead = (rest[i] < rest[j]).float()
        ranks[i] += ahead
        ranks[j] += 1 - ahead
    wraps = (ranks < 0).float() - (ranks > size).float()  # back onto the plane where the coordinates sum to zero
    cells += wraps
    ranks += wraps * corners
    offsets = (elevated - cells * corners) * inverse
    strides, lows = (torch.from_numpy(each).to(features.device) for each in (packing.strides, packing.lows))
    bases = ((cells.long() - lows[:, None]) * strides[:, None]).sum(0)
    return bases, ranks.long(), offsets


def _keys(bases: Tensor, ranks: Tensor, packing: Packing) -> Tensor:
    """Return the keys of the lattice points around every pixel, shape (P, d + 1)."""
    corners = len(ranks)
    strides = torch.from_numpy(packing.strides).to(bases.device)[:, None].expand_as(ranks)
    by_rank = torch.empty_like(ranks).scatter_(0, ranks, strides)
    taken = torch.zeros_like(ranks)
    taken[1:] = by_rank.flip(0)[:-1].cumsum(0)
    return ((bases - taken) * corners + torch.arange(corners, device=bases.device)[:, None]).T.contiguous()


def _weights(ranks: Tensor, offsets: Tensor) -> Tensor:
    """Return barycentric coordinates, shape (P, d + 1)."""
    by_rank = torch.empty_like(offsets).scatter_(0, ranks, offsets).flip(0)
    return (by_rank - torch.cat([by_rank[-1:] - 1, by_rank[:-1]])).T.contiguous()


def _numbered(keys: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Number the lattice points in the order of their keys.

    Returns:
        The different keys; for each of `keys` the number of its lattice point, int32; an order that brings equal keys
        together; and where each lattice point begins in that order, int32.
    """
    ordered, order = torch.sort(keys, stable=True)
    is_new = torch.ones_like(ordered, dtype=torch.bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    begins = is_new.nonzero()[:, 0]
    points = torch.empty_like(order).scatter_(0, order, is_new.cumsum(0) - 1)
    return ordered[begins], points.int(), order, begins.int()


def _blur(unique: Tensor, packing: Packing, direction: int) -> Rows:
    """Look up the neighbours of every lattice point along one direction; a missing one is itself, with weight 0."""
    within, around = packing.steps(direction)
    itself = torch.arange(len(unique), device=unique.device)
    wanted = unique + torch.where(unique % len(packing.strides) == 0, around, within)
    place = torch.searchsorted(unique, wanted).clamp_(max=len(unique) - 1)
    has_before = unique[place] == wanted
    before = torch.where(has_before, place, itself)
    other_side = torch.full((len(unique) + 1,), -1, device=unique.device)  # one more for all that have none
    other_side.scatter_(0, torch.where(has_before, place, len(unique)), itself)
    has_after = other_side[:-1] >= 0
    after = torch.where(has_after, other_side[:-1], itself)
    weights = torch.stack([torch.ones_like(itself), has_before, has_after], dim=1).float()
    weights[:, 1:] *= 0.5
    return Rows(torch.stack([itself, before, after], dim=1).int(), weights)
