"""Nearest neighbours by FAISS' inverted lists or its graph: most of the true ones, without comparing all pairs.

How hard an index looks is raised until it finds enough of the true neighbours of a sample; the recall that was
measured is returned. FAISS only proposes: similarities and order come from the vectors themselves, as in the exact
search.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stego_cli.neighbors import exact, kernels
from stego_cli.neighbors.exact import NOBODY, Lists

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from stego_cli.progress import Report

SAMPLE = 1000
AIM = 0.97
"""Recall on the sample at which the search for a setting ends: a little above `LEAST`, as a sample may be lucky."""

LEAST = 0.95
"""Below this recall there is a warning."""

_BLOCK = 8192  # images between two steps of the progress
_TRAINING_ROUNDS = 10
_TRAINING_SHARE = 64  # vectors that k-means looks at for each list
_SMALLEST_LIST = 39  # FAISS' own advice; shorter lists would be found by chance
_LINKS = 32
_BUILD_EFFORT = 80
_MOST_EFFORT = 4096


@dataclass(frozen=True)
class _Index:
    """A FAISS index and its dial: `set_effort` says how hard it looks, `efforts` what is worth trying, in order."""

    faiss_index: Any
    set_effort: Callable[[int], None]
    efforts: tuple[int, ...]


def nearly_nearest(
    vectors: NDArray[np.float32], count: int, kind: Literal["ivf", "hnsw"], report: Report, seed: int, threads: int
) -> tuple[Lists, float]:
    """Find most of the `count` nearest others of every vector.

    Args:
        vectors: Shape (N, C), finite, in one piece; compared by inner product.
        count: Length of the lists, 1 to N - 1.
        kind: Inverted lists or graph.
        report: Told about progress, and warned if the recall stays below `LEAST`.
        seed: For k-means, the levels of the graph and the sample.
        threads: How many to use.

    Returns:
        Lists of N rows, every one of them full, and the recall on up to `SAMPLE` images: the share of the true
        neighbours that were found. A neighbour exactly as similar as the last true one counts as true.
    """
    random = np.random.default_rng(seed)
    sample = np.sort(random.choice(len(vectors), min(SAMPLE, len(vectors)), replace=False))
    truth = exact.nearest_of(vectors, sample, count, threads)
    with _faiss(threads) as faiss:
        index = _ivf(faiss, vectors, seed) if kind == "ivf" else _hnsw(faiss, vectors, count, seed)
        for block in report.track(_blocks(len(vectors)), f"Building the {kind} index", -(-len(vectors) // _BLOCK)):
            index.faiss_index.add(vectors[block])
        recall = 0.0
        for effort in index.efforts:
            index.set_effort(effort)
            recall = _recall(_look_up(index, vectors, sample, count), truth)
            if recall >= AIM:
                break
        lists = Lists.empty(len(vectors), count)
        for block in report.track(_blocks(len(vectors)), "Looking up neighbours", -(-len(vectors) // _BLOCK)):
            found = _look_up(index, vectors, np.arange(len(vectors))[block], count)
            lists.values[block], lists.ids[block] = found.values, found.ids
    _fill_up(lists, vectors, threads)
    if recall < LEAST:
        report.warn(f"the {kind} index finds {recall:.1%} of the neighbours; --index flat finds all")
    return lists, recall


def _blocks(count: int) -> list[slice]:
    return [slice(begin, begin + _BLOCK) for begin in range(0, count, _BLOCK)]


@contextmanager
def _faiss(threads: int) -> Iterator[Any]:
    """Import FAISS and let it use this many threads inside the block.

    Its wheel brings an OpenMP runtime of its own beside that of PyTorch. On Linux and Windows the two keep apart. On
    macOS the second one ends the process, or crashes once both start threads (faiss-wheels issue 73), so there it is
    let in and kept to one thread.
    """
    if sys.platform == "darwin":
        os.environ.setdefault("KMP_DUPLICATE_LIB_OK", "TRUE")
        threads = 1
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        yield faiss
    finally:
        faiss.omp_set_num_threads(before)


def _ivf(faiss: Any, vectors: NDArray[np.float32], seed: int) -> _Index:
    """Return 4 sqrt(N) inverted lists, trained and empty: choosing some then costs about as much as reading them."""
    lists = max(1, min(round(4 * len(vectors) ** 0.5), len(vectors) // _SMALLEST_LIST))
    quantizer = faiss.IndexFlatIP(vectors.shape[1])
    index = faiss.IndexIVFFlat(quantizer, vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.niter, index.cp.spherical = seed, _TRAINING_ROUNDS, True
    index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = _TRAINING_SHARE, 1
    index.train(vectors)

    def set_effort(probes: int) -> None:
        index.nprobe = probes

    return _Index(index, set_effort, (*_doubling(2, lists), lists))


def _hnsw(faiss: Any, vectors: NDArray[np.float32], count: int, seed: int) -> _Index:
    """Return an empty graph."""
    index = faiss.IndexHNSWFlat(vectors.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _BUILD_EFFORT
    index.hnsw.rng = faiss.RandomGenerator(seed)

    def set_effort(breadth: int) -> None:
        index.hnsw.efSearch = breadth

    return _Index(index, set_effort, _doubling(2 * (count + 1), _MOST_EFFORT))


def _doubling(first: int, end: int) -> tuple[int, ...]:
    """Return `first` and its doubles below `end`; at least one number.

    Example:
        >>> _doubling(3, 20)
        (3, 6, 12)
    """
    efforts = [first]
    while efforts[-1] * 2 < end:
        efforts.append(efforts[-1] * 2)
    return tuple(efforts)


def _look_up(index: _Index, vectors: NDArray[np.float32], owners: NDArray[np.int64], count: int) -> Lists:
    """Ask for the neighbours of some images, who are among the answers, and rank what comes back."""
    _, candidates = index.faiss_index.search(vectors[owners], count + 1)
    lists = Lists.empty(len(owners), count)
    kernels.rank(candidates, vectors, owners, lists.values, lists.ids)
    return lists


def _recall(found: Lists, truth: Lists) -> float:
    """Return the share of true neighbours that were found."""
    return float((found.values >= truth.values[:, -1:]).mean())


def _fill_up(lists: Lists, vectors: NDArray[np.float32], threads: int) -> None:
    """Compare with all others the images for which too few were proposed."""
    short = np.flatnonzero(lists.ids[:, -1] == NOBODY)
    if len(short):
        full = exact.nearest_of(vectors, short, lists.ids.shape[1], threads)
        lists.values[short], lists.ids[short] = full.values, full.ids
