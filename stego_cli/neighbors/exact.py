"""The exact nearest neighbours of every image: blocked matrix products, half of them saved by symmetry.

The similarity of a pair is computed once and offered to both. Products come in tiles, so that memory does not grow
with the square of the number of images. A tile only sifts: what may belong into a list is computed again in float64,
so the result is that of exact arithmetic rounded to float32, whatever the tiles and the number of threads.

This is done here and not by FAISS' flat index, which computes every pair twice and takes two to three times as long;
`tests/bench/bench_neighbors.py` measures it.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from stego_cli.neighbors import kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from stego_cli.progress import Report

T = TypeVar("T")

TILE = 1024
"""Rows and columns of a tile: 4 MiB of similarities, which stay in the processor's cache, for each thread."""

NOBODY = np.iinfo(np.int64).max  # stands at the end of a list that is not full; any candidate goes before it


@dataclass(frozen=True)
class Lists:
    """The nearest others of some images.

    Attributes:
        values: Similarities, shape (n, m) float32, decreasing; -inf where there are fewer than m others.
        ids: Beside them the images, int64; equal similarities in the order of ids.
    """

    values: NDArray[np.float32]
    ids: NDArray[np.int64]

    @classmethod
    def empty(cls, rows: int, count: int) -> Lists:
        """Return lists that everything may enter."""
        return cls(np.full((rows, count), -np.inf, np.float32), np.full((rows, count), NOBODY, np.int64))

    def part(self, begin: int, end: int) -> Lists:
        """Return a view of some rows."""
        return Lists(self.values[begin:end], self.ids[begin:end])


def nearest(vectors: NDArray[np.float32], count: int, report: Report, threads: int) -> Lists:
    """Find the `count` nearest others of every vector.

    Args:
        vectors: Shape (N, C), finite, in one piece; compared by inner product.
        count: Length of the lists, 1 to N - 1.
        report: Told how far the search is.
        threads: How many to use.

    Returns:
        Lists of N rows. Memory beyond them: a tile for each thread.
    """
    lists = Lists.empty(len(vectors), count)
    table, slack = torch.from_numpy(vectors), _slack(vectors)
    locks = [Lock() for _ in range(0, len(vectors), TILE)]  # one for the lists of each block of vectors

    def compare(corner: tuple[int, int]) -> None:
        top, left = corner
        tile = torch.mm(table[top : top + TILE], table[left : left + TILE].T).numpy()
        own = lists.part(top, top + TILE)
        with locks[top // TILE]:
            owners = np.arange(top, top + len(tile))
            kernels.update_rows(tile, vectors, owners, left, slack, (own.values, own.ids))
        if left != top:
            theirs = lists.part(left, left + TILE)
            with locks[left // TILE]:
                kernels.update_columns(tile, vectors, corner, slack, (theirs.values, theirs.ids))

    blocks = range(0, len(vectors), TILE)
    corners = [(top, left) for top in blocks for left in blocks if left >= top]
    _for_each(report.track(corners, "Comparing images", total=len(corners)), compare, threads)
    return lists


def nearest_of(vectors: NDArray[np.float32], rows: NDArray[np.int64], count: int, threads: int) -> Lists:
    """Find the `count` nearest others of the vectors that `rows` names; otherwise as `nearest`."""
    lists = Lists.empty(len(rows), count)
    table, slack = torch.from_numpy(vectors), _slack(vectors)
    step = max(1, min(TILE, -(-len(rows) // threads)))

    def compare(top: int) -> None:
        owners, own = rows[top : top + step], lists.part(top, top + step)
        queries = table[torch.from_numpy(owners)]
        for left in range(0, len(vectors), TILE):
            tile = torch.mm(queries, table[left : left + TILE].T).numpy()
            kernels.update_rows(tile, vectors, owners, left, slack, (own.values, own.ids))

    _for_each(range(0, len(rows), step), compare, threads)
    return lists


def _slack(vectors: NDArray[np.float32]) -> np.float32:
    """Return what rounding can do at worst to a sum of C products in float32, and a little more.

    Source: Higham, Accuracy and Stability of Numerical Algorithms (2002), section 3.1.
    """
    longest = float(np.einsum("nc,nc->n", vectors, vectors).max())
    return np.float32((vectors.shape[1] + 8) * 2.0**-24 * longest)


def _for_each(items: Iterable[T], work: Callable[[T], None], threads: int) -> None:
    """Do the work for every item, on several threads that use one core each.

    A product that PyTorch spreads over the cores would make all of them wait for the slowest, at every tile.
    """
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, "stego", initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque[Future[None]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                waiting.popleft().result()
        while waiting:
            waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)
