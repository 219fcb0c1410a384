from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stego_cli.data.labels import anonymous_label_space, load_label_space
from stego_cli.errors import ImageError, OutputError
from stego_cli.report.masks import OUTSIDE, OUTSIDE_WIDE, is_sound, outside_id, read_label_png, write_label_png

if TYPE_CHECKING:
    from pathlib import Path

SPACE = load_label_space("camvid")


def label_map(height: int, width: int, classes: int = 11, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, (height, width)).astype(np.uint8)


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), classes=st.sampled_from([1, 2, 3, 16, 17, 255, 256, 1000]))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, classes: int
) -> None:
    path = tmp_path_factory.mktemp("masks") / "deep" / "a.png"
    ids = np.random.default_rng(classes).integers(0, classes, (height, width))
    write_label_png(path, ids, anonymous_label_space(classes))
    read = read_label_png(path)
    np.testing.assert_array_equal(read, ids)
    assert read.dtype == (np.uint8 if classes <= 255 else np.uint16)
    assert is_sound(path, height, width)


def test_viewers_see_the_colours_of_the_classes_and_nothing_outside(tmp_path: Path) -> None:
    ids = np.array([[0, 10, OUTSIDE]], dtype=np.uint8)
    write_label_png(tmp_path / "a.png", ids, SPACE)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P"
        seen = np.array(picture.convert("RGBA"))[0].tolist()
    assert seen == [[*SPACE.colours[0], 255], [*SPACE.colours[10], 255], [0, 0, 0, 0]]


def test_many_classes_need_two_bytes_and_another_value_for_outside(tmp_path: Path) -> None:
    space = anonymous_label_space(300)
    assert outside_id(space) == OUTSIDE_WIDE
    write_label_png(tmp_path / "a.png", np.array([[255, 299, OUTSIDE_WIDE]]), space)
    assert read_label_png(tmp_path / "a.png").tolist() == [[255, 299, OUTSIDE_WIDE]]


def test_the_caller_may_have_another_value_for_outside(tmp_path: Path) -> None:
    write_label_png(tmp_path / "a.png", np.array([[3, -1]]), SPACE, outside=-1)
    assert read_label_png(tmp_path / "a.png").tolist() == [[3, OUTSIDE]]


@pytest.mark.parametrize("wrong", [11, 254, -1])
def test_an_id_without_a_class_is_our_mistake(tmp_path: Path, wrong: int) -> None:
    with pytest.raises(ValueError, match=f"class id {wrong} "):
        write_label_png(tmp_path / "a.png", np.array([[0, wrong]]), SPACE)
    assert not list(tmp_path.iterdir())


def test_the_memory_layout_does_not_matter(tmp_path: Path) -> None:
    ids = label_map(12, 20)
    write_label_png(tmp_path / "a.png", np.asfortranarray(ids)[::2, ::-1], SPACE)
    np.testing.assert_array_equal(read_label_png(tmp_path / "a.png"), ids[::2, ::-1])


def test_another_size_is_not_sound(tmp_path: Path) -> None:
    write_label_png(tmp_path / "a.png", label_map(12, 20), SPACE)
    assert is_sound(tmp_path / "a.png", 12, 20)
    assert not is_sound(tmp_path / "a.png", 20, 12)


def test_a_file_cut_anywhere_is_not_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_label_png(path, label_map(12, 20), SPACE)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert not is_sound(path, 12, 20), length


def test_a_file_with_any_byte_altered_is_not_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_label_png(path, label_map(6, 7), SPACE)
    whole = bytearray(path.read_bytes())
    for place in range(len(whole)):
        whole[place] ^= 0x10
        path.write_bytes(whole)
        assert not is_sound(path, 6, 7), place
        whole[place] ^= 0x10


def test_other_things_in_its_place_are_not_sound(tmp_path: Path) -> None:
    assert not is_sound(tmp_path / "missing.png", 2, 2)
    assert not is_sound(tmp_path, 2, 2)
    for name, mode in (("rgb.png", "RGB"), ("one-bit.png", "1"), ("photo.jpg", "RGB")):
        Image.new(mode, (2, 2)).save(tmp_path / name)
        assert not is_sound(tmp_path / name, 2, 2), name


@pytest.mark.parametrize(
    ("name", "content"), [("a.png", b""), ("b.png", b"not a picture"), ("c.png", b"\x89PNG\r\n\x1a\n")]
)
def test_a_file_that_is_no_picture_is_refused_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=name):
        read_label_png(tmp_path / name)


def test_a_photograph_is_no_label_map(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.png")
    with pytest.raises(ImageError, match="RGB"):
        read_label_png(tmp_path / "photo.png")


def test_a_full_disk_is_said_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    write_label_png(path, label_map(4, 4), SPACE)
    before = path.read_bytes()

    def full(descriptor: int) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="no space left"):
        write_label_png(path, label_map(4, 4, seed=1), SPACE)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
