"""Which class a cluster stands for. Found once over a whole split; it names clusters and never trains anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from stego_cli.config.words import NameRule

NO_CLASS = -1
"""The class of a cluster that stands for none."""


def classes_of_clusters(counts: Tensor, rule: NameRule) -> Tensor:
    """Say which class each cluster stands for, by a rule.

    Args:
        counts: Shape (K, n); row = cluster, column = class.
        rule: `matched` for `match_clusters`, `majority` for `majority_classes`.

    Returns:
        Shape (K,), int64; -1 for a cluster that stands for none.
    """
    return majority_classes(counts) if rule == "majority" else match_clusters(counts)


def match_clusters(counts: Tensor) -> Tensor:
    """Give each class its own cluster so that as many pixels as possible agree (Hungarian method).

    The STEGO reference inserts the -1 of an unassigned cluster one place too far to the right when assigned clusters
    follow it (see `map_clusters` there). That is a mistake and is not reproduced: it changes colours, never a score.

    Args:
        counts: Shape (K, n); row = cluster, column = class.

    Returns:
        `cluster_to_class`, shape (K,), int64. With more clusters than classes those left over get -1; with fewer,
        some classes go without.

    Example:
        >>> match_clusters(torch.tensor([[1, 9], [8, 7], [0, 1]])).tolist()
        [1, 0, -1]
    """
    from scipy.optimize import linear_sum_assignment  # takes long to import, and only scores need it

    clusters, classes = linear_sum_assignment(counts.cpu().numpy(), maximize=True)
    cluster_to_class = torch.full((counts.shape[0],), NO_CLASS, dtype=torch.int64)
    cluster_to_class[torch.from_numpy(clusters)] = torch.from_numpy(classes)
    return cluster_to_class


def majority_classes(counts: Tensor) -> Tensor:
    """Give each cluster the class that most of its pixels have; several clusters may share one class.

    This many-to-one assignment flatters: with enough clusters every score grows. It is for naming over-segmented
    results, and a score made with it must say so.

    Args:
        counts: Shape (K, n); row = cluster, column = class.

    Returns:
        `cluster_to_class`, shape (K,), int64; a cluster without pixels gets -1, equals go to the lower class id.

    Example:
        >>> majority_classes(torch.tensor([[1, 9], [2, 7], [0, 0]])).tolist()
        [1, 1, -1]
    """
    best = counts.argmax(dim=1)
    return torch.where(counts.sum(dim=1) > 0, best, torch.full_like(best, NO_CLASS)).cpu()
