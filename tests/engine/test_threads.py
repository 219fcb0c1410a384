"""Work in threads: in order, bounded, and honest about errors."""

from __future__ import annotations

import threading
import time

import pytest

from stego_cli.engine.threads import AHEAD, Cores, executor, in_order, read_ahead


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


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_results_come_in_the_order_of_their_items_whoever_is_first(workers: int) -> None:
    def work(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        return item * 10

    with executor(workers) as pool:
        assert list(in_order(range(20), work, pool, 5)) == [item * 10 for item in range(20)]


def test_no_more_items_are_taken_than_are_allowed_to_wait() -> None:
    taken: list[int] = []

    def items():
        for item in range(1000):
            taken.append(item)
            yield item

    with executor(2) as pool:
        results = in_order(items(), lambda item: item, pool, 3)
        assert next(results) == 0
        assert len(taken) == 3
        assert next(results) == 1
        assert len(taken) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_reaches_the_caller_after_the_results_before_it(workers: int) -> None:
    def work(item: int) -> int:
        if item == 2:
            raise OSError("disk")
        return item

    with executor(workers) as pool:
        results = in_order(range(9), work, pool, 4)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(OSError, match="disk"):
            next(results)


def test_cores_are_never_given_twice_and_all_get_theirs() -> None:
    cores, lock = Cores(4), threading.Lock()
    in_use = [0]
    most = [0]

    def work(wanted: int) -> None:
        with cores.take(wanted):
            with lock:
                in_use[0] += min(wanted, 4)
                most[0] = max(most[0], in_use[0])
            time.sleep(0.002)
            with lock:
                in_use[0] -= min(wanted, 4)

    with executor(8) as pool:  # 9 is more than there are: it gets all
        list(in_order([1, 4, 1, 2, 2, 3, 1, 1, 9, 1, 4, 1] * 3, work, pool, 12))
    assert most[0] == 4
    assert in_use[0] == 0


def test_who_wants_many_cores_is_not_passed_over_by_those_who_want_one() -> None:
    cores, order = Cores(2), []
    first = cores.take(1)
    first.__enter__()

    def all_cores() -> None:
        with cores.take(2):
            order.append("all")

    def one_core() -> None:
        with cores.take(1):
            order.append("one")

    threads = [threading.Thread(target=all_cores), threading.Thread(target=one_core)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    assert order == []
    first.__exit__(None, None, None)
    for thread in threads:
        thread.join(5)
    assert order == ["all", "one"]


def test_cores_come_back_after_an_error() -> None:
    cores = Cores(1)
    with pytest.raises(ValueError, match="x"), cores.take(1):
        raise ValueError("x")
    with cores.take(1):
        pass


def test_threads_are_gone_afterwards_even_after_an_interrupt() -> None:
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), executor(3) as pool:
        for _ in read_ahead([[1], [2], [3]], lambda item: item, pool):
            raise KeyboardInterrupt
    assert threading.active_count() == before
