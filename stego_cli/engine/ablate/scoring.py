"""What probes say of a cached code at the size of the image, counted against labels.

The answers are those of `stego eval`, which upsamples the code and lets the probes look at every pixel. Here the
probes look at every cell: upsampling is linear, so that inner products with centroids and weights can be taken before
it, of a dozen channels in place of a hundred. Only the length of an upsampled code is not linear; its square is, in
the products of neighbouring cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from stego_cli.engine.train.probe_terms import upsampling
from stego_cli.probes.cluster import MIN_NORM

if TYPE_CHECKING:
    from stego_cli.probes.cluster import ClusterProbe
    from stego_cli.probes.linear import LinearProbe


@dataclass(frozen=True)
class Upsampling:
    """Bilinear upsampling of (..., h, w) to (..., H, W) with half-pixel centres, and of squared lengths.

    Attributes:
        rows: Shape (H, h).
        columns: Shape (W, w).
    """

    rows: Tensor
    columns: Tensor

    def maps(self, maps: Tensor) -> Tensor:
        """Upsample maps (..., h, w)."""
        return self.rows @ maps @ self.columns.T

    def squared_lengths(self, code: Tensor) -> Tensor:
        """Return the squared length of the upsampled code at every pixel, (H, W), from code (K, h, w).

        A pixel's code is a mixture of four cells, so its square is a mixture of their ten products: of each with
        itself, with its neighbours below and to the right, and of the two diagonals.
        """
        below, right = (code[:, 1:] * code[:, :-1]).sum(0), (code[:, :, 1:] * code[:, :, :-1]).sum(0)
        across = (code[:, 1:, 1:] * code[:, :-1, :-1]).sum(0) + (code[:, 1:, :-1] * code[:, :-1, 1:]).sum(0)
        rows, columns = self.rows.square(), self.columns.square()
        row_pairs, column_pairs = (2 * each[:, 1:] * each[:, :-1] for each in (self.rows, self.columns))
        total = rows @ code.square().sum(0) @ columns.T + row_pairs @ below @ columns.T
        return total + rows @ right @ column_pairs.T + row_pairs @ (across / 2) @ column_pairs.T


@lru_cache(maxsize=64)  # a dataset has a few sizes
def upsampling_between(cells: tuple[int, int], pixels: tuple[int, int], device: torch.device) -> Upsampling:
    """Return the upsampling from so many cells to so many pixels, height first."""
    return Upsampling(*(upsampling(few, many, device) for few, many in zip(cells, pixels, strict=True)))


def cluster_scores(probe: ClusterProbe, code: Tensor, pixels: tuple[int, int], alpha: float) -> Tensor:
    """Return alpha times the cosine between the upsampled code and every centroid.

    Args:
        probe: Has the centroids.
        code: Shape (K, h, w), float32.
        pixels: Height and width of the result.
        alpha: Inverse temperature; a softmax of the result gives the probabilities.

    Returns:
        Shape (clusters, H, W).
    """
    up = upsampling_between((code.shape[1], code.shape[2]), pixels, code.device)
    centroids = functional.normalize(probe.centroids, dim=1, eps=MIN_NORM)
    products = up.maps(torch.einsum("dhw,kd->khw", code, centroids))
    # Rounding can leave a code of length zero with a small negative square.
    lengths = up.squared_lengths(code).clamp(min=0).sqrt().clamp(min=MIN_NORM)
    return products.mul_(alpha).div_(lengths)


def linear_scores(probe: LinearProbe, code: Tensor, pixels: tuple[int, int]) -> Tensor:
    """Return the logits of the upsampled code, (classes, H, W), from code (K, h, w)."""
    up = upsampling_between((code.shape[1], code.shape[2]), pixels, code.device)
    return up.maps(torch.einsum("dhw,nd->nhw", code, probe.weight)) + probe.bias[:, None, None]
