"""Measuring fitted probes against label maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stego_cli.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from stego_cli.data.folder_dataset import LabelledImage
from stego_cli.engine.fit_parts import FitSettings, Probes
from stego_cli.engine.measure import evaluate_probes, score_probes
from stego_cli.probes.cluster import ClusterProbe
from stego_cli.probes.linear import LinearProbe
from stego_cli.progress import Silence

SETTINGS = FitSettings(clusters=2, classes=2, resolution=32)


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

    def refine(self, image, stacks):
        return [np.broadcast_to(np.eye(len(s))[-1][:, None, None], (len(s), *image.shape[:2])).copy() for s in stacks]


@pytest.fixture
def probes() -> Probes:
    """Cluster 0 and class 1 are red; cluster 1 and class 0 are blue."""
    cluster, linear = ClusterProbe(2, 2), LinearProbe(2, 2)
    cluster.load_state_dict({"centroids": torch.tensor([[1.0, -1.0], [-1.0, 1.0]])})
    linear.load_state_dict({"weight": torch.tensor([[0.0, 1.0], [1.0, 0.0]]), "bias": torch.zeros(2)})
    return Probes(cluster, linear, torch.tensor([1, 0]), 1.0)


def red_and_blue(folder: Path, name: str, label: np.ndarray | None = None) -> LabelledImage:
    """An image whose left half is red and whose right half is blue, at twice the working size."""
    pixels = np.zeros((64, 128, 3), dtype=np.uint8)
    pixels[:, :64, 0] = pixels[:, 64:, 2] = 255
    Image.fromarray(pixels).save(folder / f"{name}.png")
    if label is None:
        label = np.repeat([[1] * 64 + [0] * 64], 64, axis=0)
    Image.fromarray(label.astype(np.uint8)).save(folder / f"{name}_label.png")
    return LabelledImage(folder / f"{name}.png", folder / f"{name}_label.png")


def test_counts_are_of_pixels_at_the_images_own_size(tmp_path, probes):
    counts = evaluate_probes(RednessBackbone(), probes, [red_and_blue(tmp_path, "a")], SETTINGS, Silence())
    assert counts["cluster"].counts.tolist() == [[0, 64 * 64], [64 * 64, 0]]
    assert counts["linear"].counts.tolist() == [[64 * 64, 0], [0, 64 * 64]]


def test_scores_match_clusters_anew_and_by_their_given_names(tmp_path, probes):
    counts = evaluate_probes(RednessBackbone(), probes, [red_and_blue(tmp_path, "a")], SETTINGS, Silence())
    good = score_probes(counts, torch.tensor([1, 0]))
    assert (good["cluster"].miou, good["cluster_named"].miou, good["linear"].miou) == (1.0, 1.0, 1.0)
    swapped = score_probes(counts, torch.tensor([0, 1]))
    assert (swapped["cluster"].miou, swapped["cluster_named"].miou) == (1.0, 0.0)
    assert set(score_probes({"cluster": counts["cluster"]}, None)) == {"cluster"}


def test_unlabelled_pixels_do_not_count(tmp_path, probes):
    label = np.full((64, 128), 255)
    label[:8, :8] = 1
    counts = evaluate_probes(RednessBackbone(), probes, [red_and_blue(tmp_path, "a", label)], SETTINGS, Silence())
    assert counts["linear"].counts.tolist() == [[0, 0], [0, 64]]


def test_the_crf_has_the_last_word(tmp_path, probes):
    counts = evaluate_probes(RednessBackbone(), probes, [red_and_blue(tmp_path, "a")], SETTINGS, Silence(), Upside())
    assert counts["linear"].counts[0].sum() == 0
    assert counts["cluster"].counts[0].sum() == 0


def test_images_without_a_usable_label_map_are_left_out_and_named(tmp_path, probes):
    class Listener(Silence):
        warnings: list[str] = []  # noqa: RUF012

        def warn(self, message: str) -> None:
            self.warnings.append(message)

    good, wrong = red_and_blue(tmp_path, "a"), red_and_blue(tmp_path, "b", np.zeros((5, 7)))
    unlabelled = LabelledImage(red_and_blue(tmp_path, "c").path)
    counts = evaluate_probes(RednessBackbone(), probes, [good, wrong, unlabelled], SETTINGS, Listener())
    assert counts["cluster"].counts.sum() == 64 * 128
    assert len(Listener.warnings) == 1
    assert "b.png" in Listener.warnings[0]
    assert "5x7" in Listener.warnings[0]
