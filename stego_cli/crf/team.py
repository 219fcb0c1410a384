"""Threads that share the work on one image."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

T = TypeVar("T")
R = TypeVar("R")


def thread_count() -> int:
    """Return how many threads to use: as PyTorch where it is loaded, else `OMP_NUM_THREADS`, else one per core."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Team:
    """A number of threads; with one, the work is done where it is asked for.

    Example:
        >>> with Team(2) as team:
        ...     team.map(abs, [-1, 2, -3])
        [1, 2, 3]
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def __enter__(self) -> Team:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Do `work` for every item and return the results in order."""
        return [work(item) for item in items] if self._pool is None else list(self._pool.map(work, items))


def even_parts(count: int, parts: int) -> list[tuple[int, int]]:
    """Cut `count` things into at most `parts` runs of nearly equal length.

    Example:
        >>> even_parts(5, 2)
        [(0, 2), (2, 5)]
    """
    edges = [count * part // parts for part in range(parts + 1)]
    return [(begin, end) for begin, end in pairwise(edges) if end > begin]


def thread_shares(count: int, at_once: int, threads: int) -> list[int]:
    """Say how many of `threads` each of `count` things gets, of which `at_once` are worked on at the same time.

    The last few get more where they are fewer than the others.

    Example:
        >>> thread_shares(6, 4, 4), thread_shares(3, 2, 8)
        ([1, 1, 1, 1, 2, 2], [4, 4, 8])
    """
    return [max(1, threads // min(at_once, count - item // at_once * at_once)) for item in range(count)]
