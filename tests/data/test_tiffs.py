"""TIFF files of science and maps: many bands, deep numbers, planes, missing values."""

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from stego_cli.data.images import image_size, read_image
from stego_cli.errors import ImageError

RANDOM = np.random.default_rng(0)
NO_DATA = 42113


def written(path, values, **layout):
    tifffile.imwrite(path, values, **layout)
    return path


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("bands", [5, 7, 12])
def test_many_bands(tmp_path, planes, bands) -> None:
    values = RANDOM.integers(0, 256, (11, 17, bands)).astype(np.uint8)
    stored = values if planes == "contig" else np.moveaxis(values, -1, 0)
    path = written(tmp_path / "a.tif", stored, photometric="minisblack", planarconfig=planes)
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, values[:, :, :3])
    assert image.notes == (f"{bands} bands: the first three used as red, green, blue",)
    assert image_size(path) == (11, 17)
    np.testing.assert_array_equal(read_image(path, bands=(bands, 4, 1)).pixels, values[:, :, [bands - 1, 3, 0]])


def test_extra_bands_of_an_rgb_tiff_are_dropped_and_can_be_chosen(tmp_path) -> None:
    values = RANDOM.integers(0, 256, (11, 17, 5)).astype(np.uint8)
    path = written(tmp_path / "a.tif", values, photometric="rgb", extrasamples=[0, 0])
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, values[:, :, :3])
    assert image.notes == ("5 bands: the first 3 used",)
    np.testing.assert_array_equal(read_image(path, bands=(5, 4, 3)).pixels, values[:, :, [4, 3, 2]])


@pytest.mark.parametrize("layout", [{}, {"compression": "zlib"}, {"byteorder": ">"}, {"planarconfig": "separate"}])
@pytest.mark.parametrize("top", [4095, 65535])
def test_deep_colours_keep_all_their_bits(tmp_path, layout, top) -> None:
    values = RANDOM.integers(0, top + 1, (11, 17, 3)).astype(np.uint16)
    values[0, 0, 0] = top
    stored = np.moveaxis(values, -1, 0) if "planarconfig" in layout else values
    image = read_image(written(tmp_path / "a.tif", stored, photometric="rgb", **layout))
    np.testing.assert_array_equal(image.pixels, np.floor(values * (255 / top) + 0.5).astype(np.uint8))
    depth = {4095: 12, 65535: 16}[top]
    assert image.notes == (f"values up to {top} read as {depth}-bit, scaled to 8 bits",)


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_deep_grey(tmp_path, byteorder) -> None:
    values = np.array([[0, 4095, 819]], np.uint16)
    image = read_image(written(tmp_path / "a.tif", values, photometric="minisblack", byteorder=byteorder))
    assert image.pixels[0, :, 0].tolist() == [0, 255, 51]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bands", [1, 3, 6])
def test_floats(tmp_path, kind, bands) -> None:
    values = RANDOM.random((11, 17, bands)).astype(kind)
    values[0, 0] = 0.5
    layout = {"planarconfig": "contig"} if bands > 1 else {}
    image = read_image(written(tmp_path / "a.tif", values.squeeze(), photometric="minisblack", **layout))
    assert abs(image.pixels - values[:, :, : min(bands, 3)].astype(float) * 255).max() <= 0.51
    assert image.notes[-1] == "decimal numbers between 0 and 1 scaled to 8 bits"


@pytest.mark.parametrize("bands", [1, 3])
def test_missing_values_of_maps(tmp_path, bands) -> None:
    values = RANDOM.random((10, 10, bands)).astype(np.float32) * 1000
    values[:3] = -9999
    values[3] = np.nan
    photometric = {1: "minisblack", 3: "rgb"}[bands]
    path = written(
        tmp_path / "a.tif", values.squeeze(), photometric=photometric, extratags=[(NO_DATA, 2, 0, "-9999", True)]
    )
    image = read_image(path)
    assert "40.0% of the values are missing (no data) and shown black" in image.notes
    assert image.pixels[:4].max() == 0
    assert image.pixels[4:].max() == 255


def test_a_no_data_value_does_not_hide_that_numbers_are_12_bit(tmp_path) -> None:
    values = np.array([[0, 4095, 65535]], np.uint16)
    path = written(tmp_path / "a.tif", values, photometric="minisblack", extratags=[(NO_DATA, 2, 0, "65535", True)])
    assert read_image(path).pixels[0, :, 0].tolist() == [0, 255, 0]


def raw_tiff(path, values: np.ndarray, extra_samples: int | None):
    """Write RGB with a fourth band by hand: tifffile always says what that is."""
    height, width, bands = values.shape
    tags = [(256, width), (257, height), (258, 0), (259, 1), (262, 2), (273, 0), (277, bands), (278, height)]
    tags += [(279, values.nbytes)] + ([(338, extra_samples)] if extra_samples is not None else [])
    after = 10 + 12 * len(tags) + 4
    directory = b"".join(
        struct.pack("<HHIHH", tag, 3, 4, after, 0)
        if tag == 258
        else struct.pack("<HHII", tag, 4, 1, after + 8 if tag == 273 else value)
        for tag, value in tags
    )
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4)
    path.write_bytes(head + struct.pack("<4H", 8, 8, 8, 8) + values.tobytes())
    return path


def test_a_fourth_band_is_opacity_only_if_the_file_says_so(tmp_path) -> None:
    values = np.zeros((2, 2, 4), np.uint8)
    values[..., 1] = 9  # and everything transparent, if the last band is opacity
    opacity = read_image(raw_tiff(tmp_path / "alpha.tif", values, 2))
    assert opacity.pixels.min() == 255
    assert opacity.notes == ("transparent parts shown over white",)
    for unsaid in (None, 0):  # near infrared, as in aerial photographs
        image = read_image(raw_tiff(tmp_path / f"{unsaid}.tif", values, unsaid))
        np.testing.assert_array_equal(image.pixels, values[:, :, :3])
        assert image.notes[0].startswith("4 bands: the first")


def test_deep_opacity(tmp_path) -> None:
    values = np.zeros((1, 2, 4), np.uint16)
    values[0, 0] = (0, 4095, 0, 65535)
    path = written(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["unassalpha"])
    assert read_image(path).pixels.tolist() == [[[0, 255, 0], [255, 255, 255]]]


def test_the_first_of_several_pages(tmp_path) -> None:
    values = RANDOM.random((3, 11, 17, 6)).astype(np.float32)
    path = written(tmp_path / "a.tif", values, photometric="minisblack", planarconfig="contig")
    image = read_image(path)
    assert image.notes[0] == "3 pictures in the file: the first one used"
    assert abs(image.pixels - values[0, :, :, :3] * 255).max() <= 0.51


def test_the_first_layer_of_a_volume(tmp_path) -> None:
    values = RANDOM.integers(0, 1000, (4, 16, 32), dtype=np.uint16)
    path = written(tmp_path / "a.tif", values, photometric="minisblack", volumetric=True, tile=(4, 16, 16))
    image = read_image(path, bands=None)
    assert image.pixels.shape == (16, 32, 3)
    assert image_size(path) == (16, 32)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_many_bands_are_turned_upright(tmp_path, orientation) -> None:
    values = RANDOM.integers(0, 256, (11, 17, 7)).astype(np.uint8)
    layout = {"photometric": "minisblack", "planarconfig": "contig"}
    path = written(tmp_path / "a.tif", values, extratags=[(274, 3, 1, orientation, True)], **layout)
    expected = np.rot90(values[:, :, :3], {1: 0, 3: 2, 6: -1, 8: 1}[orientation])
    np.testing.assert_array_equal(read_image(path).pixels, expected)
    assert image_size(path) == expected.shape[:2]


def test_compression_without_a_decoder_names_it_and_what_to_do(tmp_path, monkeypatch) -> None:
    # The codec is made to be missing; whether it is depends on what else is installed.
    monkeypatch.setattr(tifffile.TIFF.DECOMPRESSORS, "_codecs", {})
    path = written(tmp_path / "a.tif", np.zeros((8, 8, 7), np.uint8), photometric="minisblack", planarconfig="contig")
    content = bytearray(path.read_bytes())
    place = content.index(struct.pack("<HHI", 259, 3, 1)) + 8
    content[place : place + 2] = struct.pack("<H", 5)  # LZW
    path.write_bytes(content)
    monkeypatch.setattr(tifffile.tifffile, "imagecodecs", object())
    with pytest.raises(
        ImageError, match=r"7 band\(s\) of 8 bits with LZW compression.*\n\nhint: `pip install imagecodecs`"
    ):
        read_image(path)
    assert image_size(path) == (8, 8)


def test_complex_numbers_are_refused(tmp_path) -> None:
    path = written(tmp_path / "a.tif", np.zeros((8, 8), np.complex64), photometric="minisblack")
    with pytest.raises(ImageError, match=r"complex64\n\nhint: "):
        read_image(path)


def test_chosen_bands_of_an_ordinary_compressed_tiff_need_no_other_package(tmp_path) -> None:
    pixels = RANDOM.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", bands=(3, 3, 1)).pixels, pixels[:, :, [2, 2, 0]])
    with pytest.raises(ImageError, match="there are 3"):
        read_image(tmp_path / "a.tif", bands=(1, 2, 4))
