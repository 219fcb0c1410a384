"""Counts of predictions against labels, summed over a whole split; every score is made from them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from stego_cli.errors import ShapeError

Extra = Literal["errors", "reference"]
"""What predictions in clusters that no class can have are: errors, or dropped as the STEGO reference does."""


class ConfusionMatrix:
    """Counts how often each prediction meets each class.

    Attributes:
        num_clusters: Number K of values that a prediction can take; for a linear probe the number of classes.
        num_classes: Number n of classes.
        extra: With "errors" every prediction counts. With "reference" a pixel whose prediction is `num_classes` or
            more is dropped, as the STEGO reference does: extra clusters then improve the score by hiding errors.
        counts: Shape (K, n), int64; row = prediction, column = class.
    """

    def __init__(self, num_clusters: int, num_classes: int, *, extra: Extra = "errors") -> None:
        self.num_clusters = num_clusters
        self.num_classes = num_classes
        self.extra = extra
        self.counts = torch.zeros(num_clusters, num_classes, dtype=torch.int64)

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """Count one batch.

        Pixels whose label is not one of the classes (`IGNORE_LABEL`, "unlabelled") and predictions that name no
        cluster are left out.

        Args:
            predictions: Cluster or class ids, any shape, any integer type.
            labels: Class ids, same shape.

        Raises:
            ShapeError: If the shapes differ.
        """
        if predictions.shape != labels.shape:
            raise ShapeError(
                f"predictions of shape {tuple(predictions.shape)} cannot be compared with labels of shape "
                f"{tuple(labels.shape)}\n\nhint: bring the log-probabilities to the size of the label map first"
            )
        rows, columns = predictions.flatten().long(), labels.flatten().long().to(predictions.device)
        highest = min(self.num_clusters, self.num_classes) if self.extra == "reference" else self.num_clusters
        counted = (rows >= 0) & (rows < highest) & (columns >= 0) & (columns < self.num_classes)
        cells = rows[counted] * self.num_classes + columns[counted]
        counts = torch.bincount(cells, minlength=self.counts.numel())
        self.counts += counts.view_as(self.counts).to(self.counts.device)
