"""Reading ahead and writing behind: in order, bounded, and honest about errors."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from stego_cli.engine.threads import AHEAD, executor, read_ahead, write_behind


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order_with_what_was_read(workers: int) -> None:
    with executor(workers) as pool:
        read = list(read_ahead([[1, 2], [3], [4, 5]], lambda item: item * 10, pool))
    assert read == [([1, 2], [10, 20]), ([3], [30]), ([4, 5], [40, 50])]


def test_no_more_than_the_promised_batches_are_read_ahead() -> None:
    begun: list[int] = []
    with executor(0) as pool:
        batches = read_ahead(([i] for i in range(1000)), begun.append, pool)
        next(batches)
    assert len(begun) == AHEAD + 1


@pytest.mark.parametrize("workers", [0, 2])
def test_results_of_writing_come_in_order(workers: int) -> None:
    groups = [[partial(int, i), partial(int, i + 100)] for i in range(5)]
    with executor(workers) as pool:
        assert list(write_behind(groups, pool)) == [0, 100, 1, 101, 2, 102, 3, 103, 4, 104]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_a_writer_reaches_the_caller(workers: int) -> None:
    def fail() -> None:
        raise OSError("disk")

    with executor(workers) as pool, pytest.raises(OSError, match="disk"):
        list(write_behind([[fail]], pool))


def test_threads_are_gone_afterwards_even_after_an_interrupt() -> None:
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), executor(3) as pool:
        for _ in read_ahead([[1], [2], [3]], lambda item: item, pool):
            raise KeyboardInterrupt
    assert threading.active_count() == before
