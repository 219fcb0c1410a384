"""A model without training: cluster what a backbone sees and name the clusters, all in closed stages.

Labels never change the clusters. Where there are some, they fit the linear probe and name the clusters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stego_cli.checkpoints.native import tensors_of
from stego_cli.data import views
from stego_cli.data.labels import IGNORE_LABEL
from stego_cli.engine.pieces import InPieces
from stego_cli.engine.reading import WorkingImage, working_batches
from stego_cli.errors import DeviceError, ImageError, StegoError
from stego_cli.files import printable
from stego_cli.metrics.confusion import ConfusionMatrix
from stego_cli.metrics.matching import classes_of_clusters
from stego_cli.probes.cluster import ClusterProbe
from stego_cli.probes.kmeans import spherical_kmeans
from stego_cli.probes.linear import LinearProbe, fit_linear_probe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stego_cli.backbones.base import Backbone
    from stego_cli.config.words import NameRule
    from stego_cli.data.dataset import Dataset
    from stego_cli.progress import Report

MOST_POINTS = 100_000
MOST_POINTS_PER_IMAGE = 256


@runtime_checkable
class LearnsProjection(Protocol):
    """A backbone that adapts a linear map to the images, without labels, before it is used."""

    def raw_features(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to features (B, R, h, w) before the map."""
        ...

    def fit_projection(self, raw: Tensor) -> None:
        """Set the map from raw features of many positions, shape (N, R)."""
        ...

    def project(self, raw: Tensor) -> Tensor:
        """Map raw features (B, R, h, w) to features (B, C, h, w)."""
        ...


@dataclass(frozen=True)
class FitSettings:
    """How a model is fitted.

    Attributes:
        clusters: Number of clusters K.
        classes: Number of classes n that labels speak of; labels outside 0 .. n - 1 are ignored.
        resolution: Shorter side of the images, in pixels, as the backbone sees them.
        seed: Seed of the sampled positions and of the clustering.
        restarts: Times the clustering starts anew; the tightest result is kept.
        batch_size: Images that go through the backbone together.
        workers: Threads that read ahead.
        device: Where the backbone runs.
        names: By which rule labels name the clusters.
    """

    clusters: int
    classes: int
    resolution: int
    seed: int = 0
    restarts: int = 5
    batch_size: int = 8
    workers: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    names: NameRule = "matched"


@dataclass(frozen=True)
class Points:
    """Sampled positions of many images.

    Attributes:
        features: Shape (N, C).
        labels: Class ids, `IGNORE_LABEL` where there is none, shape (N,).
    """

    features: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Probes:
    """What was fitted to the features.

    Attributes:
        cluster: The cluster probe.
        linear: The linear probe; None without labels.
        cluster_to_class: Class of each cluster or -1, shape (K,), by the labels of the images; None without.
        mean_similarity: Mean cosine of the sampled points to their centroids; needs no label, higher is better.
    """

    cluster: ClusterProbe
    linear: LinearProbe | None
    cluster_to_class: Tensor | None
    mean_similarity: float


@dataclass(frozen=True)
class FitResult:
    """A fitted model.

    Attributes:
        tensors: Every tensor of the model by its name in a checkpoint (`backbone.*`, `cluster_probe.*`, …).
        probes: The fitted probes.
    """

    tensors: dict[str, Tensor]
    probes: Probes


def fit(backbone: Backbone, dataset: Dataset, settings: FitSettings, report: Report) -> FitResult:
    """Fit the cluster probe and, where there are labels, the linear probe to a dataset.

    Args:
        backbone: Frozen; one that `LearnsProjection` gets its projection set here.
        dataset: Images to fit to; label maps are optional.
        settings: How.
        report: Told about progress and about images that were skipped.

    Raises:
        StegoError: If no image can be used, or there are fewer positions than clusters.
    """
    backbone = backbone.eval().to(settings.device)
    probes = fit_probes(extract_features(backbone, dataset, settings, report), settings)
    parts = {"backbone": backbone, "cluster_probe": probes.cluster, "linear_probe": probes.linear}
    return FitResult(tensors_of(parts), probes)


def extract_features(backbone: Backbone, dataset: Dataset, settings: FitSettings, report: Report) -> Points:
    """Sample features and labels at random positions of every image.

    A feature between cell centres is interpolated, exactly as it is when maps are upsampled for a prediction. For a
    backbone that `LearnsProjection`, the projection is fitted to the same positions first.

    Raises:
        StegoError: If no image can be used, or memory does not suffice for a single one.
    """
    per_image = max(1, min(MOST_POINTS_PER_IMAGE, MOST_POINTS // max(len(dataset), 1)))
    samples: dict[int, Points] = {}
    compute = InPieces(partial(_feature_maps, backbone, settings.device), _too_large, report)
    view = partial(views.native_view, resolution=settings.resolution, patch_size=backbone.patch_size)
    doing = "Reading the training images"
    for batch in working_batches(dataset, view, settings.batch_size, settings.workers, report, doing):
        for image, features in zip(batch, compute(batch), strict=True):
            generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + image.index)
            where = torch.rand(per_image, 2, generator=generator)
            samples[image.index] = Points(_features_at(features, where), _labels_at(image, where, report))
    if not samples:
        raise StegoError("no image could be used\n\nhint: see the messages above, or give another folder")
    ordered = [samples[index] for index in sorted(samples)]  # batches come by size, images in their own order
    features = torch.cat([points.features for points in ordered])
    labels = torch.cat([points.labels for points in ordered])
    if isinstance(backbone, LearnsProjection):
        features = _projected(backbone, features, settings.device)
    return Points(features, labels)


def fit_probes(points: Points, settings: FitSettings) -> Probes:
    """Cluster the points; with labels, also fit the linear probe and name the clusters."""
    found = spherical_kmeans(points.features, settings.clusters, settings.seed, restarts=settings.restarts)
    cluster = ClusterProbe(*found.centroids.shape)
    cluster.load_state_dict({"centroids": found.centroids})
    if not bool(((points.labels >= 0) & (points.labels < settings.classes)).any()):
        return Probes(cluster, None, None, found.mean_similarity)
    confusion = ConfusionMatrix(settings.clusters, settings.classes)
    with torch.no_grad():
        products = cluster.inner_products(points.features[:, :, None, None])
    confusion.update(products.argmax(dim=1).flatten(), points.labels)
    linear = fit_linear_probe(points.features, points.labels, settings.classes)
    return Probes(cluster, linear, classes_of_clusters(confusion.counts, settings.names), found.mean_similarity)


@torch.inference_mode()
def _feature_maps(backbone: Backbone, device: torch.device, batch: Sequence[WorkingImage]) -> list[Tensor]:
    """Return the feature map (C, h, w) of each image, before the projection that a backbone may still learn."""
    images = views.normalise(np.stack([image.pixels for image in batch]), backbone.mean, backbone.std).to(device)
    maps = backbone.raw_features(images) if isinstance(backbone, LearnsProjection) else backbone(images)
    return list(maps.float().cpu())


def _too_large(image: WorkingImage) -> Tensor:
    height, width = image.view.size
    raise DeviceError(
        f"there is not enough memory for `{printable(image.name)}` at {height}x{width}, even alone\n\n"
        "hint: try a smaller --res, or another --device"
    )


def _features_at(features: Tensor, where: Tensor) -> Tensor:
    """Interpolate a map (C, h, w) at positions (N, 2), rows and columns in [0, 1), to (N, C)."""
    grid = where.flip(-1)[None, None] * 2 - 1
    values = functional.grid_sample(features[None], grid, padding_mode="border", align_corners=False)
    return values[0, :, 0].T


def _labels_at(image: WorkingImage, where: Tensor, report: Report) -> Tensor:
    """Return the labels at positions (N, 2), rows and columns in [0, 1); `IGNORE_LABEL` without a usable label map."""
    if isinstance(image.labels, ImageError):
        report.warn(f"{printable(image.name)} counts as unlabelled: {image.labels}")
    if not isinstance(image.labels, np.ndarray):
        return torch.full((len(where),), IGNORE_LABEL)
    height, width = image.labels.shape
    return torch.from_numpy(image.labels)[(where[:, 0] * height).long(), (where[:, 1] * width).long()]


def _projected(backbone: LearnsProjection, raw: Tensor, device: torch.device) -> Tensor:
    """Fit the backbone's projection to raw features (N, R) and return them projected, (N, C)."""
    backbone.fit_projection(raw)
    return backbone.project(raw[:, :, None, None].to(device))[:, :, 0, 0].cpu()
