"""Images through the model's device; in smaller batches, then in smaller windows, once memory ran out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from stego_cli.engine.pieces import InPieces, without_memory
from stego_cli.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stego_cli.progress import Report
    from stego_cli.segmenter import Array, Scored, Segmenter, Settings

LEAST_WINDOW = 128  # pixels; what a network sees of less says little about it


class HalvingSegmenter:
    """Scores batches; when memory runs out, halves the batch, says so, and stays at that size.

    An image that is too large even alone is seen in windows, whose side is halved until they fit. Not under the
    protocol `paper`, which sees images whole. Safe to share between threads.

    Args:
        model: The model.
        settings: How it segments.
        report: Told when batches or windows become smaller.
    """

    def __init__(self, model: Segmenter, settings: Settings, report: Report) -> None:
        self.model = model
        self.settings = settings
        self.report = report
        self._in_pieces: InPieces[Array, Scored | ImageError] = InPieces(self._scores, self._in_windows, report)
        self._said: set[tuple[int, int, int]] = set()

    def __call__(self, working: Sequence[Array]) -> list[Scored | ImageError]:
        """Score images of equal working size; an image that does not fit at all gets an `ImageError` in its place."""
        return self._in_pieces(working)

    def _scores(self, working: Sequence[Array]) -> list[Scored | ImageError]:
        return list(self.model.scores(working, self.settings))

    def _in_windows(self, working: Array) -> Scored | ImageError:
        """Score one image in windows of half its longer side, of a quarter, and so on."""
        height, width = working.shape[:2]
        side = min(self.settings.tile or max(height, width), max(height, width)) // 2
        while self.settings.protocol != "paper" and side >= LEAST_WINDOW:
            settings = replace(self.settings, tile=side)
            found = without_memory(lambda: self.model.scores([working], settings))  # noqa: B023 - called at once
            if found is not None:
                self._say(height, width, side)
                return found[0]
            side //= 2
        return ImageError(
            f"needs more memory than there is at {height}x{width}; try a smaller --res or another --device"
        )

    def _say(self, height: int, width: int, side: int) -> None:
        """Say once for each size of image what becomes of it."""
        if (height, width, side) not in self._said:
            self._said.add((height, width, side))
            self.report.note(
                f"memory is short: images of {height}x{width} go through the network in windows of {side} pixels"
            )
