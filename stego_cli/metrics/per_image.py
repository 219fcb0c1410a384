"""Counts of single images, kept small: most pairs of prediction and class never occur in one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stego_cli.metrics.scores import Scores, score

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from stego_cli.metrics.confusion import Extra


@dataclass(frozen=True)
class ImageCounts:
    """The confusion matrix of one image, as the cells that are not zero.

    Attributes:
        shape: Rows (predictions) and columns (classes) of the matrix.
        cells: Places in the flattened matrix, increasing.
        pixels: How many pixels each of them has.
    """

    shape: tuple[int, int]
    cells: NDArray[np.int32]
    pixels: NDArray[np.int64]

    @property
    def total(self) -> int:
        """Pixels that were counted."""
        return int(self.pixels.sum())

    def dense(self) -> Tensor:
        """Return the whole matrix, int64."""
        matrix = torch.zeros(self.shape, dtype=torch.int64)
        matrix.view(-1)[torch.from_numpy(self.cells).long()] = torch.from_numpy(self.pixels)
        return matrix

    def scores(self, cluster_to_class: Tensor | None = None, extra: Extra = "errors") -> Scores:
        """Score this image alone; classes that occur in neither labels nor predictions do not count."""
        return score(counted(self.dense(), extra), cluster_to_class, extra=extra)


def count_image(predictions: NDArray[Any], labels: NDArray[Any], rows: int, classes: int) -> ImageCounts:
    """Count one image; pixels whose label is no class, or whose prediction is none, are left out.

    Args:
        predictions: Cluster or class ids, any shape.
        labels: Class ids, same shape.
        rows: Values that predictions can have.
        classes: Values that labels can have.

    Example:
        >>> count_image(np.array([1, 1, 0, 0]), np.array([0, 0, 1, 255]), 2, 2).dense().tolist()
        [[0, 1], [2, 0]]
    """
    said, known = predictions.ravel().astype(np.int64), labels.ravel().astype(np.int64)
    valid = (said >= 0) & (said < rows) & (known >= 0) & (known < classes)
    dense = np.bincount(said[valid] * classes + known[valid], minlength=rows * classes)
    cells = np.flatnonzero(dense)
    return ImageCounts((rows, classes), cells.astype(np.int32), dense[cells].astype(np.int64))


def counted(counts: Tensor, extra: Extra) -> Tensor:
    """Return what counts of everything that was predicted becomes under a way to treat extra clusters.

    Args:
        counts: Shape (K, n); row = cluster, column = class.
        extra: With "reference" the rows from n on are emptied, as if their pixels had not been predicted; what
            `ConfusionMatrix` counts with the same word.

    Example:
        >>> counted(torch.tensor([[5], [3]]), "reference").tolist()
        [[5], [0]]
    """
    if extra == "errors" or len(counts) <= counts.shape[1]:
        return counts
    kept = counts.clone()
    kept[counts.shape[1] :] = 0
    return kept
