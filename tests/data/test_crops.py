"""Where crops lie, what they are called, and how their labels are stored."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from stego_cli.data.crops import Box, CropRule, crop_number, crop_size, five_boxes, label_png, stored_labels, tuple_hash
from stego_cli.errors import ImageError


@pytest.mark.skipif(sys.hash_info.width != 64 or sys.version_info < (3, 8), reason="another hash")
@given(st.lists(st.integers() | st.integers(-5, 5), max_size=6).map(tuple))
def test_the_hash_is_that_of_the_interpreter(values: tuple[int, ...]) -> None:
    assert tuple_hash(values, "python38") == hash(values)


def test_the_older_hash_of_an_empty_tuple_is_the_sum_of_its_two_constants() -> None:
    assert tuple_hash((), "python37") == 0x345678 + 97531


def test_five_boxes_worked_by_hand() -> None:
    assert five_boxes(10, 9, 5, 4) == (
        Box(0, 0, 5, 4),
        Box(0, 5, 5, 4),
        Box(5, 0, 5, 4),
        Box(5, 5, 5, 4),
        Box(2, 2, 5, 4),  # 2.5 both: halves to even
    )


@given(
    st.sampled_from(["five", "random"]),
    st.integers(4, 900),
    st.integers(4, 900),
    st.floats(0.3, 0.7),
    st.integers(0, 2**40),
    st.sampled_from(["python37", "python38"]),
)
def test_boxes_lie_inside_and_have_one_size(kind, height, width, ratio, index, rule) -> None:
    boxes = CropRule(kind, ratio, rule).boxes(height, width, index)
    assert {box[2:] for box in boxes} == {(int(height * ratio), int(width * ratio))}
    assert len(boxes) == 5
    for box in boxes:
        assert 0 <= box.top <= height - box.height
        assert 0 <= box.left <= width - box.width
        # The reference takes the remainder by the margin, so the last place is never drawn.
        assert kind == "five" or (box.top < height - box.height and box.left < width - box.width)


def test_random_boxes_differ_between_images_and_between_rules() -> None:
    seen = {
        CropRule("random", 0.5, rule).boxes(480, 640, index) for rule in ("python37", "python38") for index in (0, 1)
    }
    assert len(seen) == 4


@pytest.mark.parametrize(("height", "width"), [(1, 300), (300, 1), (1, 1)])
@pytest.mark.parametrize("kind", ["five", "random"])
def test_an_image_of_which_nothing_would_be_left_is_refused(kind, height, width) -> None:
    with pytest.raises(ImageError, match=rf"{height}x{width} pixels .*\n\nhint: .*larger --ratio"):
        CropRule(kind, 0.5).boxes(height, width, 0)


def test_random_crops_as_large_as_the_image_are_refused() -> None:
    with pytest.raises(ImageError, match="no choice for random crops of 7x9"):  # where the reference divides by zero
        CropRule("random", 1.0).boxes(7, 9, 0)
    assert set(CropRule("five", 1.0).boxes(7, 9, 0)) == {Box(0, 0, 7, 9)}


def test_sizes_are_cut_off_and_not_rounded() -> None:
    assert crop_size(375, 501, 0.7) == (262, 350)


def test_numbers_run_on_over_the_images() -> None:
    assert [crop_number(index, place) for index in range(2) for place in range(5)] == list(range(10))


def test_labels_are_stored_plus_one_with_0_for_no_class() -> None:
    ids = np.array([[-13, -1, 0, 26], [253, 254, 255, -1]], np.int64)
    assert stored_labels(ids).tolist() == [[0, 0, 1, 27], [254, 255, 0, 0]]
    assert stored_labels(ids).dtype == np.uint8


def test_a_class_id_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ImageError, match=r"class id 256; crops store ids up to 254\n\nhint: "):
        stored_labels(np.array([[0, 256]], np.int64))


@given(arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_labels_come_back_from_the_png(labels) -> None:
    with Image.open(io.BytesIO(label_png(labels))) as picture:
        picture.verify()  # checksums
    with Image.open(io.BytesIO(label_png(labels))) as picture:
        assert picture.mode == "L"
        np.testing.assert_array_equal(np.asarray(picture), labels)


def test_labels_that_are_part_of_a_larger_map_come_back() -> None:
    labels = np.arange(200, dtype=np.uint8).reshape(10, 20)[3:8, 5:12]
    with Image.open(io.BytesIO(label_png(labels))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), labels)


def test_an_image_is_cut_with_its_labels() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (9, 12, 3)).astype(np.uint8)
    classes = np.random.default_rng(1).integers(0, 5, (9, 12))
    rule = CropRule("five", 0.5)
    crops = rule.cut(pixels, classes, 0, labelled=True)
    for crop, (top, left) in zip(crops, [(0, 0), (0, 6), (5, 0), (5, 6), (2, 3)], strict=True):
        np.testing.assert_array_equal(crop.pixels, pixels[top : top + 4, left : left + 6])
        np.testing.assert_array_equal(crop.labels, classes[top : top + 4, left : left + 6] + 1)
    assert not any(crop.labels.any() for crop in rule.cut(pixels, None, 1, labelled=True))  # no class anywhere
    assert [crop.labels for crop in rule.cut(pixels, None, 1, labelled=False)] == [None] * 5
    assert [crop.number for crop in rule.cut(pixels, None, 1, labelled=False)] == [5, 6, 7, 8, 9]
