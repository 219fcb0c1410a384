"""Scores of small matrices that can be worked by hand."""

from __future__ import annotations

import json
import math

import pytest
import torch

from stego_cli.errors import ShapeError
from stego_cli.metrics.scores import score


def test_a_matrix_worked_by_hand():
    scores = score(torch.tensor([[3, 1], [0, 4]]))
    assert scores.iou == pytest.approx((3 / 4, 4 / 5))
    assert scores.precision == pytest.approx((3 / 4, 1.0))
    assert scores.recall == pytest.approx((1.0, 4 / 5))
    assert scores.miou == pytest.approx(0.775)
    assert scores.accuracy == pytest.approx(7 / 8)
    assert scores.mean_precision == pytest.approx(7 / 8)
    assert scores.mean_recall == pytest.approx(0.9)


def test_clusters_of_one_class_are_added_up():
    split = score(torch.tensor([[2, 1], [0, 4], [1, 0]]), torch.tensor([0, 1, 0]))
    assert split == score(torch.tensor([[3, 1], [0, 4]]))


def test_a_class_that_never_occurs_is_left_out_of_the_means():
    scores = score(torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
    assert math.isnan(scores.iou[2])
    assert scores.miou == pytest.approx(0.775)


def test_a_class_that_is_only_predicted_counts_as_zero():
    scores = score(torch.tensor([[4, 0], [1, 0]]))
    assert scores.iou == pytest.approx((0.8, 0.0))
    assert scores.miou == pytest.approx(0.4)


def test_clusters_without_a_class_are_errors():
    counts = torch.tensor([[3, 0], [0, 4], [1, 2]])
    scores = score(counts, torch.tensor([0, 1, -1]))
    assert scores.accuracy == pytest.approx(0.7)
    assert scores.iou == pytest.approx((3 / 4, 4 / 6))
    assert scores.miou == pytest.approx((3 / 4 + 4 / 6) / 2)


def test_the_reference_counts_clusters_without_a_class_as_one_more_class():
    counts, matched = torch.tensor([[3, 0], [0, 4], [1, 2]]), torch.tensor([0, 1, -1])
    assert score(counts, matched, extra="reference").miou == pytest.approx((3 / 4 + 4 / 6) / 3)
    counts[2] = 0
    assert score(counts, matched, extra="reference") == score(counts, matched)


def test_nothing_counted_is_not_a_number_and_null_in_json():
    scores = score(torch.zeros(2, 2))
    assert math.isnan(scores.miou)
    assert math.isnan(scores.accuracy)
    assert scores.as_json(["a", "b"])["miou"] is None


def test_json_is_plain_and_tells_equal_names_apart():
    written = json.loads(json.dumps(score(torch.eye(3) * 2).as_json(["food", "sky", "food"]), allow_nan=False))
    assert written["miou"] == 1.0
    assert written["per_class"]["sky"] == {"iou": 1.0, "precision": 1.0, "recall": 1.0}
    assert set(written["per_class"]) == {"food 0", "sky", "food 2"}


def test_unmatched_clusters_cannot_be_scored_as_classes():
    with pytest.raises(ShapeError, match="match the clusters"):
        score(torch.ones(4, 3))


def test_an_assignment_of_another_length_is_refused():
    with pytest.raises(ShapeError):
        score(torch.ones(3, 3), torch.tensor([0, 1]))
