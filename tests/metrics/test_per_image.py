"""Counts of single images, and what becomes of clusters beyond the classes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from stego_cli.metrics.confusion import ConfusionMatrix
from stego_cli.metrics.per_image import count_image, counted


def test_a_matrix_worked_by_hand() -> None:
    predictions = np.array([[0, 0, 1], [2, 2, 2]])
    labels = np.array([[0, 1, 1], [0, 255, -1]])  # the last two do not count
    counts = count_image(predictions, labels, 3, 2)
    assert counts.dense().tolist() == [[1, 1], [0, 1], [1, 0]]
    assert counts.total == 4
    assert counts.cells.tolist() == [0, 1, 3, 4]
    assert counts.scores(torch.tensor([0, 1, -1])).accuracy == pytest.approx(2 / 4)


def test_images_add_up_to_the_matrix_of_all() -> None:
    random = np.random.default_rng(0)
    whole, total = ConfusionMatrix(7, 5), torch.zeros(7, 5, dtype=torch.int64)
    for _ in range(4):
        predictions, labels = random.integers(0, 9, (20, 30)), random.integers(-1, 7, (20, 30))
        whole.update(torch.from_numpy(predictions), torch.from_numpy(labels))
        total += count_image(predictions, labels, 7, 5).dense()
    assert torch.equal(total, whole.counts)


def test_an_image_without_a_label_that_counts_has_no_score() -> None:
    scores = count_image(np.zeros((2, 2)), np.full((2, 2), 255), 2, 2).scores()
    assert math.isnan(scores.accuracy)
    assert math.isnan(scores.miou)


def test_predictions_of_one_byte_do_not_overflow() -> None:
    counts = count_image(np.full((1, 3), 200, np.uint8), np.full((1, 3), 26), 201, 27)
    assert counts.dense()[200, 26] == 3


@pytest.mark.parametrize("extra", ["errors", "reference"])
def test_dropping_afterwards_is_dropping_while_counting(extra) -> None:
    random = np.random.default_rng(1)
    predictions, labels = (torch.from_numpy(random.integers(0, high, 500)) for high in (6, 4))
    at_once, all_of_it = ConfusionMatrix(6, 4, extra=extra), ConfusionMatrix(6, 4)
    for confusion in (at_once, all_of_it):
        confusion.update(predictions, labels)
    assert torch.equal(counted(all_of_it.counts, extra), at_once.counts)


def test_the_golden_updates_give_the_golden_matrix_afterwards_too(golden: Path) -> None:
    seen = 0
    for name, case in json.loads((golden / "stego/metrics/results.json").read_text()).items():
        path = golden / "stego/metrics" / f"{name}.npz"
        if not case["n_updates"] or not path.exists():
            continue
        rows, classes = case["n_classes"] + case["extra_clusters"], case["n_classes"]
        with np.load(path, allow_pickle=False) as file:
            parts = [
                count_image(file[f"preds_{step}"], file[f"target_{step}"], rows, classes).dense()
                for step in range(case["n_updates"])
            ]
            found = counted(torch.stack(parts).sum(0), "reference")
            assert np.array_equal(found.numpy(), file["stats"]), name
        seen += 1
    assert seen
