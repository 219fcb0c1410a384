"""Spherical k-means: it finds directions, keeps the best restart, and is the same every time."""

from __future__ import annotations

import pytest
import torch

from stego_cli.errors import StegoError
from stego_cli.probes.kmeans import spherical_kmeans


def bundles(count: int, dim: int, per_bundle: int, spread: float = 0.05) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of random length around orthogonal directions, and the direction each belongs to."""
    generator = torch.Generator().manual_seed(0)
    member = torch.arange(count).repeat(per_bundle)
    directions = torch.eye(count, dim)[member] + spread * torch.randn(len(member), dim, generator=generator)
    return directions * (0.1 + 10 * torch.rand(len(member), 1, generator=generator)), member


def assign(points: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    return (points @ centroids.T).argmax(dim=1)


def test_separate_directions_are_found_whatever_the_lengths():
    points, member = bundles(6, 8, 50)
    result = spherical_kmeans(points, 6, seed=3)
    clusters = assign(points, result.centroids)
    pairs = {(int(cluster), int(bundle)) for cluster, bundle in zip(clusters, member, strict=True)}
    assert len(pairs) == 6
    assert result.mean_similarity > 0.97


def test_centroids_are_unit_vectors_and_similarity_is_what_it_says():
    points = torch.randn(300, 5, generator=torch.Generator().manual_seed(1))
    result = spherical_kmeans(points, 7, seed=0)
    torch.testing.assert_close(result.centroids.norm(dim=1), torch.ones(7))
    cosines = torch.nn.functional.normalize(points, dim=1) @ result.centroids.T
    assert result.mean_similarity == pytest.approx(cosines.amax(dim=1).mean().item(), abs=1e-6)


def test_a_converged_centroid_is_the_mean_direction_of_its_members():
    points = torch.nn.functional.normalize(torch.randn(400, 3, generator=torch.Generator().manual_seed(2)), dim=1)
    result = spherical_kmeans(points, 4, seed=0, iterations=1000)
    members = assign(points, result.centroids)
    for cluster in range(4):
        mean = torch.nn.functional.normalize(points[members == cluster].sum(dim=0), dim=0)
        torch.testing.assert_close(result.centroids[cluster], mean, atol=1e-5, rtol=0)


def test_the_best_restart_is_kept():
    points = torch.randn(500, 6, generator=torch.Generator().manual_seed(5))
    # Restarts draw from one generator in turn, so the runs with fewer are the beginnings of those with more.
    best = [spherical_kmeans(points, 9, seed=1, restarts=n, iterations=5).mean_similarity for n in range(1, 9)]
    assert best == sorted(best)
    assert best[0] < best[-1]
    assert len(set(best)) < 8  # some restarts were worse, and were not kept


def test_the_seed_decides_everything():
    points = torch.randn(500, 6, generator=torch.Generator().manual_seed(5))
    first, again, other = (spherical_kmeans(points, 9, seed=seed, restarts=2) for seed in (1, 1, 2))
    assert torch.equal(first.centroids, again.centroids)
    assert not torch.equal(first.centroids, other.centroids)


def test_equal_points_still_give_as_many_finite_centroids_as_asked_for():
    result = spherical_kmeans(torch.ones(20, 4), 5, seed=0)
    assert result.centroids.shape == (5, 4)
    assert bool(torch.isfinite(result.centroids).all())
    assert result.mean_similarity == pytest.approx(1.0)


def test_an_empty_cluster_starts_again_at_the_worst_fitting_point():
    """Nine copies of one direction and one of the opposite: seeding alone may miss it, reseeding may not."""
    points = torch.cat([torch.tensor([[1.0, 0.0]]).repeat(9, 1), torch.tensor([[-1.0, 0.0]])])
    for seed in range(5):
        assert spherical_kmeans(points, 3, seed=seed, restarts=1).mean_similarity == pytest.approx(1.0)


def test_zero_vectors_do_no_harm():
    points = torch.cat([bundles(3, 4, 20)[0], torch.zeros(5, 4)])
    assert bool(torch.isfinite(spherical_kmeans(points, 3, seed=0).centroids).all())


def test_fewer_points_than_clusters_is_said_in_words():
    with pytest.raises(StegoError, match="3 points for 4 clusters"):
        spherical_kmeans(torch.randn(3, 2), 4, seed=0)


def test_numbers_that_are_not_finite_are_refused():
    points = torch.randn(10, 2)
    points[4, 1] = float("nan")
    with pytest.raises(StegoError, match="not finite"):
        spherical_kmeans(points, 2, seed=0)
