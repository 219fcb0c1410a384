"""Batches through the model, in smaller pieces once memory ran out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stego_cli.engine.pieces import InPieces
from stego_cli.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stego_cli.config.model import Probe
    from stego_cli.data.views import View
    from stego_cli.progress import Report
    from stego_cli.segmenter import Array, Labelled, Segmenter, Settings

    Answer = dict[Probe, Labelled] | ImageError
    Item = tuple[Array, View]


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
        self._in_pieces: InPieces[Item, Answer] = InPieces(self._segment, _too_large, report)

    def __call__(self, working: Sequence[Array], target: Sequence[View]) -> list[Answer]:
        """Segment images of equal working size; an image too large even alone gets an `ImageError` in its place."""
        return self._in_pieces(list(zip(working, target, strict=True)))

    def _segment(self, items: Sequence[Item]) -> list[Answer]:
        return list(self.model.segment([working for working, _ in items], [view for _, view in items], self.settings))


def _too_large(item: Item) -> ImageError:
    height, width = item[1].size
    return ImageError(f"needs more memory than there is at {height}x{width}; try a smaller --res or another --device")
