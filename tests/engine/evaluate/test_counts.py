"""Everything counted in one pass, alone or between processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stego_cli.checkpoints.native import load_checkpoint
from stego_cli.config.crf import CrfParameters
from stego_cli.data.dataset import Dataset, Sample
from stego_cli.engine import measure
from stego_cli.engine.evaluate.counts import Tally, count_all, score_all
from stego_cli.engine.measure import Pass, evaluate, measured
from stego_cli.engine.ranks import Ranks
from stego_cli.metrics.per_image import count_image
from stego_cli.progress import Silence
from stego_cli.segmenter import Segmenter, Settings

BOTH = Settings(("cluster", "linear"), "paper", resolution=64)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    samples = []
    for index, (height, width) in enumerate([(64, 64), (64, 96), (96, 64), (64, 64), (70, 81)]):
        random = np.random.default_rng(index)
        image, label = tmp_path / f"{index}.png", tmp_path / f"{index}_label.png"
        Image.fromarray(random.integers(0, 255, (height, width, 3)).astype(np.uint8)).save(image)
        Image.fromarray(random.integers(0, 3, (height, width)).astype(np.uint8)).save(label)
        samples.append(Sample(image.name, image, label))
    return Dataset("noise", "noise", "val", tmp_path, tuple(samples))


@pytest.fixture
def model(tiny_model: Path) -> Segmenter:
    return Segmenter.from_checkpoint(load_checkpoint(tiny_model))


def test_the_counts_are_those_of_evaluate(model: Segmenter, dataset: Dataset) -> None:
    for settings in (BOTH, replace(BOTH, protocol="native")):
        expected = evaluate(model, dataset, settings, 8, Silence())
        tally = count_all(Pass(model, settings, 3, 8), dataset, Silence())
        for probe, counts in expected.items():
            assert torch.equal(tally.counts[probe], counts.counts)
        assert list(tally.images) == [sample.name for sample in dataset.samples]


@pytest.mark.parametrize("protocol", ["paper", "native"])
def test_the_crf_beside_is_the_crf_alone(model: Segmenter, dataset: Dataset, protocol: Any) -> None:
    settings, crf = replace(BOTH, protocol=protocol), CrfParameters(iterations=2)
    alone = evaluate(model, dataset, replace(settings, crf=crf), 8, Silence())
    beside = count_all(Pass(model, settings, 3, 8, also_crf=crf), dataset, Silence()).counts
    assert list(beside) == ["cluster", "linear", "cluster_crf", "linear_crf"]
    for probe, counts in alone.items():
        assert torch.equal(beside[f"{probe}_crf"], counts.counts)
    assert not torch.equal(beside["cluster"], beside["cluster_crf"])


def test_backbone_and_crf_run_once_for_each_image(
    model: Segmenter, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, refined = [], []
    features = model.backbone.features
    monkeypatch.setattr(model.backbone, "features", lambda images: seen.append(len(images)) or features(images))

    class Counting:
        def refine(self, image: Any, stacks: Any) -> Any:
            refined.append(len(stacks))
            return list(stacks)

    monkeypatch.setattr(measure, "build_crf", lambda parameters, device: Counting())
    count_all(Pass(model, BOTH, 3, 8, also_crf=CrfParameters()), dataset, Silence())
    assert sum(seen) == 2 * len(dataset)  # each with its mirror
    assert refined == [2] * len(dataset)


def test_labels_may_have_more_classes_than_the_model(model: Segmenter, dataset: Dataset) -> None:
    counts = evaluate(model, dataset, Settings(resolution=64), 8, Silence(), classes=7)
    assert counts["cluster"].counts.shape == (3, 7)


def test_shares_of_several_processes_add_up(model: Segmenter, dataset: Dataset) -> None:
    whole = count_all(Pass(model, BOTH, 3, 8), dataset, Silence())
    parts = []
    for rank in range(2):

        class Alone(Ranks):
            """One of two, which the other does not answer."""

            def gather(self, item: Any) -> list[Any]:
                return [item]

            def sum(self, counts: torch.Tensor) -> torch.Tensor:
                return counts

        parts.append(count_all(Pass(model, BOTH, 3, 8), dataset, Silence(), Alone(rank, 2)))
    assert [list(part.images) for part in parts] == [["0.png", "2.png", "4.png"], ["1.png", "3.png"]]
    for head, counts in whole.counts.items():
        assert torch.equal(parts[0].counts[head] + parts[1].counts[head], counts)


def test_predictions_and_labels_of_an_image_have_one_size(model: Segmenter, dataset: Dataset) -> None:
    for protocol in ("paper", "native"):
        settings = replace(BOTH, protocol=protocol)
        for image in measured(Pass(model, settings, 3, 2, also_crf=CrfParameters(iterations=1)), dataset, Silence()):
            assert {said.shape for said in (*image.said.values(), *image.sharpened.values())} == {image.labels.shape}


def tally(counts: list[list[int]]) -> Tally:
    return Tally({"cluster": torch.tensor(counts)})


def test_extra_clusters_by_name_and_many_to_one_worked_by_hand() -> None:
    found = tally([[6, 0], [0, 2], [1, 3]])
    errors, classes = score_all(found, "errors", overcluster=True)
    assert classes["cluster"].tolist() == [0, -1, 1]
    assert errors["cluster"].accuracy == pytest.approx(9 / 12)
    assert classes["cluster_many_to_one"].tolist() == [0, 1, 1]
    assert errors["cluster_many_to_one"].accuracy == pytest.approx(11 / 12)
    dropped, classes = score_all(found, "reference", overcluster=True)
    assert classes["cluster"].tolist() == [0, 1, -1]
    assert dropped["cluster"].accuracy == 1.0
    assert dropped["cluster_many_to_one"].accuracy == pytest.approx(11 / 12)  # nothing is dropped there
    assert "cluster_many_to_one" not in score_all(found, "errors", overcluster=False)[0]


def test_a_class_without_a_cluster_counts_as_zero() -> None:
    scores, classes = score_all(tally([[6, 0, 1], [0, 2, 0]]), "errors", overcluster=False)
    assert classes["cluster"].tolist() == [0, 1]
    assert scores["cluster"].iou == (6 / 7, 1.0, 0.0)
    assert scores["cluster"].miou == pytest.approx((6 / 7 + 1) / 3)


def test_rows_of_the_linear_probe_are_never_dropped() -> None:
    image = count_image(np.array([0, 1]), np.array([0, 1]), 2, 2)
    scores, classes = score_all(Tally({"linear": image.dense()}), "reference", overcluster=False)
    assert scores["linear"].accuracy == 1.0
    assert classes == {}
