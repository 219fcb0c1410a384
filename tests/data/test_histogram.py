from __future__ import annotations

from pathlib import Path

import pytest

from stego_cli.config.model import LabelSpace
from stego_cli.data.dataset import Dataset
from stego_cli.data.histogram import Histogram, histogram
from stego_cli.data.label_codes import UNCHANGED, LabelCode, identity_code
from stego_cli.data.survey import ValueCount

THREE = LabelSpace(name="three", names=("stone", "leaf", "cloud"), colours=((0, 0, 0), (1, 1, 1), (2, 2, 2)))


def sort(values: dict[int, int], code: LabelCode, space: LabelSpace | None = THREE, n: int | None = None) -> Histogram:
    dataset = Dataset("d", "d", "train", Path(), (), space, code)
    return histogram(dataset, {value: ValueCount(pixels, 1, 0) for value, pixels in values.items()}, n)


@pytest.mark.parametrize("code", [UNCHANGED, identity_code(3)])
def test_stored_values_that_are_class_ids(code: LabelCode) -> None:
    found = sort({0: 10, 2: 30, 255: 5, -1: 5, 7: 50}, code)
    assert found.names == ("stone", "leaf", "cloud")
    assert found.classes == (10, 0, 30)
    assert set(found.ignored) == {255, -1}
    assert set(found.stray) == {7}
    assert (found.labelled, found.pixels, found.ignored_share, found.share(2)) == (40, 100, 0.6, 0.75)


def test_a_table_says_which_values_are_a_class_and_which_are_none() -> None:
    found = sort({0: 1, 1: 2, 2: 4, 3: 8, 4: 16, 255: 32}, LabelCode((1, -1, 0, 1)))
    assert found.classes == (4, 9, 0)
    assert set(found.ignored) == {1, 255}
    assert set(found.stray) == {4}
    assert not found.is_plain


def test_crops_store_one_more() -> None:
    found = sort({0: 1, 1: 2, 3: 4}, identity_code(3, added=1))
    assert found.classes == (2, 0, 4)
    assert set(found.ignored) == {0}
    assert not found.stray


@pytest.mark.parametrize(("code", "value"), [(UNCHANGED, 3), (identity_code(3), 3), (identity_code(3, added=1), 4)])
def test_a_single_value_after_the_last_class_is_unlabelled(code: LabelCode, value: int) -> None:
    found = sort({code.added: 5, value: 5}, code)
    assert (found.unlabelled, set(found.ignored), found.stray) == (value, {value}, {})
    assert set(sort({code.added: 5, value: 5, 40: 5}, code).stray) == {40}
    assert sort({code.added: 5, value: 5, value + 1: 5}, code).unlabelled is None
    assert sort({code.added + 1: 5, value: 5}, code).unlabelled is None  # may count from 1


def test_a_number_of_classes_goes_before_the_label_space() -> None:
    assert sort({0: 1, 4: 2}, identity_code(3), n=5).classes == (1, 0, 0, 0, 2)
    assert sort({0: 1, 4: 2}, identity_code(3), n=5).names == ("stone", "leaf", "cloud", "class 3", "class 4")
    assert set(sort({0: 1, 1: 1, 2: 1}, identity_code(3), n=1).stray) == {1, 2}


def test_without_any_number_the_values_decide() -> None:
    found = sort({1: 5, 4: 5, 255: 1, 5000: 1}, UNCHANGED, None)
    assert found.classes == (0, 5, 0, 0, 5)
    assert set(found.ignored) == {255}
    assert set(found.stray) == {5000}


def test_no_labels_at_all() -> None:
    found = sort({}, UNCHANGED, None)
    assert (found.classes, found.pixels, found.ignored_share) == ((), 0, 0.0)
