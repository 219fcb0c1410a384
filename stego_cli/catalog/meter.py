"""How far several transfers are together: they count bytes in their threads, and one place shows the sum."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MEGABYTE = 1_000_000
_LOOK = 0.5  # seconds between looks; a wait without end could not be interrupted on Windows


class Meter:
    """Adds up the bytes of all transfers of a run.

    Args:
        transfers: How many there are.

    Example:
        >>> meter = Meter(1)
        >>> meter.add(1_500_000)
        >>> meter.add(700_000)
        >>> meter.finish()
        >>> len(list(meter.megabytes()))
        2
    """

    def __init__(self, transfers: int) -> None:
        self._transfers = transfers
        self._counts: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def add(self, count: int) -> None:
        """Count bytes that have arrived; called from any thread."""
        self._counts.put(count)

    def finish(self) -> None:
        """Say that one transfer has come to its end; called from any thread."""
        self._counts.put(None)

    def megabytes(self) -> Iterator[None]:
        """Yield once for every full megabyte that has arrived, until the last transfer has come to its end."""
        rest, running = 0, self._transfers
        while running:
            try:
                count = self._counts.get(timeout=_LOOK)
            except queue.Empty:
                continue
            if count is None:
                running -= 1
                continue
            rest += count
            while rest >= MEGABYTE:
                rest -= MEGABYTE
                yield
