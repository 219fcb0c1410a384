"""MATLAB files: what SciPy writes is read, everything else is refused in words, and nothing ends the process."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from stego_cli.data.matlab import matlab_image_size, read_matlab_image, read_variable
from stego_cli.errors import ImageError

RGBI = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8", "u8", "i8"])
def test_numbers_come_out_as_scipy_reads_them(tmp_path: Path, dtype: str, compressed: bool) -> None:
    values = (RGBI // 2).astype(dtype)
    savemat(tmp_path / "a.mat", {"other": [[1, 2]], "gt": values[:, :, 0], "img": values}, do_compression=compressed)
    for key in ("img", "gt"):
        found = read_variable(tmp_path / "a.mat", key)
        np.testing.assert_array_equal(found, loadmat(tmp_path / "a.mat")[key])
        assert found.dtype.isnative


def test_a_file_of_a_big_endian_machine(tmp_path: Path) -> None:
    """Written by hand: SciPy writes the byte order of the machine it runs on."""
    data = np.array([[1, 2, 3], [4, 5, 600]], ">u2")
    body = struct.pack(">IIII", 6, 8, 11, 0) + struct.pack(">IIii", 5, 8, 2, 3)
    body += struct.pack(">HH4s", 2, 1, b"gt") + struct.pack(">II", 4, 12) + data.tobytes(order="F") + bytes(4)
    content = b"MATLAB 5.0".ljust(124) + b"\x01\x00MI" + struct.pack(">II", 14, len(body)) + body
    (tmp_path / "a.mat").write_bytes(content)
    np.testing.assert_array_equal(loadmat(tmp_path / "a.mat")["gt"], data)  # SciPy agrees that it is such a file
    np.testing.assert_array_equal(read_variable(tmp_path / "a.mat", "gt"), data)


def test_logical_arrays_and_short_ones_inside_their_tag(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"gt": np.array([[True, False]]), "img": np.array([[3, 4]], np.uint8)})
    np.testing.assert_array_equal(read_variable(tmp_path / "a.mat", "gt"), [[1, 0]])
    np.testing.assert_array_equal(read_variable(tmp_path / "a.mat", "img"), [[3, 4]])


def test_the_first_three_bands_are_the_image_unless_others_are_chosen(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"img": RGBI})
    np.testing.assert_array_equal(read_matlab_image(tmp_path / "a.mat").pixels, RGBI[:, :, :3])
    np.testing.assert_array_equal(read_matlab_image(tmp_path / "a.mat", (4, 1, 2)).pixels, RGBI[:, :, [3, 0, 1]])
    assert matlab_image_size(tmp_path / "a.mat") == (5, 7)
    with pytest.raises(ImageError, match=r"a\.mat.*band 5 was asked for"):
        read_matlab_image(tmp_path / "a.mat", (5, 1, 2))


def test_a_grey_image_has_three_equal_channels(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"img": RGBI[:, :, 0]})
    np.testing.assert_array_equal(read_matlab_image(tmp_path / "a.mat").pixels, RGBI[:, :, [0, 0, 0]])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.array([["a", {"b": 1}]], dtype=object), "no array of numbers"),
        ({"field": 1}, "no array of numbers"),
        ("text", "no array of numbers"),
        (np.array([[1 + 2j]]), "no array of numbers"),
        (np.zeros((2, 2, 65)), "shape 2x2x65"),
        (np.zeros((2, 2, 2, 2)), "shape 2x2x2x2"),
        (np.zeros((0, 3)), "no pixels"),
    ],
    ids=["cells", "structure", "text", "complex", "many bands", "four axes", "empty"],
)
def test_only_small_arrays_of_real_numbers_are_read(tmp_path: Path, value: object, words: str) -> None:
    savemat(tmp_path / "a.mat", {"img": value})
    with pytest.raises(ImageError, match=rf"(?s)cannot read image `.*a\.mat`: .*{words}.*hint: "):
        read_matlab_image(tmp_path / "a.mat")


def test_a_variable_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"picture": RGBI})
    with pytest.raises(ImageError, match=r"(?s)no variable `img`, only picture.*hint: .*under the name `img`"):
        read_matlab_image(tmp_path / "a.mat")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n", r"version 7\.3.*option '-v7'"),
        (b"\x89HDF\r\n\x1a\n".ljust(600), r"version 7\.3"),
        (b"<!DOCTYPE html>".ljust(300), "no MATLAB file"),
        (b"short", "no MATLAB file"),
        (b"", "empty"),
    ],
    ids=["v7.3", "HDF5", "web page", "short", "empty"],
)
def test_other_files_are_told_apart(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(ImageError, match=rf"(?s)a\.mat.*{words}"):
        read_matlab_image(tmp_path / "a.mat")


def test_a_size_that_would_fill_the_memory_is_refused_before_anything_is_unpacked(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"img": np.zeros((2, 3), np.uint8)})
    content = (tmp_path / "a.mat").read_bytes()
    sides = struct.pack("=ii", 2, 3)
    assert content.count(sides) == 1
    (tmp_path / "a.mat").write_bytes(content.replace(sides, struct.pack("=ii", 2**30, 2**30)))
    for read in (read_matlab_image, matlab_image_size):
        with pytest.raises(ImageError, match="too large"):
            read(tmp_path / "a.mat")


def test_a_flipped_bit_in_compressed_numbers_is_noticed(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"img": RGBI}, do_compression=True)
    content = bytearray((tmp_path / "a.mat").read_bytes())
    content[-1] ^= 1  # the sum at the end of the stream
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(ImageError, match="damaged"):
        read_matlab_image(tmp_path / "a.mat")


@settings(max_examples=300)
@given(seed=st.integers(0, 2**32), compressed=st.booleans())
def test_damaged_files_are_refused_in_words_or_give_numbers(tmp_path_factory, seed: int, compressed: bool) -> None:
    """Among these are the ones that end the process when SciPy reads them."""
    folder, chance = tmp_path_factory.getbasetemp(), random.Random(seed)
    path = folder / "damaged.mat"
    savemat(path, {"img": RGBI, "cell": np.array([[1, "x"]], dtype=object)}, do_compression=compressed)
    content = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 2, 4])):
        place = chance.randrange(100, min(len(content), chance.choice([220, 1000])))
        content[place] = chance.randrange(256)
    if chance.random() < 0.2:
        del content[chance.randrange(len(content)) :]
    path.write_bytes(content)
    try:
        words = f"hint: {read_variable(path, 'img').shape}"
    except ImageError as error:
        words = str(error)
    assert "hint: " in words
