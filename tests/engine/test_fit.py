"""Fitting a model to a folder: clusters without labels, names and a linear probe with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stego_cli.backbones.base import Backbone
from stego_cli.backbones.filterbank import Filterbank
from stego_cli.data.dataset import Dataset, Sample
from stego_cli.engine.fit import FitResult, FitSettings, Points, Probes, extract_features, fit, fit_probes
from stego_cli.errors import DeviceError, StegoError
from stego_cli.progress import Silence
from support import Heard

COLOURS = np.array([[60, 120, 230], [40, 160, 60], [120, 60, 40]], dtype=np.uint8)
SETTINGS = FitSettings(clusters=3, classes=3, resolution=64, restarts=3, batch_size=2)


class ColourBackbone(Backbone):
    """Mean colour of each cell, the simplest backbone there is."""

    patch_size = 8
    channels = 3

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images, 8)


def make_images(folder: Path, count: int, *, labels: bool = True, size: tuple[int, int] = (64, 96)) -> Dataset:
    """Images of three flat bands whose borders move; the label of a band is its place from the top."""
    rng = np.random.default_rng(count)
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for index in range(count):
        height, width = size
        borders = np.sort(rng.choice(np.arange(8, height - 8, 8), 2, replace=False))
        label = np.repeat(np.searchsorted(borders, np.arange(height), side="right")[:, None], width, axis=1)
        noise = rng.integers(-9, 10, (height, width, 3))
        image, label_path = folder / f"{index}.png", folder / f"{index}_label.png"
        Image.fromarray((COLOURS[label] + noise).clip(0, 255).astype(np.uint8)).save(image)
        Image.fromarray(label.astype(np.uint8)).save(label_path)
        samples.append(Sample(image.name, image, label_path if labels else None))
    return Dataset("bands", "bands", "train", folder, tuple(samples))


def run(dataset: Dataset, backbone: Backbone | None = None) -> FitResult:
    return fit(backbone or ColourBackbone(), dataset, SETTINGS, Silence())


def agreement(probes: Probes, points: Points) -> float:
    """Return the share of points whose cluster has the name of their label."""
    assert probes.cluster_to_class is not None
    clusters = probes.cluster.inner_products(points.features[:, :, None, None]).argmax(1).flatten()
    return float((probes.cluster_to_class[clusters] == points.labels).float().mean())


def test_bands_of_colour_are_found_and_named(tmp_path):
    probes = run(make_images(tmp_path / "train", 5)).probes
    unseen = extract_features(ColourBackbone(), make_images(tmp_path / "val", 2), SETTINGS, Silence())
    assert sorted(probes.cluster_to_class.tolist()) == [0, 1, 2]
    assert agreement(probes, unseen) > 0.95
    said = probes.linear.logits(unseen.features[:, :, None, None]).argmax(1).flatten()
    assert (said == unseen.labels).float().mean() > 0.95


def test_labels_never_change_the_clusters(tmp_path):
    with_labels = run(make_images(tmp_path, 4))
    without = run(make_images(tmp_path, 4, labels=False))
    assert torch.equal(with_labels.probes.cluster.centroids, without.probes.cluster.centroids)
    assert without.probes.linear is None
    assert without.probes.cluster_to_class is None


def test_the_same_seed_gives_the_same_model_and_the_batch_size_does_not_matter(tmp_path):
    wide, tall = make_images(tmp_path / "wide", 3), make_images(tmp_path / "tall", 3, size=(96, 64))
    images = replace(wide, samples=wide.samples + tall.samples)
    one, again = run(images), run(images)
    assert torch.equal(one.probes.cluster.centroids, again.probes.cluster.centroids)
    single = extract_features(ColourBackbone(), images, FitSettings(3, 3, 64, batch_size=1), Silence())
    many = extract_features(ColourBackbone(), images, FitSettings(3, 3, 64, batch_size=8, workers=3), Silence())
    torch.testing.assert_close(single.features, many.features)
    assert torch.equal(single.labels, many.labels)


def test_tensors_carry_the_names_of_a_checkpoint(tmp_path):
    tensors = run(make_images(tmp_path, 3), Filterbank()).tensors
    assert set(tensors) == {
        "backbone.projection", "backbone.offset", "cluster_probe.centroids", "linear_probe.weight", "linear_probe.bias",
    }  # fmt: skip
    assert tensors["cluster_probe.centroids"].shape == (3, Filterbank().channels)


def test_a_backbone_that_learns_a_projection_is_used_with_it(tmp_path):
    backbone = Filterbank()
    images = make_images(tmp_path, 3)
    points = extract_features(backbone, images, SETTINGS, Silence())
    assert not torch.equal(backbone.projection, Filterbank().projection)
    # The projection is affine, so points of projected maps are projected points of maps.
    again = extract_features(_Projected(backbone), images, SETTINGS, Silence())
    torch.testing.assert_close(points.features, again.features, atol=1e-3, rtol=1e-3)


class _Projected(Backbone):
    """A fitted filterbank behind the plain interface, which has nothing left to learn."""

    patch_size = 8

    def __init__(self, fitted: Filterbank) -> None:
        super().__init__()
        self.fitted = fitted
        self.channels = fitted.channels

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.fitted.features(images)


class _Small(ColourBackbone):
    """A backbone whose memory takes `room` images at once."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def features(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().features(images)


def test_memory_that_runs_out_halves_the_batch_and_changes_nothing(tmp_path):
    images, report = make_images(tmp_path, 5), Heard()
    settings = replace(SETTINGS, batch_size=4)
    points = extract_features(_Small(1), images, settings, report)
    torch.testing.assert_close(points.features, extract_features(ColourBackbone(), images, settings, report).features)
    assert report.notes == [
        "memory is short: going on with batches of 2",
        "memory is short: going on with batches of 1",
    ]
    with pytest.raises(DeviceError, match=r"`0.png` at 64x96, even alone\n\nhint: try a smaller --res"):
        extract_features(_Small(0), images, settings, report)


def test_a_broken_image_is_named_and_the_rest_is_used(tmp_path):
    images = make_images(tmp_path, 3)
    images.samples[1].image.write_bytes(b"")
    report = Heard()
    result = fit(ColourBackbone(), images, SETTINGS, report)
    assert result.probes.linear is not None
    assert len(report.warnings) == 1
    assert "1.png" in report.warnings[0]


def test_a_label_map_of_another_size_counts_as_none(tmp_path):
    images = make_images(tmp_path, 3)
    assert images.samples[0].label is not None
    Image.new("L", (10, 10)).save(images.samples[0].label)
    report = Heard()
    points = extract_features(ColourBackbone(), images, SETTINGS, report)
    per_image = len(points.labels) // 3
    assert bool((points.labels[:per_image] == -1).all())
    assert bool((points.labels[per_image:] >= 0).all())
    assert "10x10" in report.warnings[0]


def test_points_and_labels_belong_together(tmp_path):
    points = extract_features(ColourBackbone(), make_images(tmp_path, 4), SETTINGS, Silence())
    means = torch.stack([points.features[points.labels == label].mean(dim=0) for label in range(3)])
    nearest = torch.cdist(points.features, means).argmin(dim=1)
    assert (nearest == points.labels).float().mean() > 0.9


def test_no_usable_image_is_said_in_words(tmp_path):
    images = make_images(tmp_path, 1)
    images.samples[0].image.write_text("no image")
    with pytest.raises(StegoError, match="no image could be used"):
        fit(ColourBackbone(), images, SETTINGS, Silence())


def test_more_clusters_than_classes_leaves_some_without_a_name():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(2).repeat(100)
    features = torch.eye(2, 4)[labels] + 0.5 * torch.randn(200, 4, generator=generator)
    probes = fit_probes(Points(features, labels), FitSettings(clusters=5, classes=2, resolution=64))
    assert probes.cluster_to_class is not None
    assert sorted(probes.cluster_to_class.tolist()) == [-1, -1, -1, 0, 1]


def test_majority_names_every_cluster_with_labels_and_may_repeat_a_name():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(2).repeat(100)
    features = torch.eye(2, 4)[labels] + 0.5 * torch.randn(200, 4, generator=generator)
    settings = FitSettings(clusters=5, classes=2, resolution=64, names="majority")
    probes = fit_probes(Points(features, labels), settings)
    assert probes.cluster_to_class is not None
    assigned = probes.cluster.inner_products(features[:, :, None, None]).argmax(dim=1).flatten()
    by_hand = [int(torch.bincount(labels[assigned == cluster], minlength=2).argmax()) for cluster in range(5)]
    assert probes.cluster_to_class.tolist() == by_hand
    assert set(by_hand) == {0, 1}
