"""When memory runs out, the batch is halved and nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from stego_cli.data.views import native_view
from stego_cli.engine.halving import HalvingSegmenter
from stego_cli.errors import ImageError
from stego_cli.progress import Silence
from stego_cli.segmenter import Settings


class Small:
    """A model whose memory takes `room` images at once; it answers with the image itself."""

    device = torch.device("cpu")

    def __init__(self, room: int, error: Exception | None = None) -> None:
        self.room = room
        self.error = error or torch.OutOfMemoryError("CUDA out of memory")
        self.calls: list[int] = []

    def segment(self, working: Sequence[Any], target: Sequence[Any], settings: Settings) -> list[Any]:
        self.calls.append(len(working))
        if len(working) > self.room:
            raise self.error
        return list(working)


class Heard(Silence):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def segment(model: Small, report: Silence, images: list[int]) -> list[Any]:
    view = native_view(16, 16, 16, 8)
    return HalvingSegmenter(model, Settings(), report)(images, [view] * len(images))


def test_a_batch_that_fits_goes_through_at_once() -> None:
    model = Small(room=8)
    assert segment(model, Silence(), [1, 2, 3]) == [1, 2, 3]
    assert model.calls == [3]


def test_every_image_is_answered_in_order_after_halving() -> None:
    model, heard = Small(room=2), Heard()
    assert segment(model, heard, list(range(9))) == list(range(9))
    assert heard.notes == ["memory is short: going on with batches of 4", "memory is short: going on with batches of 2"]


def test_the_smaller_batch_is_kept_for_the_next_images() -> None:
    model = Small(room=1)
    halving = HalvingSegmenter(model, Settings(), Silence())
    view = native_view(16, 16, 16, 8)
    halving([1, 2], [view] * 2)
    model.calls.clear()
    halving([3, 4], [view] * 2)
    assert model.calls == [1, 1]


def test_an_image_too_large_even_alone_is_named_not_fatal() -> None:
    answers = segment(Small(room=0), Silence(), [1, 2])
    assert all(isinstance(answer, ImageError) for answer in answers)
    assert "smaller --res" in str(answers[0])


def test_other_errors_are_ours_and_pass() -> None:
    with pytest.raises(ValueError, match="a bug"):
        segment(Small(room=0, error=ValueError("a bug")), Silence(), [1, 2])
