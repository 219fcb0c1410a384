"""The contact sheet of an image and its neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from stego_cli.report.neighbor_picture import Shown, _font, _shortened, neighbor_picture, stack_pictures

RED, GREEN, BLUE, YELLOW = (220, 20, 20), (20, 200, 20), (20, 20, 220), (230, 220, 20)


def plain(colour: tuple[int, int, int], height: int = 30, width: int = 40) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def extent(picture: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Return the first and last column and the first and last row that have a colour."""
    rows, columns = np.nonzero((np.asarray(picture) == colour).all(axis=2))
    return columns.min(), columns.max(), rows.min(), rows.max()


def test_the_image_is_at_the_left_and_larger_and_neighbours_follow_nearest_first() -> None:
    picture = neighbor_picture(
        Shown(plain(RED), "a"),
        [Shown(plain(GREEN), "b", 0.9), Shown(plain(BLUE), "c", 0.8), Shown(plain(YELLOW), "d", 0.7)],
    )
    red, green, blue, yellow = (extent(picture, colour) for colour in (RED, GREEN, BLUE, YELLOW))
    assert red[1] < green[0] <= green[1] < blue[0] <= blue[1] < yellow[0]
    assert green[2] == blue[2] == yellow[2]
    assert red[1] - red[0] > green[1] - green[0]


def test_five_neighbours_take_two_rows() -> None:
    colours = [GREEN, BLUE, YELLOW, (1, 2, 3), (9, 8, 7)]
    picture = neighbor_picture(Shown(plain(RED), "a"), [Shown(plain(colour), "b", 0.5) for colour in colours])
    boxes = [extent(picture, colour) for colour in colours]
    assert boxes[0][2] == boxes[1][2] == boxes[2][2] < boxes[3][2] == boxes[4][2]
    assert boxes[0][0] == boxes[3][0]


@pytest.mark.parametrize("shape", [(1, 1), (3, 900), (900, 3), (2000, 1500), (168, 224)])
def test_images_of_any_shape_are_shown_whole_and_undistorted(shape: tuple[int, int]) -> None:
    usual = neighbor_picture(Shown(plain(RED), "a"), [Shown(plain(BLUE), "b")])
    picture = neighbor_picture(Shown(plain(RED), "a"), [Shown(plain(GREEN, *shape), "b")])
    assert picture.size == usual.size
    left, right, top, bottom = extent(picture, GREEN)
    width, height = right - left + 1, bottom - top + 1
    assert (width <= 224, height <= 168) == (True, True)
    assert width == 224 or height == 168
    assert width / height == pytest.approx(shape[1] / shape[0], rel=0.01) or 1 in (width, height)


def test_rank_similarity_and_name_are_written() -> None:
    def sheet(name: str, similarity: float | None) -> np.ndarray:
        return np.asarray(neighbor_picture(Shown(plain(RED), "a"), [Shown(plain(GREEN), name, similarity)]))

    assert (sheet("b", 0.5) != sheet("c", 0.5)).any()
    assert (sheet("b", 0.5) != sheet("b", 0.75)).any()
    assert (sheet("b", 0.5) != sheet("b", None)).any()
    one, two = sheet("b", None), neighbor_picture(Shown(plain(RED), "a"), [Shown(plain(GREEN), "b")] * 2)
    accent = (22, 92, 150)
    assert (np.asarray(two) == accent).all(2).sum() > (one == accent).all(2).sum() > 0


@pytest.mark.parametrize("name", ["short.png", "x" * 500 + ".png", "caf\udce9 \n" * 40, "", "日本語" * 60])
def test_long_names_are_shortened_to_what_fits(name: str) -> None:
    text = _shortened(name, 224, 15)
    assert _font(15).getlength(text) <= 224
    assert "\n" not in text
    neighbor_picture(Shown(plain(RED), name), [Shown(plain(GREEN), name, 0.5)])


def test_the_end_of_a_long_name_is_kept() -> None:
    text = _shortened("leftImg8bit_trainvaltest/leftImg8bit/train/aachen/aachen_000017_000019.png", 224, 15)
    assert text.endswith("000019.png")
    assert text.startswith("left")
    assert "..." in text
    assert _shortened("b.png", 224, 15) == "b.png"


def test_what_cannot_be_read_and_who_has_no_neighbours() -> None:
    lone = neighbor_picture(Shown(plain(RED), "a"), [])
    assert lone.width > extent(lone, RED)[1]
    neighbor_picture(Shown(None, "broken.png"), [Shown(None, "b", 0.2), Shown(plain(GREEN)[:0], "c")])


def test_sheets_are_stacked() -> None:
    one = neighbor_picture(Shown(plain(RED), "a"), [Shown(plain(GREEN), "b")])
    two = neighbor_picture(Shown(plain(BLUE), "a"), [Shown(plain(GREEN), "b")] * 4)
    stacked = stack_pictures([one, two])
    assert stacked.size == (two.width, one.height + two.height)
    assert extent(stacked, RED)[3] < one.height <= extent(stacked, BLUE)[2]


def test_pixels_are_left_as_they_are() -> None:
    pixels = plain(RED)
    pixels.flags.writeable = False
    neighbor_picture(Shown(pixels, "a"), [Shown(pixels, "b", 1.0)])
