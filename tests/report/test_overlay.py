from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from stego_cli.config.model import LabelSpace
from stego_cli.data.labels import anonymous_label_space
from stego_cli.errors import ConfigError
from stego_cli.report.overlay import LONGEST_SIDE, is_sound_overlay, overlay, write_overlay

if TYPE_CHECKING:
    from pathlib import Path

SPACE = LabelSpace(name="two", names=("a", "b"), colours=((200, 0, 0), (0, 0, 100)))


def grey(height: int, width: int, level: int = 100) -> np.ndarray:
    return np.full((height, width, 3), level, dtype=np.uint8)


def test_colours_are_mixed_by_opacity() -> None:
    ids = np.array([[0, 1]], dtype=np.uint8)
    mixed = overlay(grey(1, 2), ids, SPACE, 0.25, outlines=False)
    assert mixed.tolist() == [[[125, 75, 75], [75, 75, 100]]]  # a quarter of the class, three of the image


@pytest.mark.parametrize(("opacity", "expected"), [(0.0, (100, 100, 100)), (1.0, (200, 0, 0))])
def test_the_ends_of_the_scale(opacity: float, expected: tuple[int, int, int]) -> None:
    mixed = overlay(grey(2, 2), np.zeros((2, 2), np.uint8), SPACE, opacity)
    assert (mixed == expected).all()


def test_white_stays_white_under_white() -> None:
    white = LabelSpace(name="white", names=("w",), colours=((255, 255, 255),))
    for opacity in np.linspace(0, 1, 11):
        assert (overlay(grey(1, 1, 255), np.zeros((1, 1), np.uint8), white, opacity) == 255).all()


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
def test_an_opacity_that_is_no_share_is_refused(opacity: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        overlay(grey(1, 1), np.zeros((1, 1), np.uint8), SPACE, opacity)


def test_outside_is_dimmed_and_not_coloured() -> None:
    ids = np.array([[0, 255]], dtype=np.uint8)
    outside = overlay(grey(1, 2), ids, SPACE, outlines=False)[0, 1]
    assert outside.max() == outside.min() < 50


def test_a_line_runs_where_the_class_changes_and_nowhere_else() -> None:
    ids = np.zeros((6, 8), dtype=np.uint8)
    ids[:, 4:] = 1
    plain = overlay(grey(6, 8), ids, SPACE, outlines=False)
    drawn = overlay(grey(6, 8), ids, SPACE)
    changed = (plain != drawn).any(-1)
    assert changed[:, 3:5].all()
    assert not changed[:, :3].any()
    assert not changed[:, 5:].any()


def test_the_areas_can_be_told_apart_in_greyscale_even_when_their_colours_cannot() -> None:
    same = LabelSpace(name="same", names=("a", "b"), colours=((90, 90, 90), (90, 90, 90)))
    ids = np.zeros((6, 8), dtype=np.uint8)
    ids[3:] = 1
    luma = np.array(Image.fromarray(overlay(grey(6, 8), ids, same)).convert("L"), dtype=int)
    assert luma[2].min() - luma[3].max() > 100  # a light line beside a dark one


def test_inputs_are_left_alone() -> None:
    pixels, ids = grey(4, 4), np.eye(4, dtype=np.uint8)
    overlay(pixels, ids, SPACE)
    assert (pixels == 100).all()
    assert (ids == np.eye(4)).all()


def test_more_classes_than_a_byte_can_count() -> None:
    space = anonymous_label_space(300)
    mixed = overlay(grey(1, 2), np.array([[299, 65535]]), space, 1.0, outlines=False)
    assert tuple(mixed[0, 0]) == space.colours[299]


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (40, 30, (40, 30)),
        (LONGEST_SIDE, 20, (LONGEST_SIDE, 20)),
        (2 * LONGEST_SIDE, 800, (LONGEST_SIDE, 400)),
        (1, 1, (1, 1)),
        (10, 20_000, (1, LONGEST_SIDE)),
    ],
)
def test_large_photographs_are_shrunk(tmp_path: Path, height: int, width: int, expected: tuple[int, int]) -> None:
    path = tmp_path / "overlays" / "a.jpg"
    write_overlay(path, grey(height, width), np.zeros((height, width), np.uint8), SPACE)
    with Image.open(path) as picture:
        assert (picture.height, picture.width) == expected


def test_shrinking_never_invents_a_class_between_two(tmp_path: Path) -> None:
    """Ids 0 and 2 side by side: averaging them would show class 1."""
    space = LabelSpace(name="three", names=("a", "b", "c"), colours=((250, 0, 0), (0, 250, 0), (0, 0, 250)))
    ids = np.zeros((90, 2 * LONGEST_SIDE), dtype=np.uint8)
    ids[:, 1001:] = 2
    write_overlay(tmp_path / "a.jpg", grey(*ids.shape, 0), ids, space, 1.0)
    with Image.open(tmp_path / "a.jpg") as picture:
        pixels = np.array(picture).astype(int)
    assert not ((pixels[..., 1] > pixels[..., 0] + 40) & (pixels[..., 1] > pixels[..., 2] + 40)).any()


def test_soundness_of_an_overlay(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    assert not is_sound_overlay(path)
    write_overlay(path, grey(4, 4), np.zeros((4, 4), np.uint8), SPACE)
    assert is_sound_overlay(path)
    whole = path.read_bytes()
    for content in (b"", b"\xff", whole[:-1], whole[: len(whole) // 2], b"text that is not a picture"):
        path.write_bytes(content)
        assert not is_sound_overlay(path)
    assert not is_sound_overlay(tmp_path)
