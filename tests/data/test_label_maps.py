"""The kinds of label maps that are read, and what is refused."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from stego_cli.data.label_maps import LABEL_SUFFIXES, UNFIT_SUFFIXES, read_label_map
from stego_cli.errors import ImageError

IDS = np.array([[0, 1, 2], [2, 255, 7]], dtype=np.uint8)


def test_a_palette_image_gives_its_indices_not_its_colours(tmp_path: Path) -> None:
    picture = Image.fromarray(IDS)
    picture.putpalette([200, 100, 50] * 256)  # all colours equal: only the indices tell the classes apart
    picture.save(tmp_path / "p.png")
    ids = read_label_map(tmp_path / "p.png")
    assert ids.dtype == np.int64
    np.testing.assert_array_equal(ids, IDS)


@pytest.mark.parametrize("suffix", LABEL_SUFFIXES)
def test_every_format_that_folders_are_searched_for_is_read(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(IDS).save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read_label_map(tmp_path / f"a{suffix}"), IDS)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32], ids=["8 bits", "16 bits", "32 bits"])
def test_grey_images_give_their_values(tmp_path: Path, dtype: type[np.integer]) -> None:
    values = IDS.astype(dtype) if dtype is np.uint8 else IDS.astype(dtype) * 257
    path = tmp_path / ("a.tif" if dtype is np.int32 else "a.png")
    Image.fromarray(values).save(path)
    np.testing.assert_array_equal(read_label_map(path), values)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_levels_of_few_bits_are_not_spread_over_the_8_bit_range(tmp_path: Path, bits: int) -> None:
    """Written by hand: an image reader shows 15 of 15 as white, but the label is 15."""
    values = np.arange(8).reshape(1, 8) % 2**bits
    strings = "".join(f"{value:0{bits}b}" for value in values[0])
    row = b"\0" + bytes(int(strings[i : i + 8], 2) for i in range(0, len(strings), 8))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 8, 1, bits, 0, 0, 0, 0)), (b"IDAT", zlib.compress(row)), (b"IEND", b"")]
    content = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png"), values)


def test_black_and_white_is_zero_and_one(tmp_path: Path) -> None:
    Image.fromarray(IDS > 1).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png"), IDS > 1)


def test_whole_numbers_stored_as_decimals_are_read_and_fractions_refused(tmp_path: Path) -> None:
    Image.fromarray(IDS.astype(np.float32)).save(tmp_path / "whole.tif")
    Image.fromarray(IDS.astype(np.float32) / 2).save(tmp_path / "halves.tif")
    np.testing.assert_array_equal(read_label_map(tmp_path / "whole.tif"), IDS)
    with pytest.raises(ImageError, match=r"(?s)halves\.tif.* fractions.*hint: .*whole numbers"):
        read_label_map(tmp_path / "halves.tif")


def test_a_matlab_file_gives_its_variable_gt(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"gt": IDS, "img": IDS[:, :1]})
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.mat"), IDS)
    savemat(tmp_path / "b.mat", {"gt": np.zeros((2, 2, 2))})
    with pytest.raises(ImageError, match=r"label map `.*b\.mat`.* 3 axes[^$]*hint: .*one number per pixel"):
        read_label_map(tmp_path / "b.mat")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colours_are_no_class_ids(tmp_path: Path, mode: str) -> None:
    Image.fromarray(IDS).convert(mode).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=rf"a\.png.* {mode} colours[^$]*hint: .*one channel"):
        read_label_map(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", sorted(UNFIT_SUFFIXES))
def test_formats_that_change_values_are_refused_whatever_they_are_called(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(IDS).save(tmp_path / f"a{suffix}")
    (tmp_path / f"a{suffix}").rename(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"JPEG, WebP or GIF[^$]*hint: write label maps as PNG"):
        read_label_map(tmp_path / "a.png")


@pytest.mark.parametrize("keep", [0, 20, 60])
def test_a_damaged_label_map_is_named(tmp_path: Path, keep: int) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (40, 40), dtype=np.uint8)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:keep])
    with pytest.raises(ImageError, match=r"label map `.*cut\.png`.* cannot be read[^$]*hint: "):
        read_label_map(tmp_path / "cut.png")


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "folder.png").mkdir()
    for name, words in (("none.png", "no such file"), ("link.png", "no such file"), ("folder.png", "a folder")):
        with pytest.raises(ImageError, match=rf"{name}.*{words}[^$]*hint: "):
            read_label_map(tmp_path / name)


def test_a_postscript_file_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 2\n")
    with pytest.raises(ImageError, match="no PNG, TIFF or BMP"):
        read_label_map(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_label_map_may_be_as_large_as_an_image(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's own limit is a setting of the whole process; here it is far below the size of the picture."""
    Image.fromarray(np.tile(IDS, (20, 20))).save(tmp_path / f"a{suffix}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_label_map(tmp_path / f"a{suffix}").shape == (40, 60)
