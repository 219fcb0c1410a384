"""A model without training: cluster what a backbone sees, name the clusters and measure, all in closed stages.

Labels never change the clusters. Where there are some, they fit the linear probe, name the clusters and measure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from stego_cli.data.folder_dataset import read_label_map
from stego_cli.data.labels import IGNORE_LABEL
from stego_cli.engine.fit_parts import FitSettings, Probes
from stego_cli.engine.measure import check_label_size, evaluate_probes, score_probes
from stego_cli.engine.reading import WorkingImage, as_tensor, working_batches
from stego_cli.errors import ImageError, StegoError
from stego_cli.metrics.confusion import ConfusionMatrix
from stego_cli.metrics.matching import match_clusters
from stego_cli.probes.cluster import ClusterProbe
from stego_cli.probes.kmeans import spherical_kmeans
from stego_cli.probes.linear import fit_linear_probe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stego_cli.backbones.base import Backbone
    from stego_cli.data.folder_dataset import LabelledImage
    from stego_cli.metrics.scores import Scores
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
class Points:
    """Sampled positions of many images.

    Attributes:
        features: Shape (N, C).
        labels: Class ids, `IGNORE_LABEL` where there is none, shape (N,).
    """

    features: Tensor
    labels: Tensor


@dataclass(frozen=True)
class FitResult:
    """A fitted model, ready to be saved, and how good it is.

    Attributes:
        tensors: Every tensor of the model by its name in a checkpoint (`backbone.*`, `cluster_probe.*`, …).
        probes: The fitted probes.
        alpha: Inverse temperature of the cluster log-probabilities.
        scores: On the validation images, by kind: `cluster` (matched to these images' labels, the usual protocol),
            `cluster_named` (with the names found on the training images), `linear`. Empty without labels.
    """

    tensors: dict[str, Tensor]
    probes: Probes
    alpha: float
    scores: dict[str, Scores]


def fit(
    backbone: Backbone,
    train: Sequence[LabelledImage],
    validation: Sequence[LabelledImage],
    settings: FitSettings,
    report: Report,
) -> FitResult:
    """Fit cluster probe and, where there are labels, linear probe to the training images, and measure both.

    Args:
        backbone: Frozen; one that `LearnsProjection` gets its projection set here.
        train: Images to fit to; label maps are optional.
        validation: Images to measure on; those without a label map are left out.
        settings: How.
        report: Told about progress and about images that were skipped.

    Raises:
        StegoError: If no image can be used, or there are fewer positions than clusters.
    """
    backbone = backbone.eval().to(settings.device)
    points = extract_features(backbone, train, settings, report)
    probes = fit_probes(points, settings)
    scores: dict[str, Scores] = {}
    if any(image.label_path for image in validation):
        counts = evaluate_probes(backbone, probes, validation, settings, report)
        scores = score_probes(counts, probes.cluster_to_class)
    return FitResult(_tensors(backbone, probes), probes, settings.alpha, scores)


@torch.inference_mode()
def extract_features(
    backbone: Backbone, images: Sequence[LabelledImage], settings: FitSettings, report: Report
) -> Points:
    """Sample features and labels at random positions of every image.

    A feature between cell centres is interpolated, exactly as it is when maps are upsampled for a prediction. For a
    backbone that `LearnsProjection`, the projection is fitted to the same positions first.

    Raises:
        StegoError: If no image can be used.
    """
    raw = backbone.raw_features if isinstance(backbone, LearnsProjection) else backbone
    per_image = max(1, min(MOST_POINTS_PER_IMAGE, MOST_POINTS // max(len(images), 1)))
    samples: dict[int, Points] = {}
    batches = working_batches(
        images, backbone.patch_size, settings.resolution, settings.batch_size, report, "Reading the training images"
    )
    for batch in batches:
        maps = raw(as_tensor(batch, backbone, settings.device)).float().cpu()
        for image, features in zip(batch, maps, strict=True):
            generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + image.index)
            where = torch.rand(per_image, 2, generator=generator)
            samples[image.index] = Points(_features_at(features, where), _labels_at(image, where, report))
    if not samples:
        raise StegoError("no image could be used\n\nhint: see the messages above, or give another folder")
    ordered = [samples[index] for index in sorted(samples)]  # batches come by size, images in their own order
    features = torch.cat([points.features for points in ordered])
    labels = torch.cat([points.labels for points in ordered])
    return Points(_projected(backbone, features) if isinstance(backbone, LearnsProjection) else features, labels)


def fit_probes(points: Points, settings: FitSettings) -> Probes:
    """Cluster the points; with labels, also fit the linear probe and match the clusters to classes."""
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
    return Probes(cluster, linear, match_clusters(confusion.counts), found.mean_similarity)


def _features_at(features: Tensor, where: Tensor) -> Tensor:
    """Interpolate a map (C, h, w) at positions (N, 2), rows and columns in [0, 1), to (N, C)."""
    grid = where.flip(-1)[None, None] * 2 - 1
    values = functional.grid_sample(features[None], grid, padding_mode="border", align_corners=False)
    return values[0, :, 0].T


def _labels_at(image: WorkingImage, where: Tensor, report: Report) -> Tensor:
    """Return the labels at positions (N, 2), rows and columns in [0, 1); `IGNORE_LABEL` without a usable label map."""
    missing = torch.full((len(where),), IGNORE_LABEL)
    if image.source.label_path is None:
        return missing
    try:
        labels = read_label_map(image.source.label_path)
        check_label_size(labels, image)
    except ImageError as error:
        report.warn(f"{image.source.path.name} counts as unlabelled: {error}")
        return missing
    height, width = labels.shape
    return torch.from_numpy(labels)[(where[:, 0] * height).long(), (where[:, 1] * width).long()]


def _projected(backbone: LearnsProjection, raw: Tensor) -> Tensor:
    """Fit the backbone's projection to raw features (N, R) and return them projected, (N, C)."""
    backbone.fit_projection(raw)
    return backbone.project(raw[:, :, None, None])[:, :, 0, 0]


def _tensors(backbone: Backbone, probes: Probes) -> dict[str, Tensor]:
    """Return every tensor of the model by its name in a checkpoint."""
    parts = {"backbone": backbone, "cluster_probe": probes.cluster, "linear_probe": probes.linear}
    return {
        f"{part}.{name}": tensor.detach().cpu()
        for part, module in parts.items()
        if module is not None
        for name, tensor in module.state_dict().items()
    }
