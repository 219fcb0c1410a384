"""Batches through the model, in smaller pieces once memory ran out."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import torch

from stego_cli.engine.device import is_out_of_memory
from stego_cli.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stego_cli.config.model import Probe
    from stego_cli.data.views import View
    from stego_cli.progress import Report
    from stego_cli.segmenter import Array, Labelled, Segmenter, Settings

    Answer = dict[Probe, Labelled] | ImageError


class HalvingSegmenter:
    """Segments batches; when memory runs out, halves the batch, says so, and stays at that size.

    Args:
        model: The model.
        settings: How it segments.
        report: Told when the batch becomes smaller.
    """

    def __init__(self, model: Segmenter, settings: Settings, report: Report) -> None:
        self.model = model
        self.settings = settings
        self.report = report
        self.limit: int | None = None

    def __call__(self, working: Sequence[Array], target: Sequence[View]) -> list[Answer]:
        """Segment images of equal working size; an image too large even alone gets an `ImageError` in its place."""
        answers: list[Answer] = []
        while len(answers) < len(working):
            start = len(answers)
            size = min(self.limit or len(working), len(working) - start)
            piece = self._attempt(working[start : start + size], target[start : start + size])
            if piece is not None:
                answers += piece
            elif size == 1:
                height, width = target[start].size
                answers.append(
                    ImageError(
                        f"needs more memory than there is at {height}x{width}; try a smaller --res or another --device"
                    )
                )
            else:
                self.limit = size // 2
                self.report.note(f"memory is short: going on with batches of {self.limit}")
        return answers

    def _attempt(self, working: Sequence[Array], target: Sequence[View]) -> list[Answer] | None:
        """Segment one piece, or return None if memory ran out."""
        try:
            return list(self.model.segment(working, target, self.settings))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler, so that the failed attempt's frames, and the memory they hold, are gone.
        gc.collect()
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        return None
