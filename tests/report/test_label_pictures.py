"""Small pictures for reports."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from stego_cli.report.label_pictures import NO_CLASS, jpeg, label_picture, png, shrunk

COLOURS = ((200, 0, 0), (0, 200, 0))


def test_classes_have_their_colours_and_nothing_is_mixed() -> None:
    label_map = np.repeat(np.repeat([[0, 1], [1, 0]], 100, axis=0), 100, axis=1)
    picture = label_picture(label_map, COLOURS, (20, 20))
    assert {tuple(colour) for colour in picture.reshape(-1, 3)} == set(COLOURS)
    assert tuple(picture[0, 0]) == COLOURS[0]
    assert tuple(picture[0, 19]) == COLOURS[1]


def test_what_has_no_class_is_striped_so_that_no_class_looks_like_it() -> None:
    for nothing in (-1, 255, 2):
        picture = label_picture(np.full((16, 16), nothing), COLOURS, (16, 16))
        assert {tuple(colour) for colour in picture.reshape(-1, 3)} == set(NO_CLASS)


def test_pictures_keep_their_shape_and_are_never_enlarged() -> None:
    assert shrunk((1000, 500)) == (320, 160)
    assert shrunk((1, 5000)) == (1, 320)
    assert shrunk((32, 48)) == (32, 48)


def test_files_hold_what_was_drawn() -> None:
    picture = label_picture(np.array([[0, 1]]), COLOURS, (1, 2))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(picture)))), picture)
    photograph = Image.open(io.BytesIO(jpeg(np.zeros((40, 60, 3), np.uint8), (20, 30))))
    assert (photograph.format, photograph.size) == ("JPEG", (30, 20))
