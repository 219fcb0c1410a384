"""How good the embedded model is on CamVid, measured on the masks that `predict` writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import stego_cli
from stego_cli.catalog.models import embedded_path
from stego_cli.checkpoints.native import load_checkpoint
from stego_cli.config.fit import FitConfig
from stego_cli.data.datasets.build import open_dataset
from stego_cli.metrics.confusion import ConfusionMatrix
from stego_cli.metrics.matching import match_clusters
from stego_cli.metrics.scores import Scores, score

pytestmark = pytest.mark.quality
STORED = {"cluster": "cluster", "named": "cluster_named", "linear": "linear"}


def masks_and_labels(camvid: Path, folder: Path) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield every written mask with its label map; both have the size of the image."""
    images = open_dataset(FitConfig(dataset=str(camvid)), "val")
    assert len(images) == len(list(folder.glob("*.png"))) > 0
    for index, sample in enumerate(images.samples):
        mask = np.asarray(Image.open(folder / f"{sample.image.stem}.png")).astype(np.int64)
        labels = images.labels(index, mask.shape)
        assert labels is not None
        yield torch.from_numpy(mask), torch.from_numpy(labels)


def measure(camvid: Path, folder: Path, classes: int) -> ConfusionMatrix:
    """Count the masks of a folder against the labels of the validation images."""
    confusion = ConfusionMatrix(classes, classes)
    for mask, labels in masks_and_labels(camvid, folder):
        confusion.update(mask, labels)
    return confusion


@pytest.fixture(scope="module")
def camvid(testdata: Path) -> Path:
    return testdata / "camvid"


def run(camvid: Path, out: Path, **options: Any) -> Path:
    """Segment the validation images with the embedded model."""
    result = stego_cli.predict([camvid / "imgs" / "val"], model="embedded", out=out, save="labels", **options)
    assert result.failed == []
    return out


def show(title: str, scores: dict[str, Scores]) -> None:
    """Print scores in percent, for `pytest -s`."""
    rows = [f"{title:<28}{'mIoU':>8}{'accuracy':>10}"]
    rows += [f"{name:<28}{100 * each.miou:>8.2f}{100 * each.accuracy:>10.2f}" for name, each in scores.items()]
    print("", *rows, sep="\n")  # noqa: T201 - a table for people


@pytest.fixture(scope="module")
def scores(camvid: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scores]:
    """Scores without the CRF: clusters with their stored names, clusters matched to the validation labels, linear."""
    out = run(camvid, tmp_path_factory.mktemp("plain"), probe="both")
    spaces = json.loads((out / "predictions.json").read_text("utf-8"))["label_spaces"]
    classes = len(load_checkpoint(embedded_path()).config.label_space)
    assert all(len(space["names"]) == classes for space in spaces.values())
    # Each class has one cluster, so matching classes again is matching clusters.
    cluster = measure(camvid, out / "labels", classes).counts
    found = {
        "named": score(cluster),
        "cluster": score(cluster, match_clusters(cluster)),
        "linear": score(measure(camvid, out / "labels_linear", classes).counts),
    }
    show("CamVid val, no CRF", found)
    return found


def test_the_embedded_model_is_as_good_as_it_was(scores: dict[str, Scores]) -> None:
    assert scores["named"].miou >= 0.26
    assert scores["cluster"].miou >= 0.28
    assert scores["linear"].miou >= 0.38
    assert scores["linear"].accuracy >= 0.80


def test_the_scores_in_the_model_file_are_those_of_its_masks(scores: dict[str, Scores]) -> None:
    stored = load_checkpoint(embedded_path()).config.about.scores
    for name, measured in scores.items():
        assert stored[f"val {STORED[name]} miou"] == pytest.approx(measured.miou, abs=0.01)
        assert stored[f"val {STORED[name]} accuracy"] == pytest.approx(measured.accuracy, abs=0.01)


def test_the_crf_does_not_harm(camvid: Path, scores: dict[str, Scores], tmp_path: Path) -> None:
    out = run(camvid, tmp_path / "crf", crf=True)
    cluster = measure(camvid, out / "labels", len(load_checkpoint(embedded_path()).config.label_space)).counts
    sharpened = {"named": score(cluster), "cluster": score(cluster, match_clusters(cluster))}
    show("CamVid val, CRF", sharpened)
    assert sharpened["named"].accuracy > scores["named"].accuracy - 0.01
    assert sharpened["cluster"].accuracy > scores["cluster"].accuracy - 0.01
