"""Reading ahead and writing behind the model, in a bounded number of threads."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import ParamSpec

    P = ParamSpec("P")

A = TypeVar("A")
B = TypeVar("B")

# While one batch is computed, this many wait in memory, decoded.
AHEAD = 1


class Inline(Executor):
    """An executor that does everything at once in the caller's thread: what `--workers 0` means."""

    def submit(self, fn: Callable[P, B], /, *args: P.args, **kwargs: P.kwargs) -> Future[B]:
        """Run `fn` now and return its finished future."""
        future: Future[B] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  # the future carries it to whoever asks for the result
            future.set_exception(error)
        return future


@contextmanager
def executor(workers: int) -> Iterator[Executor]:
    """Open a pool of `workers` threads, or none for 0; on any error what has not begun is dropped."""
    pool: Executor = ThreadPoolExecutor(workers, thread_name_prefix="stego") if workers else Inline()
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def read_ahead(batches: Iterable[list[A]], read: Callable[[A], B], pool: Executor) -> Iterator[tuple[list[A], list[B]]]:
    """Yield each batch with what `read` made of its items, while the next batch is being read.

    Memory holds `AHEAD` + 1 batches at most, however many there are.
    """
    waiting: deque[tuple[list[A], list[Future[B]]]] = deque()
    for batch in batches:
        waiting.append((batch, [pool.submit(read, item) for item in batch]))
        if len(waiting) > AHEAD:
            yield _finished(*waiting.popleft())
    while waiting:
        yield _finished(*waiting.popleft())


def _finished(batch: list[A], futures: list[Future[B]]) -> tuple[list[A], list[B]]:
    return batch, [future.result() for future in futures]


def write_behind(groups: Iterable[list[Callable[[], Any]]], pool: Executor) -> Iterator[Any]:
    """Run the tasks of each group in the pool while the next group is being made; yield results in order.

    Raises:
        Exception: The first error of a task; later tasks may have run.
    """
    before: list[Future[Any]] = []
    for group in groups:
        futures = [pool.submit(task) for task in group]
        for future in before:
            yield future.result()
        before = futures
    for future in before:
        yield future.result()
