"""Work in a bounded number of threads, in order: reading ahead of a model, and the model itself."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Condition
from typing import TYPE_CHECKING, TypeVar

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


def in_order(items: Iterable[A], work: Callable[[A], B], pool: Executor, ahead: int) -> Iterator[B]:
    """Yield what `work` makes of every item, in their order; at most `ahead` are under way or waiting to be taken.

    Items are taken from their iterable only when there is room, so a slow consumer holds everything back.

    Raises:
        Exception: The first error of `work`, in the order of the items; work on later ones may have been done.
    """
    waiting: deque[Future[B]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class Cores:
    """A number of processor cores that threads take for a while; whoever asks first gets them first.

    Args:
        count: How many there are.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
        self._queue: deque[object] = deque()
        self._changed = Condition()

    @contextmanager
    def take(self, wanted: int) -> Iterator[None]:
        """Wait until `wanted` cores are free, and hold them while the block lasts; at most `count` are held."""
        held, ticket = min(wanted, self.count), object()
        with self._changed:
            self._queue.append(ticket)
            self._changed.wait_for(lambda: self._queue[0] is ticket and self._free >= held)
            self._queue.popleft()
            self._free -= held
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += held
                self._changed.notify_all()
