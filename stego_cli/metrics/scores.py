"""Scores from counts: fractions in [0, 1], or not-a-number where there is nothing to measure."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from stego_cli.errors import ShapeError
from stego_cli.metrics.matching import NO_CLASS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stego_cli.metrics.confusion import Extra

JsonScores: TypeAlias = dict[str, "float | dict[str, dict[str, float | None]] | None"]


@dataclass(frozen=True)
class Scores:
    """What one confusion matrix says.

    All values are fractions; a value is not-a-number where its denominator is zero (a class that occurs neither in
    the labels nor in the predictions), and such classes are left out of the means.

    Attributes:
        miou: Mean of the per-class intersection over union.
        accuracy: Share of the counted pixels that have the right class.
        iou: Per class, intersection over union.
        precision: Per class, share of the pixels predicted as this class that are of it.
        recall: Per class, share of the pixels of this class that are predicted as it. (The stego-studies reference
            exchanges the names precision and recall.)
        mean_precision: Mean precision over the classes that were predicted.
        mean_recall: Mean recall over the classes that occur in the labels.
    """

    miou: float
    accuracy: float
    iou: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    mean_precision: float
    mean_recall: float

    def as_json(self, names: Sequence[str]) -> JsonScores:
        """Return the scores as plain values, None for not-a-number; a name that occurs twice is told apart by id."""
        repeated = {name for name, times in Counter(names).items() if times > 1}
        keys = [f"{name} {class_id}" if name in repeated else name for class_id, name in enumerate(names)]
        rows = zip(self.iou, self.precision, self.recall, strict=True)
        return {
            "miou": _or_none(self.miou),
            "accuracy": _or_none(self.accuracy),
            "per_class": {
                key: {"iou": _or_none(iou), "precision": _or_none(precision), "recall": _or_none(recall)}
                for key, (iou, precision, recall) in zip(keys, rows, strict=True)
            },
        }


def score(counts: Tensor, cluster_to_class: Tensor | None = None, *, extra: Extra = "errors") -> Scores:
    """Score counts of predictions against classes.

    Args:
        counts: Shape (K, n); row = prediction, column = class.
        cluster_to_class: Class of each row, -1 for none, shape (K,); None if the rows are classes already.
        extra: What becomes of pixels in rows without a class. They are errors either way: their class missed them.
            With "reference" they also count in `miou` and `mean_precision` as one more class, of value 0, as in the
            STEGO reference.

    Raises:
        ShapeError: If the assignment does not fit the counts.

    Example:
        >>> score(torch.tensor([[3, 1], [0, 4]])).miou  # IoU 3/4 and 4/5
        0.775
    """
    by_class, unassigned = rows_by_class(counts, cluster_to_class)
    true_positives = by_class.diagonal()
    predicted = by_class.sum(dim=1)
    present = by_class.sum(dim=0) + unassigned
    iou = true_positives / (predicted + present - true_positives)
    precision, recall = true_positives / predicted, true_positives / present
    extra_class = [0.0] if extra == "reference" and bool(unassigned.sum() > 0) else []
    return Scores(
        miou=_mean([*iou.tolist(), *extra_class]),
        accuracy=float(true_positives.sum() / present.sum()),
        iou=tuple(iou.tolist()),
        precision=tuple(precision.tolist()),
        recall=tuple(recall.tolist()),
        mean_precision=_mean([*precision.tolist(), *extra_class]),
        mean_recall=_mean(recall.tolist()),
    )


def rows_by_class(counts: Tensor, cluster_to_class: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sum the rows of each class.

    Args:
        counts: Shape (K, n); row = prediction, column = class.
        cluster_to_class: Class of each row, -1 for none, shape (K,); None if the rows are classes already.

    Returns:
        (n, n), row = predicted class, and, for the rows without a class, (n,); both float64.

    Raises:
        ShapeError: If the assignment does not fit the counts.
    """
    num_rows, num_classes = counts.shape
    classes = torch.arange(num_rows) if cluster_to_class is None else cluster_to_class.cpu()
    if classes.shape != (num_rows,) or int(classes.amax()) >= num_classes:
        raise ShapeError(
            f"{num_rows} kinds of prediction and {num_classes} classes do not fit together"
            + ("\n\nhint: match the clusters to classes first" if cluster_to_class is None else "")
        )
    values = counts.cpu().double()
    by_class = torch.zeros(num_classes, num_classes, dtype=torch.float64)
    assigned = classes != NO_CLASS
    by_class.index_add_(0, classes[assigned], values[assigned])
    return by_class, values[~assigned].sum(dim=0)


def _mean(values: Sequence[float]) -> float:
    """Mean of the numbers among `values`; not-a-number if there is none."""
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


def _or_none(value: float) -> float | None:
    """Return the value, or None for not-a-number, which JSON does not have."""
    return None if math.isnan(value) else value
