"""When memory runs out, the batch is halved, then the image is seen in windows, and nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from stego_cli.engine.halving import HalvingSegmenter
from stego_cli.errors import ImageError
from stego_cli.progress import Silence
from stego_cli.segmenter import Settings
from support import Heard

IMAGES = [np.full((320, 640, 3), number, np.uint8) for number in range(9)]


class Small:
    """A model whose memory takes `room` images, or one in windows of `window`; it answers with the image's number."""

    device = torch.device("cpu")

    def __init__(self, room: int, error: Exception | None = None, window: int = 0) -> None:
        self.room = room
        self.window = window
        self.error = error or torch.OutOfMemoryError("CUDA out of memory")
        self.calls: list[int] = []
        self.tiles: list[int | None] = []

    def scores(self, working: Sequence[Any], settings: Settings) -> list[Any]:
        self.calls.append(len(working))
        self.tiles.append(settings.tile)
        fits = settings.tile is not None and settings.tile <= self.window
        if len(working) > self.room and not fits:
            raise self.error
        return [int(image[0, 0, 0]) for image in working]


def score(model: Small, report: Silence, count: int, settings: Settings | None = None) -> list[Any]:
    return HalvingSegmenter(model, settings or Settings(), report)(IMAGES[:count])


def test_a_batch_that_fits_goes_through_at_once() -> None:
    model = Small(room=8)
    assert score(model, Silence(), 3) == [0, 1, 2]
    assert model.calls == [3]


def test_every_image_is_answered_in_order_after_halving() -> None:
    model, heard = Small(room=2), Heard()
    assert score(model, heard, 9) == list(range(9))
    assert heard.notes == ["memory is short: going on with batches of 4", "memory is short: going on with batches of 2"]


def test_the_smaller_batch_is_kept_for_the_next_images() -> None:
    model = Small(room=1)
    halving = HalvingSegmenter(model, Settings(), Silence())
    halving(IMAGES[:2])
    model.calls.clear()
    halving(IMAGES[2:4])
    assert model.calls == [1, 1]


def test_an_image_too_large_even_alone_is_seen_in_windows_and_that_is_said_once() -> None:
    model, heard = Small(room=0, window=200), Heard()
    assert score(model, heard, 2) == [0, 1]
    assert model.tiles[-2:] == [320, 160]  # half of 640, then a quarter
    assert heard.notes == [
        "memory is short: going on with batches of 1",
        "memory is short: images of 320x640 go through the network in windows of 160 pixels",
    ]


def test_windows_that_were_asked_for_are_halved() -> None:
    model = Small(room=0, window=150)
    assert score(model, Silence(), 1, Settings(tile=300)) == [0]
    assert model.tiles == [300, 150]


def test_the_paper_sees_images_whole_or_not_at_all() -> None:
    model = Small(room=0, window=1000)
    (answer,) = score(model, Silence(), 1, Settings(protocol="paper"))
    assert isinstance(answer, ImageError)
    assert model.tiles == [None]


def test_an_image_too_large_even_in_windows_is_named_not_fatal() -> None:
    answers = score(Small(room=0), Silence(), 2)
    assert all(isinstance(answer, ImageError) for answer in answers)
    assert "320x640" in str(answers[0])
    assert "smaller --res" in str(answers[0])


def test_other_errors_are_ours_and_pass() -> None:
    with pytest.raises(ValueError, match="a bug"):
        score(Small(room=0, error=ValueError("a bug")), Silence(), 2)
