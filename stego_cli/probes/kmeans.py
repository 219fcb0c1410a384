"""Spherical k-means: clusters of directions, the fit behind a cluster probe that is not trained by gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from stego_cli.errors import StegoError


@dataclass(frozen=True)
class KMeansResult:
    """What a run of spherical k-means found.

    Attributes:
        centroids: Unit vectors, shape (K, D).
        mean_similarity: Mean cosine of the points to their centroids, in [-1, 1]; the objective, higher is better.
    """

    centroids: Tensor
    mean_similarity: float


def spherical_kmeans(
    codes: Tensor, clusters: int, seed: int, *, restarts: int = 10, iterations: int = 100
) -> KMeansResult:
    """Cluster directions by cosine similarity (Dhillon & Modha, Machine Learning 2001) and keep the best restart.

    Each restart is seeded in the manner of k-means++ (Arthur & Vassilvitskii, SODA 2007) and stops when no point
    changes its cluster. A cluster that loses all its points restarts at the point that fits its own cluster worst.
    The same codes, seed and number of threads give the same centroids.

    Args:
        codes: Points of shape (N, D); only their directions count.
        clusters: Number of clusters K.
        seed: Seed of all random choices.
        restarts: Independent runs, of which the one with the highest mean similarity is kept.
        iterations: Most rounds of assignment and update in one run.

    Raises:
        StegoError: If there are fewer points than clusters, or a code is not a finite number.
    """
    if len(codes) < clusters:
        raise StegoError(
            f"{len(codes)} points for {clusters} clusters: each cluster needs at least one point\n\n"
            "hint: give more or larger images, or ask for fewer clusters"
        )
    if not bool(torch.isfinite(codes).all()):
        raise StegoError("some codes are not finite numbers\n\nhint: check the images and weights they come from")
    points = functional.normalize(codes.float(), dim=1)
    generator = torch.Generator().manual_seed(seed)
    runs = (_run(points, _seed_centroids(points, clusters, generator), iterations) for _ in range(max(restarts, 1)))
    return max(runs, key=lambda run: run.mean_similarity)


def _seed_centroids(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """Draw K of the unit vectors (N, D), each with a chance that grows with its distance to those already drawn."""
    first = int(torch.randint(len(points), (1,), generator=generator))
    chosen = [first]
    distance = 1 - points @ points[first]
    for _ in range(1, clusters):
        weights = distance.clamp(min=0).double().cpu()
        if float(weights.sum()) <= 0:  # all points lie on the chosen ones; any other will do
            weights = torch.ones_like(weights)
        target = torch.rand(1, generator=generator, dtype=torch.float64) * weights.sum()
        # Not torch.multinomial: it refuses more than 2^24 points.
        index = min(int(torch.searchsorted(weights.cumsum(0), target, right=True)), len(points) - 1)
        chosen.append(index)
        distance = torch.minimum(distance, 1 - points @ points[index])
    return points[chosen]


def _run(points: Tensor, centroids: Tensor, iterations: int) -> KMeansResult:
    """Alternate assignment and update from the given centroids."""
    previous: Tensor | None = None
    for _ in range(iterations):
        similarity, assignment = (points @ centroids.T).max(dim=1)
        if previous is not None and torch.equal(assignment, previous):
            break
        previous = assignment
        centroids = _update(points, similarity, assignment, len(centroids))
    return KMeansResult(centroids, float((points @ centroids.T).amax(dim=1).double().mean()))


def _update(points: Tensor, similarity: Tensor, assignment: Tensor, clusters: int) -> Tensor:
    """Return the mean direction of each cluster; empty ones take the worst fitting points."""
    members = functional.one_hot(assignment, clusters).to(points.dtype)
    centroids = functional.normalize(members.T @ points, dim=1)
    empty = (members.sum(dim=0) == 0).nonzero().flatten()
    if len(empty):
        centroids[empty] = points[similarity.argsort(stable=True)[: len(empty)]]
    return centroids
