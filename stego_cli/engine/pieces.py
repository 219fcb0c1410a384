"""Batches in smaller pieces once memory ran out."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

from stego_cli.engine.device import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stego_cli.progress import Report

A = TypeVar("A")
B = TypeVar("B")


class InPieces(Generic[A, B]):
    """Runs a computation over batches; when memory runs out, halves the batch, says so, and stays at that size.

    Args:
        compute: Maps a batch to one answer per item.
        give_up: Makes the answer for an item that is too large even alone, or raises.
        report: Told when the batch becomes smaller.
    """

    def __init__(
        self, compute: Callable[[Sequence[A]], Sequence[B]], give_up: Callable[[A], B], report: Report
    ) -> None:
        self.compute = compute
        self.give_up = give_up
        self.report = report
        self.limit: int | None = None

    def __call__(self, items: Sequence[A]) -> list[B]:
        """Return one answer per item, in order."""
        answers: list[B] = []
        while len(answers) < len(items):
            start = len(answers)
            size = min(self.limit or len(items), len(items) - start)
            piece = without_memory(lambda: self.compute(items[start : start + size]))  # noqa: B023 - called at once
            if piece is not None:
                answers += piece
            elif size == 1:
                answers.append(self.give_up(items[start]))
            else:
                self.limit = size // 2
                self.report.note(f"memory is short: going on with batches of {self.limit}")
        return answers


def without_memory(compute: Callable[[], B]) -> B | None:
    """Compute something, or return None if memory ran out, which then is free again."""
    try:
        return compute()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Outside the handler, so that the failed attempt's frames, and the memory they hold, are gone.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None
