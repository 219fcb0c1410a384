"""What a fit is asked for and what it finds, shared by fitting and measuring."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from stego_cli.probes.cluster import ClusterProbe
    from stego_cli.probes.linear import LinearProbe


@dataclass(frozen=True)
class FitSettings:
    """How a model is fitted.

    Attributes:
        clusters: Number of clusters K.
        classes: Number of classes n that labels speak of; labels outside 0 .. n - 1 are ignored.
        resolution: Shorter side of the images, in pixels, as the backbone sees them.
        alpha: Inverse temperature of the cluster log-probabilities.
        seed: Seed of the sampled positions and of the clustering.
        restarts: Times the clustering starts anew; the tightest result is kept.
        batch_size: Images that go through the backbone together.
        mirror: When measuring, average the code over the image and its mirror, as predictions do.
        device: Where the backbone runs.
    """

    clusters: int
    classes: int
    resolution: int
    alpha: float = 2.0
    seed: int = 0
    restarts: int = 5
    batch_size: int = 8
    mirror: bool = True
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass(frozen=True)
class Probes:
    """What was fitted to the features.

    Attributes:
        cluster: The cluster probe.
        linear: The linear probe; None without labels.
        cluster_to_class: Class of each cluster or -1, shape (K,), by the labels of the training images; None without.
        mean_similarity: Mean cosine of the sampled points to their centroids; needs no label, higher is better.
    """

    cluster: ClusterProbe
    linear: LinearProbe | None
    cluster_to_class: Tensor | None
    mean_similarity: float
