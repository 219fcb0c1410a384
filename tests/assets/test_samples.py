"""The sample photographs are small, readable, and each has its source and licence beside it."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest
from PIL import Image, ImageOps

SAMPLES = Path(str(files("stego_cli"))) / "assets" / "samples"
NAMES = sorted(path.name for path in SAMPLES.glob("*.jpg"))


def test_every_picture_and_no_other_has_a_line_with_source_and_licence() -> None:
    lines = [line.split("|") for line in (SAMPLES / "LICENCES.md").read_text("utf-8").splitlines()]
    table = {
        name: cells for cells in lines if len(cells) > 4 and (name := cells[1].strip().strip("`")).endswith(".jpg")
    }
    assert sorted(table) == NAMES
    for name, cells in table.items():
        assert re.fullmatch(r"CC0 1\.0|public domain", cells[4].strip()), name
        assert cells[3].strip(), name


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_a_small_jpeg(name: str) -> None:
    with Image.open(SAMPLES / name) as picture:
        picture.load()
        assert picture.format == "JPEG"
        assert 250 <= max(picture.size) <= 640
        assert set(picture.getexif()) <= {0x0112}, "no camera data beyond the orientation"


def test_all_together_stay_below_half_a_megabyte() -> None:
    assert 0 < sum((SAMPLES / name).stat().st_size for name in NAMES) < 500_000


def test_there_are_odd_ones_among_them() -> None:
    modes, turned = set(), 0
    for name in NAMES:
        with Image.open(SAMPLES / name) as picture:
            modes.add(picture.mode)
            turned += ImageOps.exif_transpose(picture).size != picture.size
    assert modes == {"L", "RGB"}
    assert turned == 1
