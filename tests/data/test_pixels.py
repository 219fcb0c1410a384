"""Pixels of any kind become 8-bit RGB: arrays, Pillow images of every mode, deep numbers, opacity."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from stego_cli.data.pixels import Bands, from_array, from_pil, to_rgb
from stego_cli.errors import ImageError

GREY = "grey: the same values in all three channels"


def rgb(height: int = 5, width: int = 7) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_rgb_is_left_alone() -> None:
    image = from_array(rgb())
    np.testing.assert_array_equal(image.pixels, rgb())
    assert image.notes == ()


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1)])
def test_grey_fills_three_channels(shape) -> None:
    values = rgb()[:, :, 0].reshape(shape)
    image = from_array(values)
    assert image.notes == (GREY,)
    for channel in range(3):
        np.testing.assert_array_equal(image.pixels[:, :, channel], values.reshape(5, 7))


def test_black_and_white() -> None:
    image = from_array(np.array([[True, False]]))
    assert image.pixels[0, :, 0].tolist() == [255, 0]


def test_floats_between_0_and_1_are_rounded() -> None:
    values = np.array([[0.0, 0.5, 1.0, 1 / 255, 1.0005]], np.float32)
    assert from_array(values).pixels[0, :, 0].tolist() == [0, 128, 255, 1, 255]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_all_floats_of_bytes_come_back_exactly(kind) -> None:
    values = np.arange(256, dtype=np.uint8)[None]
    np.testing.assert_array_equal(from_array((values / 255).astype(kind)).pixels[:, :, 0], values)


@pytest.mark.parametrize(
    ("largest", "depth"), [(65535, 16), (16384, 16), (16383, 14), (4095, 12), (1500, 12), (1023, 10), (256, 10)]
)
def test_deep_numbers_are_read_by_the_depth_they_fill(largest, depth) -> None:
    values = np.array([[0, largest // 2, largest]], np.uint16)
    image = from_array(values)
    top = 2**depth - 1
    assert image.pixels[0, :, 0].tolist() == [int(value * 255 / top + 0.5) for value in values[0].tolist()]
    assert image.notes[-1] == f"values up to {largest} read as {depth}-bit, scaled to 8 bits"
    assert image.pixels.max() >= 63  # never black


def test_bytes_in_deep_numbers_keep_their_values() -> None:
    image = from_array(np.array([[0, 200]], np.uint16))
    assert image.pixels[0, :, 0].tolist() == [0, 200]
    assert image.notes[-1] == "values up to 200 read as 8-bit, kept as they are"


def test_opacity_is_shown_over_white() -> None:
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 100, 255, 128]]], np.uint8)
    image = from_array(pixels)
    assert image.pixels.tolist() == [[[10, 20, 30], [255, 255, 255], [127, 177, 255]]]
    assert image.notes == ("transparent parts shown over white",)


def test_opacity_that_hides_nothing_is_dropped() -> None:
    pixels = np.dstack([rgb(), np.full((5, 7), 255, np.uint8)])
    image = from_array(pixels)
    np.testing.assert_array_equal(image.pixels, rgb())
    assert image.notes == ("alpha channel dropped, everything is opaque",)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 20, 30), np.uint8), r"3x20x30 has 30 channels.*moveaxis"),
        (np.zeros((20, 30, 5), np.uint8), r"5 channels.*pick three bands"),
        (np.zeros((2, 20, 30, 3), np.uint8), "2x20x30x3 is not one image"),
        (np.zeros(7, np.uint8), "7 is not one image"),
        (np.zeros((0, 5, 3), np.uint8), "0x5x3 is not one image"),
        (np.array(3), "not one image"),
        (np.zeros((4, 4, 3), np.int64), r"int64.*astype\(np.uint8\)"),
        (np.zeros((4, 4, 3), complex), "complex128"),
        (np.array([["a", "b"]]), "not understood"),
        (np.full((4, 4, 3), np.nan), "NaN"),
        (np.full((4, 4, 3), np.inf), "NaN or infinite"),
        (np.full((4, 4, 3), 200.0), r"from 200 to 200.*array / 255"),
        (np.full((4, 4, 3), -1.5), r"from -1\.5.*normalisation"),
    ],
)
def test_arrays_that_are_no_image_are_refused_with_what_to_do(array, words) -> None:
    with pytest.raises(ImageError, match=rf"(?s){words}") as caught:
        from_array(array)
    assert "\n\nhint: " in str(caught.value)


def test_three_rows_of_rgb_are_no_channels_first() -> None:
    assert from_array(np.zeros((3, 20, 3), np.uint8)).pixels.shape == (3, 20, 3)


@pytest.mark.parametrize(
    ("mode", "notes"),
    [
        ("RGB", ()),
        ("RGBX", ()),
        ("L", (GREY,)),
        ("1", (GREY, "black and white")),
        ("P", ("palette colours converted to RGB",)),
        ("CMYK", ("CMYK (print) colours converted to RGB",)),
        ("YCbCr", ("YCbCr colours converted to RGB",)),
        ("LAB", ("Lab colours converted to RGB",)),
        ("HSV", ("HSV colours converted to RGB",)),
        ("RGBA", ("alpha channel dropped, everything is opaque",)),
        ("RGBa", ("alpha channel dropped, everything is opaque",)),
        ("LA", (GREY, "alpha channel dropped, everything is opaque")),
        ("La", (GREY, "alpha channel dropped, everything is opaque")),
        ("PA", ("palette colours converted to RGB", "alpha channel dropped, everything is opaque")),
        ("I", (GREY, "values up to 200 read as 8-bit, kept as they are")),
        ("I;16", (GREY, "values up to 200 read as 8-bit, kept as they are")),
        ("I;16B", (GREY, "values up to 200 read as 8-bit, kept as they are")),
        ("F", (GREY, "values from 200 to 200 stretched over the 8-bit range")),
    ],
)
def test_every_mode_of_pillow(mode, notes) -> None:
    grey = Image.new("L", (6, 4), 200)
    through = {"RGBa": ["RGBA"], "La": ["LA"], "PA": ["P"], "LAB": [], "HSV": ["RGB"], "I;16B": ["I"], "CMYK": ["RGB"]}
    image = grey
    for step in through.get(mode, []):
        image = image.convert(step)
    image = Image.new("LAB", (6, 4), (200, 128, 128)) if mode == "LAB" else image.convert(mode)
    assert image.mode == mode
    loaded = from_pil(image)
    assert loaded.pixels.shape == (4, 6, 3)
    assert loaded.notes == notes
    if mode not in {"1", "F", "LAB"}:
        assert abs(loaded.pixels.astype(int) - 200).max() <= 2


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("transparency", [3, bytes([255, 255, 255, 0] + [255] * 252)])
def test_palette_with_transparency(transparency) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30] * 256)
    image.putpixel((1, 0), 3)
    image.info["transparency"] = transparency
    loaded = from_pil(image)
    assert loaded.pixels.tolist() == [[[10, 20, 30], [255, 255, 255]]]
    assert loaded.notes == ("palette colours converted to RGB", "transparent parts shown over white")


@pytest.mark.parametrize(("mode", "colour"), [("L", 7), ("RGB", (7, 7, 7))])
def test_one_transparent_colour(mode, colour) -> None:
    image = Image.new(mode, (2, 1))
    image.putpixel((1, 0), colour)
    image.info["transparency"] = colour
    assert from_pil(image).pixels.tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_pil_image_without_pixels_or_with_a_broken_file(tmp_path) -> None:
    with pytest.raises(ImageError, match="0x5"):
        from_pil(Image.new("RGB", (5, 0)))
    path = tmp_path / "a.bmp"
    Image.fromarray(rgb(50, 50)).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    with Image.open(path) as image, pytest.raises(ImageError, match=r"truncated.*\n\nhint: "):
        from_pil(image)


def test_signed_and_wide_numbers_are_stretched() -> None:
    for kind in (np.int16, np.int32, np.int64, np.float32):
        image = to_rgb(Bands(np.array([[[-1000], [0], [1000]]], kind)))
        assert image.pixels[0, :, 0].tolist() == [0, 128, 255]
        assert image.notes[-1] == "values from -1000 to 1000 stretched over the 8-bit range"


def test_wide_numbers_keep_small_differences() -> None:
    image = to_rgb(Bands(np.array([[[2**31], [2**31 + 5], [2**31 + 10]]], np.uint32)))
    assert image.pixels[0, :, 0].tolist() == [0, 128, 255]


def test_missing_values_do_not_decide_the_brightness() -> None:
    values = np.array([[[10.0], [20.0], [np.nan], [-9999.0], [np.inf]]], np.float32)
    image = to_rgb(Bands(values, no_data=-9999))
    assert image.pixels[0, :, 0].tolist() == [0, 255, 0, 0, 0]
    assert image.notes[1:] == (
        "60.0% of the values are missing (no data) and shown black",
        "values from 10 to 20 stretched over the 8-bit range",
    )


def test_an_image_of_nothing_but_missing_values_is_black() -> None:
    image = to_rgb(Bands(np.full((2, 2, 3), np.nan)))
    assert image.pixels.max() == 0
    assert "100.0% of the values are missing" in image.notes[0]


@given(arrays.arrays(np.float64, (2, 3, 1), elements=st.floats(width=64)))
@settings(deadline=None)
def test_any_floats_give_an_image(values) -> None:
    assert to_rgb(Bands(values)).pixels.shape == (2, 3, 3)


def test_the_first_three_of_many_bands_or_the_chosen_ones() -> None:
    values = np.arange(6, dtype=np.uint8)[None, None]
    first = to_rgb(Bands(values))
    assert first.pixels.tolist() == [[[0, 1, 2]]]
    assert first.notes == ("6 bands: the first three used as red, green, blue",)
    chosen = to_rgb(Bands(values), (6, 4, 1))
    assert chosen.pixels.tolist() == [[[5, 3, 0]]]
    assert chosen.notes == ("bands 6, 4, 1 used as red, green, blue",)


@pytest.mark.parametrize("bands", [(0, 1, 2), (1, 2, 7), (-1, 1, 1)])
def test_bands_that_are_not_there(bands) -> None:
    with pytest.raises(ImageError, match=r"there are 6\n\nhint: choose three from 1 to 6"):
        to_rgb(Bands(np.zeros((1, 1, 6), np.uint8)), bands)


def test_two_bands_are_grey() -> None:
    image = to_rgb(Bands(np.array([[[9, 200]]], np.uint8)))
    assert image.pixels.tolist() == [[[9, 9, 9]]]
    assert image.notes == (GREY, "2 bands: the first one used")
