"""Measuring a model against label maps: what it predicts is what is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stego_cli import segmenter as segmenter_module
from stego_cli.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from stego_cli.config.crf import CrfParameters
from stego_cli.config.model import DinoConfig, FilterbankConfig, LabelSpace, ModelConfig
from stego_cli.data.dataset import Dataset, Sample
from stego_cli.data.label_codes import LabelCode
from stego_cli.engine.measure import evaluate, score_probes
from stego_cli.metrics.confusion import ConfusionMatrix
from stego_cli.progress import Silence
from stego_cli.segmenter import Segmenter, Settings
from support import Heard

BOTH = Settings(probes=("cluster", "linear"), resolution=32)
RED = 1  # the class; class 0 is blue


class RednessBackbone(Backbone):
    """Red minus blue of each cell, and blue minus red."""

    patch_size = 8
    channels = 2

    def features(self, images: torch.Tensor) -> torch.Tensor:
        rgb = images * torch.tensor(IMAGENET_STD)[:, None, None] + torch.tensor(IMAGENET_MEAN)[:, None, None]
        difference = torch.nn.functional.avg_pool2d(rgb[:, :1] - rgb[:, 2:], 8)
        return torch.cat([difference, -difference], dim=1)


class Upside:
    """A CRF that turns every answer into certainty of the last class."""

    def refine(self, image: Any, stacks: Any) -> Any:
        return [np.broadcast_to(np.eye(len(s))[-1][:, None, None], (len(s), *image.shape[:2])).copy() for s in stacks]


def red_and_blue_model(monkeypatch: pytest.MonkeyPatch, centroids: list[list[float]], **changes: Any) -> Segmenter:
    """A model whose cluster 0 and class 1 are red, whose cluster 1 and class 0 are blue."""
    monkeypatch.setattr(segmenter_module, "build_backbone", lambda config: RednessBackbone())
    space = LabelSpace(name="two", names=("blue", "red"), colours=((0, 0, 255), (255, 0, 0)))
    given = {"num_clusters": len(centroids), "cluster_to_class": (RED, 0), "label_space": space} | changes
    model = Segmenter(ModelConfig(backbone=FilterbankConfig(), method=DinoConfig(), **given))
    model.cluster_probe.load_state_dict({"centroids": torch.tensor(centroids)})
    assert model.linear_probe is not None
    weight = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    model.linear_probe.load_state_dict({"weight": weight, "bias": torch.zeros(2)})
    return model.eval()


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Segmenter:
    return red_and_blue_model(monkeypatch, [[1.0, -1.0], [-1.0, 1.0]])


def red_and_blue(folder: Path, name: str, label: np.ndarray | None = None, size: tuple[int, int] = (64, 128)) -> Sample:
    """An image whose left half is red and whose right half is blue, by default at twice the working size."""
    height, width = size
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[:, : width // 2, 0] = pixels[:, width // 2 :, 2] = 255
    Image.fromarray(pixels).save(folder / f"{name}.png")
    if label is None:
        label = np.repeat([[RED] * (width // 2) + [0] * (width // 2)], height, axis=0)
    Image.fromarray(label.astype(np.uint8)).save(folder / f"{name}_label.png")
    return Sample(f"{name}.png", folder / f"{name}.png", folder / f"{name}_label.png")


def dataset(*samples: Sample) -> Dataset:
    return Dataset("halves", "halves", "val", Path(), samples)


def counted(counts: dict[Any, ConfusionMatrix], probe: str) -> list[list[int]]:
    return counts[probe].counts.tolist()


def test_counts_are_of_pixels_at_the_images_own_size_and_rows_of_clusters(tmp_path, model):
    counts = evaluate(model, dataset(red_and_blue(tmp_path, "a")), BOTH, 8, Silence())
    half = 64 * 64
    assert counted(counts, "cluster") == [[0, half], [half, 0]]
    assert counted(counts, "linear") == [[half, 0], [0, half]]
    assert model.config.cluster_to_class == (RED, 0)  # the names are passed over, not lost


def test_only_the_probes_that_are_asked_for_are_counted(tmp_path, model):
    assert set(evaluate(model, dataset(red_and_blue(tmp_path, "a")), Settings(resolution=32), 8, Silence())) == {
        "cluster"
    }


def test_what_is_counted_is_what_is_predicted(tmp_path, model):
    sample = red_and_blue(tmp_path, "a", np.zeros((50, 90)), size=(50, 90))
    counts = evaluate(model, dataset(sample), replace(BOTH, probes=("linear",)), 8, Silence())
    label_map = model.predict(sample.image, probe="linear", resolution=32).label_map
    assert counted(counts, "linear") == [[int((label_map == 0).sum()), 0], [int((label_map == 1).sum()), 0]]


def test_neither_batches_nor_workers_change_a_count(tmp_path, model):
    sizes = [(64, 128), (40, 96), (64, 128), (128, 64), (64, 128)]
    images = dataset(*(red_and_blue(tmp_path, str(i), size=size) for i, size in enumerate(sizes)))
    first, *others = (
        evaluate(model, images, BOTH, batch_size, Silence(), workers=workers)
        for batch_size, workers in ((1, 0), (2, 3), (8, 1))
    )
    assert first["cluster"].counts.sum() == sum(height * width for height, width in sizes)
    for other in others:
        assert all(torch.equal(other[probe].counts, first[probe].counts) for probe in ("cluster", "linear"))


def test_the_paper_compares_at_working_size_within_the_crop(tmp_path, model):
    label = np.repeat([[255] * 32 + [RED] * 32 + [0] * 32 + [RED] * 32], 64, axis=0)  # of 128, the crop has 64 to 192
    settings = replace(BOTH, protocol="paper")
    counts = evaluate(model, dataset(red_and_blue(tmp_path, "a", label)), settings, 8, Silence())
    assert counted(counts, "linear") == [[16 * 32, 0], [0, 16 * 32]]


def test_the_paper_drops_clusters_beyond_the_classes_where_they_otherwise_are_errors(tmp_path, monkeypatch):
    blue = [-1.0, 1.0]
    model = red_and_blue_model(
        monkeypatch, [[1.0, -1.0], [0.9, 1.0], blue], cluster_to_class=(RED, -1, 0), resolution=32
    )
    images = dataset(red_and_blue(tmp_path, "a"))
    native = evaluate(model, images, Settings(), 8, Silence())
    assert counted(native, "cluster") == [[0, 64 * 64], [0, 0], [64 * 64, 0]]
    paper = evaluate(model, images, Settings(protocol="paper", resolution=32), 8, Silence())
    assert counted(paper, "cluster") == [[0, 16 * 32], [0, 0], [0, 0]]
    assert paper["cluster"].extra == "reference"


def test_scores_match_clusters_anew_and_by_their_given_names(tmp_path, model):
    counts = evaluate(model, dataset(red_and_blue(tmp_path, "a")), BOTH, 8, Silence())
    good = score_probes(counts, (RED, 0))
    assert (good["cluster"].miou, good["cluster_named"].miou, good["linear"].miou) == (1.0, 1.0, 1.0)
    swapped = score_probes(counts, torch.tensor([0, 1]))
    assert (swapped["cluster"].miou, swapped["cluster_named"].miou) == (1.0, 0.0)
    assert set(score_probes({"cluster": counts["cluster"]})) == {"cluster"}
    assert set(score_probes({"linear": counts["linear"]}, (RED, 0))) == {"linear"}


def test_unlabelled_pixels_do_not_count(tmp_path, model):
    label = np.full((64, 128), 255)
    label[:8, :8] = RED
    counts = evaluate(model, dataset(red_and_blue(tmp_path, "a", label)), BOTH, 8, Silence())
    assert counted(counts, "linear") == [[0, 0], [0, 64]]


def test_stored_labels_are_read_by_the_code_of_the_dataset(tmp_path, model):
    coded = replace(dataset(red_and_blue(tmp_path, "a")), code=LabelCode((RED, -1)))  # 0 is red, 1 is no class
    assert counted(evaluate(model, coded, BOTH, 8, Silence()), "linear") == [[0, 64 * 64], [0, 0]]


def test_the_crf_has_the_last_word(tmp_path, model, monkeypatch):
    monkeypatch.setattr(segmenter_module, "build_crf", lambda parameters: Upside())
    settings = replace(BOTH, crf=CrfParameters())
    counts = evaluate(model, dataset(red_and_blue(tmp_path, "a")), settings, 8, Silence())
    assert counts["linear"].counts[0].sum() == 0
    assert counts["cluster"].counts[0].sum() == 0


def test_images_without_a_usable_label_map_are_left_out_and_named(tmp_path, model):
    good, wrong = red_and_blue(tmp_path, "a"), red_and_blue(tmp_path, "b", np.zeros((5, 7)))
    unlabelled = replace(red_and_blue(tmp_path, "c"), label=None)
    report = Heard()
    counts = evaluate(model, dataset(good, wrong, unlabelled), BOTH, 8, report)
    assert counts["cluster"].counts.sum() == 64 * 128
    (warning,) = report.warnings
    assert all(words in warning for words in ("b.png was not measured", "5x7"))


def test_an_image_that_is_too_large_for_the_memory_is_named_and_the_rest_is_measured(tmp_path, model, monkeypatch):
    def features(images: torch.Tensor) -> torch.Tensor:
        if len(images) > 2 or images.shape[-1] > 64:  # each image comes with its mirror
            raise torch.OutOfMemoryError("CUDA out of memory")
        return RednessBackbone.features(model.backbone, images)

    monkeypatch.setattr(model.backbone, "features", features)
    samples = [red_and_blue(tmp_path, "wide", size=(32, 96)), *(red_and_blue(tmp_path, str(i)) for i in range(3))]
    report = Heard()
    counts = evaluate(model, dataset(*samples), BOTH, 8, report)
    assert counts["cluster"].counts.sum() == 3 * 64 * 128
    (warning,) = report.warnings
    assert "wide.png was not measured: needs more memory" in warning
    assert any("memory is short" in note for note in report.notes)
