"""Counting predictions against labels."""

from __future__ import annotations

import pytest
import torch

from stego_cli.errors import ShapeError
from stego_cli.metrics.confusion import ConfusionMatrix


def test_rows_are_predictions_and_columns_are_classes():
    confusion = ConfusionMatrix(3, 2)
    confusion.update(torch.tensor([2, 2, 0, 1]), torch.tensor([0, 0, 1, 1]))
    assert confusion.counts.tolist() == [[0, 1], [0, 1], [2, 0]]
    assert confusion.counts.dtype == torch.int64


def test_updates_add_up_whatever_the_shape():
    generator = torch.Generator().manual_seed(0)
    predictions = torch.randint(4, (6, 5, 7), generator=generator)
    labels = torch.randint(-1, 5, (6, 5, 7), generator=generator)
    at_once, piecewise = ConfusionMatrix(4, 3), ConfusionMatrix(4, 3)
    at_once.update(predictions, labels)
    for one, truth in zip(predictions, labels, strict=True):
        piecewise.update(one, truth)
    assert torch.equal(at_once.counts, piecewise.counts)
    assert at_once.counts.sum() == ((labels >= 0) & (labels < 3)).sum()


def test_labels_outside_the_classes_are_ignored():
    confusion = ConfusionMatrix(2, 2)
    confusion.update(torch.zeros(4, dtype=torch.int64), torch.tensor([-1, 2, 255, 1]))
    assert confusion.counts.tolist() == [[0, 1], [0, 0]]


def test_bytes_are_counted_like_any_integer():
    confusion = ConfusionMatrix(300, 200)
    confusion.update(torch.tensor([255], dtype=torch.uint8), torch.tensor([199], dtype=torch.uint8))
    assert confusion.counts[255, 199] == 1


def test_extra_clusters_count_unless_the_reference_is_asked_for():
    predictions, labels = torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 1, 0])
    ours, reference = ConfusionMatrix(4, 2), ConfusionMatrix(4, 2, extra="reference")
    ours.update(predictions, labels)
    reference.update(predictions, labels)
    assert ours.counts.tolist() == [[1, 0], [0, 1], [0, 1], [1, 0]]
    assert reference.counts.tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]


def test_other_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"\(2, 2\).*\(4,\)"):
        ConfusionMatrix(2, 2).update(torch.zeros(2, 2), torch.zeros(4))
