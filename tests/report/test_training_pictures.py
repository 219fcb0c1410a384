"""Pictures of an image beside label maps of it."""

from __future__ import annotations

import numpy as np

from stego_cli.report.label_pictures import NO_CLASS
from stego_cli.report.training_pictures import GAP, side_by_side

RED, BLUE = (255, 0, 0), (0, 0, 255)


def test_image_and_maps_stand_in_a_row_with_gaps_between() -> None:
    pixels = np.full((6, 8, 3), 40, np.uint8)
    halves = (np.arange(6) >= 3).astype(np.uint8)[:, None].repeat(8, 1)
    picture = side_by_side(pixels, [(halves, (RED, BLUE)), (1 - halves.astype(np.int64), (RED, BLUE))])
    assert picture.shape == (6, 3 * 8 + 2 * GAP, 3)
    assert (picture[:, :8] == 40).all()
    assert (picture[:, 8 : 8 + GAP] == 255).all()
    first, second = picture[:, 8 + GAP : 16 + GAP], picture[:, 16 + 2 * GAP :]
    assert (first[:3] == RED).all()
    assert (first[3:] == BLUE).all()
    assert (second[:3] == BLUE).all()
    assert (second[3:] == RED).all()


def test_large_images_are_made_smaller_and_maps_of_other_sizes_fit() -> None:
    picture = side_by_side(np.zeros((400, 800, 3), np.uint8), [(np.full((3, 5), -1), (RED,))])
    assert picture.shape == (160, 2 * 320 + GAP, 3)
    found = {tuple(colour) for colour in picture[:, 320 + GAP :].reshape(-1, 3).tolist()}
    assert found == set(NO_CLASS)
