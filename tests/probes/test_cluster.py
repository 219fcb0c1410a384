"""The cluster probe: directions count, lengths do not."""

from __future__ import annotations

import math

import pytest
import torch

from stego_cli.probes.cluster import ClusterProbe


def probe_of(rows: list[list[float]]) -> ClusterProbe:
    probe = ClusterProbe(len(rows), len(rows[0]))
    probe.load_state_dict({"centroids": torch.tensor(rows)})
    return probe


def code_of(*vectors: list[float]) -> torch.Tensor:
    """One image of height 1 whose columns are the vectors."""
    return torch.tensor(vectors).T[None, :, None, :]


def test_inner_products_are_cosines():
    probe = probe_of([[2.0, 0.0], [0.0, 0.5]])
    products = probe.inner_products(code_of([3.0, 4.0]))
    torch.testing.assert_close(products.flatten(), torch.tensor([0.6, 0.8]))


def test_lengths_of_code_and_centroids_do_not_matter():
    probe, code = ClusterProbe(4, 5), torch.randn(2, 5, 3, 3)
    before = probe.inner_products(code)
    with torch.no_grad():
        probe.centroids.mul_(7)
    torch.testing.assert_close(probe.inner_products(code * 0.01), before)


def test_a_zero_code_is_equally_far_from_every_cluster():
    probe = ClusterProbe(3, 4)
    assert torch.equal(probe.inner_products(torch.zeros(1, 4, 1, 1)), torch.zeros(1, 3, 1, 1))
    torch.testing.assert_close(probe.probs(torch.zeros(1, 4, 1, 1), 5.0), torch.full((1, 3, 1, 1), 1 / 3))


def test_a_hard_assignment_takes_the_first_of_equals():
    probe = probe_of([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    assert probe.probs(code_of([1.0, 0.0])).flatten().tolist() == [0.0, 1.0, 0.0]


def test_soft_probabilities_by_hand():
    probe = probe_of([[1.0, 0.0], [0.0, 1.0]])
    expected = 1 / (1 + math.exp(-3.0))
    assert probe.probs(code_of([1.0, 0.0]), 3.0)[0, 0].item() == pytest.approx(expected)
    assert probe.log_probs(code_of([1.0, 0.0]), 3.0)[0, 0].item() == pytest.approx(math.log(expected))


def test_loss_is_minus_the_mean_similarity_to_the_best_cluster():
    probe = probe_of([[1.0, 0.0], [0.0, 1.0]])
    assert probe.loss(code_of([3.0, 4.0], [1.0, 0.0])).item() == pytest.approx(-(0.8 + 1.0) / 2)


def test_the_hard_loss_moves_only_clusters_that_have_members():
    probe = probe_of([[1.0, 0.2], [-1.0, 0.0]])
    probe.loss(code_of([1.0, 0.0])).backward()
    assert probe.centroids.grad is not None
    assert probe.centroids.grad[0].abs().sum() > 0
    assert probe.centroids.grad[1].abs().sum() == 0
