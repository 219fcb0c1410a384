"""Counts, matching and scores against the golden numbers of the reference (README of the set, section 5)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stego_cli.metrics.confusion import ConfusionMatrix
from stego_cli.metrics.matching import match_clusters
from stego_cli.metrics.scores import Scores, score


@pytest.fixture
def cases(golden: Path) -> dict[str, dict[str, Any]]:
    return json.loads((golden / "stego/metrics/results.json").read_text())


@pytest.fixture
def arrays(golden: Path):
    def read(case: str) -> dict[str, torch.Tensor]:
        path = golden / "stego/metrics" / f"{case}.npz"
        if not path.exists():  # a case without any update has parameters and results only
            return {}
        with np.load(path, allow_pickle=False) as file:
            return {name: torch.from_numpy(file[name]) for name in file}

    return read


def confusion_of(case: dict[str, Any]) -> ConfusionMatrix:
    return ConfusionMatrix(case["n_classes"] + case["extra_clusters"], case["n_classes"], extra="reference")


def score_of(case: dict[str, Any], counts: torch.Tensor) -> Scores:
    matched = match_clusters(counts) if case["hungarian"] else None
    return score(counts, matched, extra="reference")


def counts_of(case: dict[str, Any], values: dict[str, torch.Tensor]) -> torch.Tensor:
    return values["stats"] if values else confusion_of(case).counts


def test_counts_after_every_update(cases, arrays):
    updates = 0
    for name, case in cases.items():
        confusion, values = confusion_of(case), arrays(name)
        for step in range(case["n_updates"]):
            confusion.update(values[f"preds_{step}"], values[f"target_{step}"])
            assert torch.equal(confusion.counts, values[f"stats_after_{step}"]), (name, step)
            updates += 1
    assert updates


def test_assignment_is_the_reference_one(cases, arrays):
    for name, case in cases.items():
        if not case["hungarian"]:
            continue
        values = arrays(name)
        matched = match_clusters(values["stats"])
        expected = torch.full_like(matched, -1)
        expected[values["assignment_rows"]] = values["assignment_cols"]
        assert torch.equal(matched, expected), name


def test_mapped_predictions_are_the_reference_ones(cases, arrays):
    for name, case in cases.items():
        values = arrays(name)
        if case["hungarian"] and case["n_updates"]:
            matched = match_clusters(values["stats"])
            known = (values["preds_0"] >= 0) & (values["preds_0"] < len(matched))
            assert torch.equal(matched[values["preds_0"][known]], values["mapped_preds_0"][known]), name


def test_an_unassigned_cluster_before_assigned_ones_keeps_its_own_place(cases, arrays):
    """The reference shifts its -1 to the right here; we refuse that: see `match_clusters`."""
    for name, case in cases.items():
        if not case["hungarian"] or not case["extra_clusters"]:
            continue
        values = arrays(name)
        ours, theirs = match_clusters(values["stats"]), values["map_clusters_of_all_ids"]
        unassigned = (ours < 0).nonzero().flatten()
        only_at_the_end = bool((unassigned >= case["n_classes"]).all())
        assert torch.equal(ours, theirs) == only_at_the_end, name


def test_miou_and_accuracy(cases, arrays):
    for name, case in cases.items():
        scores = score_of(case, counts_of(case, arrays(name)))
        for found, expected in ((scores.miou, case["mIoU"]), (scores.accuracy, case["Accuracy"])):
            if expected is None:
                assert math.isnan(found), name
            else:
                assert 100 * found == pytest.approx(expected, abs=1e-3), name


def test_per_class_scores_with_precision_and_recall_under_their_usual_names(cases, arrays):
    """stego-studies exchanges the two names: what it stores as recall is precision."""
    for name, case in cases.items():
        values = arrays(name)
        if not values:
            continue
        scores = score_of(case, values["stats"])
        for found, theirs in ((scores.iou, "iou"), (scores.precision, "recall"), (scores.recall, "precision")):
            expected = values[f"per_class_{theirs}"].double()
            percent = 100 * torch.tensor(found, dtype=torch.float64)
            torch.testing.assert_close(percent, expected, atol=1e-3, rtol=0, equal_nan=True, msg=f"{name} {theirs}")


def test_mean_precision_and_recall(cases, arrays):
    for name, case in cases.items():
        if "recall" not in case:
            continue
        scores = score_of(case, arrays(name)["stats"])
        assert 100 * scores.mean_precision == pytest.approx(case["recall"], abs=1e-3), name
        assert 100 * scores.mean_recall == pytest.approx(case["precision"], abs=1e-3), name
