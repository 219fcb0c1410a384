from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stego_cli.data.dataset import Dataset, Sample
from stego_cli.data.survey import Depth, Look, Tally, coarse_to_fine, count_values, kind_of, look, spread


@given(st.lists(st.integers(-5, 70_000), min_size=1, max_size=40))
def test_values_are_counted_whatever_their_range(values: list[int]) -> None:
    counts = count_values(np.array([values], np.int64))
    assert counts == {value: values.count(value) for value in set(values)}


def test_an_empty_label_map_has_no_values() -> None:
    assert count_values(np.zeros((0, 3), np.int64)) == {}


@given(st.integers(0, 500), st.integers(1, 60))
def test_a_sample_is_in_order_distinct_and_evenly_spread(count: int, most: int) -> None:
    chosen = spread(count, most)
    assert len(chosen) == min(count, most)
    assert chosen == sorted(set(chosen))
    gaps = np.diff([-1, *chosen, count])
    if len(chosen) > 1:
        assert gaps[1:-1].max() - gaps[1:-1].min() <= 1


@given(st.integers(0, 300), st.integers(1, 300))
def test_one_may_stop_anywhere_and_has_looked_everywhere(count: int, stop: int) -> None:
    order = list(coarse_to_fine(range(count)))
    assert sorted(order) == list(range(count))
    seen = sorted(order[:stop])
    if 0 < stop <= count:
        longest = max(np.diff([*seen, count]))
        assert longest <= 4 * count / stop


@pytest.mark.parametrize(
    ("name", "array", "mode", "kind"),
    [
        ("a.jpg", np.zeros((4, 6, 3), np.uint8), None, "JPEG, RGB"),
        ("a.jpg", np.zeros((4, 6), np.uint8), None, "JPEG, grey"),
        ("a.png", np.zeros((4, 6, 4), np.uint8), None, "PNG, RGB with opacity"),
        ("a.png", np.zeros((4, 6), np.uint16), None, "PNG, 16-bit grey"),
        ("a.png", np.zeros((4, 6, 3), np.uint8), "P", "PNG, palette"),
        ("a.tif", np.zeros((4, 6, 3), np.uint8), "CMYK", "TIFF, CMYK"),
        ("a.tif", np.zeros((4, 6), np.float32), None, "TIFF, floating-point grey"),
        ("a.jpg", np.zeros((4, 6, 3), np.uint8), "png under another name", "PNG, RGB"),
    ],
)
def test_formats_are_told_from_the_header(tmp_path: Path, name: str, array: Any, mode: str | None, kind: str) -> None:
    image = Image.fromarray(array)
    named = mode is not None and mode.startswith("png")
    (image.convert(mode) if mode and not named else image).save(tmp_path / name, format="PNG" if named else None)
    assert kind_of(tmp_path / name, (4, 6)) == kind


def test_very_large_images_are_not_opened_for_their_format(tmp_path: Path) -> None:
    assert kind_of(tmp_path / "not there.png", (40_000, 40_000)) == "PNG, very large"


def made(tmp_path: Path) -> Dataset:
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.full((4, 6), 3, np.uint8)).save(tmp_path / "label.png")
    samples = (Sample("a.png", tmp_path / "a.png", tmp_path / "label.png"), Sample("b.png", tmp_path / "b.png"))
    return Dataset("d", "d", "train", tmp_path, samples)


def test_how_closely_one_looks_decides_what_is_seen(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    header = look(dataset, 0, Depth())
    assert (header.size, header.label_size, header.values, header.digest) == ((4, 6), (4, 6), {}, b"")
    full = look(dataset, 0, Depth(pixels=True, values=True, digest=True))
    assert (full.size, full.label_size, full.values, len(full.digest)) == ((4, 6), (4, 6), {3: 24}, 32)


def test_what_is_wrong_is_an_answer_without_name_and_hint(tmp_path: Path) -> None:
    seen = look(made(tmp_path), 1, Depth(pixels=True, digest=True))
    assert (seen.size, seen.image_error, seen.digest) == (None, "there is no such file", b"")


def test_a_tally_adds_up_and_keeps_the_first_example() -> None:
    tally = Tally()
    tally.add(Look(4, Depth(values=True), (4, 6), "JPEG, RGB", label_size=(4, 6), values={0: 20, 9: 4}))
    tally.add(Look(7, Depth(values=True), (8, 6), "JPEG, RGB", label_size=(4, 6), values={9: 24}))
    tally.add(Look(8, Depth(), image_error="empty"))
    assert (tally.headers, tally.maps, tally.decoded) == (3, 2, 0)
    assert (tally.values[9].pixels, tally.values[9].maps, tally.values[9].example) == (28, 2, 4)
    assert tally.mismatches == {7: ((4, 6), (8, 6))}
    assert tally.image_errors == {8: "empty"}
    assert (tally.kinds["JPEG, RGB"].images, tally.kinds["JPEG, RGB"].example) == (2, 4)


def test_a_closer_look_at_one_image_counts_it_once() -> None:
    tally = Tally()
    tally.add(Look(0, Depth(), (4, 6), "PNG, 16-bit grey"))
    tally.add_pixels(Look(0, Depth(pixels=True), (4, 6), "PNG, 16-bit grey", ("scaled",)))
    assert (tally.headers, tally.decoded, tally.kinds["PNG, 16-bit grey"].notes) == (1, 1, ("scaled",))
    tally.add_pixels(Look(0, Depth(pixels=True), image_error="cut short"))
    assert tally.image_errors == {0: "cut short"}


def test_sizes_are_ordered_by_area() -> None:
    tally = Tally()
    for index, size in enumerate([(10, 10), (1, 90), (10, 10), (30, 30)]):
        tally.add(Look(index, Depth(), size, "k"))
    assert [tally.size_at(share) for share in (0.0, 0.5, 1.0)] == [(1, 90), (10, 10), (30, 30)]
    with pytest.raises(ValueError, match="no image"):
        Tally().size_at(0.5)
