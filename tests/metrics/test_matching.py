"""Clusters and the classes they stand for."""

from __future__ import annotations

from itertools import permutations

import torch

from stego_cli.metrics.confusion import ConfusionMatrix
from stego_cli.metrics.matching import majority_classes, match_clusters
from stego_cli.metrics.scores import score


def test_matching_undoes_any_relabelling():
    labels = torch.randint(5, (2, 16, 16), generator=torch.Generator().manual_seed(0))
    relabel = torch.tensor([3, 0, 4, 1, 2])
    confusion = ConfusionMatrix(5, 5)
    confusion.update(relabel[labels], labels)
    matched = match_clusters(confusion.counts)
    assert torch.equal(matched[relabel], torch.arange(5))
    assert score(confusion.counts, matched).miou == 1.0


def test_no_other_one_to_one_assignment_agrees_in_more_pixels():
    generator = torch.Generator().manual_seed(7)
    for _ in range(20):
        counts = torch.randint(100, (4, 4), generator=generator)
        matched = match_clusters(counts)
        best = max(
            sum(int(counts[row, column]) for row, column in enumerate(order)) for order in permutations(range(4))
        )
        assert int(counts[torch.arange(4), matched].sum()) == best


def test_clusters_left_over_get_no_class():
    matched = match_clusters(torch.tensor([[5, 0], [4, 4], [0, 9]]))
    assert matched.tolist() == [0, -1, 1]


def test_fewer_clusters_than_classes():
    assert match_clusters(torch.tensor([[0, 5, 1]])).tolist() == [1]


def test_majority_lets_clusters_share_a_class():
    counts = torch.tensor([[9, 1], [8, 2], [0, 3], [0, 0]])
    assert majority_classes(counts).tolist() == [0, 0, 1, -1]


def test_majority_agrees_in_at_least_as_many_pixels_as_the_matching():
    generator = torch.Generator().manual_seed(3)
    counts = torch.randint(1, 50, (9, 4), generator=generator)
    assert score(counts, majority_classes(counts)).accuracy >= score(counts, match_clusters(counts)).accuracy
