"""Image files: every kind that is read, what is said about it, and threads."""

import logging
import os
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stego_cli.data.images import IMAGE_SUFFIXES, from_pil, image_size, load_image, read_image
from stego_cli.errors import ImageError

ORIENTATION = 274
# What the camera's picture must go through to be upright, in NumPy's words.
TURNS = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: np.rot90(np.fliplr(image)),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(np.fliplr(image), -1),
    8: np.rot90,
}


@pytest.fixture(autouse=True)
def _warnings_are_errors(recwarn):
    """Nothing here may warn: in a run that would be printed between the progress bars."""
    yield
    assert [str(warning.message) for warning in recwarn] == []


@pytest.fixture
def picture() -> np.ndarray:
    """A small RGB image, smooth enough for lossy formats, and different in every corner."""
    rows, columns = np.mgrid[0:24, 0:40]
    return np.stack([rows * 10, columns * 6, 255 - rows * 4 - columns * 3], axis=2).astype(np.uint8)


def saved(folder: Path, name: str, image: Image.Image | np.ndarray, **options) -> Path:
    path = folder / name
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("a.png", {}, 0),
        ("a.bmp", {}, 0),
        ("a.ppm", {}, 0),
        ("a.tif", {}, 0),
        ("lzw.tiff", {"compression": "tiff_lzw"}, 0),
        ("deflate.tif", {"compression": "tiff_deflate"}, 0),
        ("jpeg.tif", {"compression": "jpeg", "quality": 95}, 12),
        ("big.tif", {"big_tiff": True}, 0),
        ("a.webp", {"lossless": True}, 0),
        ("lossy.webp", {"quality": 95}, 12),
        ("a.jpg", {"quality": 95, "subsampling": 0}, 12),
        ("progressive.jpeg", {"quality": 95, "subsampling": 0, "progressive": True}, 12),
    ],
)
def test_ordinary_images_are_read_as_they_are(tmp_path, picture, name, options, error) -> None:
    path = saved(tmp_path, name, picture, **options)
    image = read_image(path)
    assert abs(image.pixels.astype(int) - picture).max() <= error
    assert image.pixels.dtype == np.uint8
    assert image.pixels.flags.c_contiguous
    assert image.notes == ()
    assert image_size(path) == (24, 40)
    assert path.suffix in IMAGE_SUFFIXES


def test_the_content_decides_not_the_name(tmp_path, picture) -> None:
    path = saved(tmp_path, "really_a_png.jpg", picture, format="PNG")
    np.testing.assert_array_equal(read_image(path).pixels, picture)


def test_real_photographs_are_read_as_pillow_reads_them(testdata) -> None:
    for path in sorted((testdata / "photos").iterdir())[:5]:
        with Image.open(path) as image:
            np.testing.assert_array_equal(read_image(path).pixels, np.array(image))
            assert image_size(path) == (image.height, image.width)


def test_gif_is_read_by_its_palette(tmp_path, picture) -> None:
    image = read_image(saved(tmp_path, "a.gif", Image.fromarray(picture).quantize(200)))
    assert image.notes == ("palette colours converted to RGB",)
    assert abs(image.pixels.astype(int) - picture).mean() < 4


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "lzw.tif", "a.jpg"])
def test_photographs_are_turned_upright(tmp_path, picture, orientation, name) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"a.jpg": {"quality": 100, "subsampling": 0}, "a.webp": {"lossless": True}}.get(name, {})
    options |= {"compression": "tiff_lzw"} if name == "lzw.tif" else {}
    path = saved(tmp_path, name, picture, exif=exif, **options)
    image = read_image(path)
    expected = TURNS[orientation](picture)
    assert image.pixels.shape == expected.shape
    assert abs(image.pixels.astype(int) - expected).max() <= (8 if name == "a.jpg" else 0)
    assert image_size(path) == expected.shape[:2]
    assert image.notes == (() if orientation == 1 else ("turned upright by its EXIF orientation",))
    with Image.open(path) as opened:
        np.testing.assert_array_equal(from_pil(opened).pixels, image.pixels)


def test_damaged_exif_does_not_cost_the_picture(tmp_path, picture) -> None:
    path = saved(tmp_path, "a.jpg", picture, exif=b"Exif\0\0nonsense")
    assert read_image(path).pixels.shape == picture.shape
    assert image_size(path) == (24, 40)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_the_first_of_several_pictures_is_used(tmp_path, picture, name) -> None:
    more = [Image.fromarray(255 - picture), Image.fromarray(picture // 2)]
    options = {"lossless": True} if name == "a.webp" else {}
    image = read_image(saved(tmp_path, name, picture, save_all=True, append_images=more, **options))
    assert "3 pictures in the file: the first one used" in image.notes
    assert abs(image.pixels.astype(int) - picture).mean() < (4 if name == "a.gif" else 0.01)


def test_a_damaged_second_picture_does_not_cost_the_first(tmp_path, picture) -> None:
    path = saved(tmp_path, "a.tif", picture, save_all=True, append_images=[Image.fromarray(255 - picture)])
    with Image.open(path) as image:
        image.seek(1)
        second = image.tag_v2.offset if hasattr(image.tag_v2, "offset") else image._frame_pos[1]
    content = bytearray(path.read_bytes())
    content[second : second + 2] = (9999).to_bytes(2, "little")
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, about the damage
        image = read_image(path)
    np.testing.assert_array_equal(image.pixels, picture)
    assert "first one used" in image.notes[0]


def test_cmyk(tmp_path) -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for name in ("a.jpg", "a.tif"):
        image = read_image(saved(tmp_path, name, red))
        assert image.notes == ("CMYK (print) colours converted to RGB",)
        assert abs(image.pixels.astype(int) - (255, 0, 0)).max() <= 3


def test_16_bit_grey_png(tmp_path) -> None:
    values = np.array([[0, 257 * 100, 65535]], np.uint16)
    image = read_image(saved(tmp_path, "a.png", values))
    assert image.pixels.tolist() == [[[0] * 3, [100] * 3, [255] * 3]]
    assert image.notes[1] == "values up to 65535 read as 16-bit, scaled to 8 bits"


def png_16_bit(path: Path, values: np.ndarray) -> Path:
    """Write (H, W, 3 or 4) uint16 as a PNG, which Pillow cannot do."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def test_12_bit_colours_in_a_16_bit_png_do_not_come_out_black(tmp_path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (9, 7, 3)).astype(np.uint16)
    values[0, 0, 0] = 4095
    image = read_image(png_16_bit(tmp_path / "a.png", values))
    np.testing.assert_array_equal(image.pixels, np.floor(values * (255 / 4095) + 0.5).astype(np.uint8))
    assert image.notes == ("values up to 4095 read as 12-bit, scaled to 8 bits",)


def test_exif_behind_the_pixels_of_a_png_counts_too(tmp_path, picture) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = saved(tmp_path, "a.png", picture, exif=exif)
    content = path.read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    path.write_bytes(content[:start] + content[end:-12] + content[start:end] + content[-12:])
    np.testing.assert_array_equal(read_image(path).pixels, np.rot90(picture, -1))
    assert image_size(path) == (40, 24)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp", "a.gif"])
def test_the_size_comes_from_the_header_alone(tmp_path, picture, name) -> None:
    path = saved(tmp_path, name, np.tile(picture, (20, 20, 1)))
    content = path.read_bytes()
    if name != "a.tif":  # whose directory is at the end
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(ImageError):
            read_image(path)
    assert image_size(path) == (480, 800)


def test_16_bit_png_with_transparency(tmp_path) -> None:
    values = np.full((1, 2, 4), 65535, np.uint16)
    values[0, :, 0] = 0
    values[0, 1, 3] = 0
    image = read_image(png_16_bit(tmp_path / "a.png", values))
    assert image.pixels.tolist() == [[[0, 255, 255], [255, 255, 255]]]


@pytest.mark.parametrize("shape", [(1, 1), (10, 20000), (20000, 10)])
def test_odd_shapes(tmp_path, shape) -> None:
    path = saved(tmp_path, "a.png", np.full((*shape, 3), 7, np.uint8))
    assert read_image(path).pixels.shape == (*shape, 3)
    assert image_size(path) == shape


def test_bands_can_be_chosen_in_any_file(tmp_path, picture) -> None:
    path = saved(tmp_path, "a.png", picture)
    image = read_image(path, bands=(3, 2, 1))
    np.testing.assert_array_equal(image.pixels, picture[:, :, ::-1])
    assert image.notes == ("bands 3, 2, 1 used as red, green, blue",)
    with pytest.raises(ImageError, match=r"`.*a\.png`: band 4 was asked for, but there are 3\n\nhint: "):
        read_image(path, bands=(1, 2, 4))


def test_chosen_bands_ignore_opacity(tmp_path) -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[..., 1] = 9
    image = read_image(saved(tmp_path, "a.png", pixels), bands=(2, 2, 4))
    assert image.pixels[0, 0].tolist() == [9, 9, 0]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.bmp", "a.gif", "a.ppm"])
def test_pillows_own_limit_neither_warns_nor_refuses(tmp_path, picture, name, monkeypatch) -> None:
    path = saved(tmp_path, name, picture)
    for limit in (600, 10):  # the image has 960 pixels: above the first it would warn, above twice the second refuse
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert read_image(path).pixels.shape == picture.shape
        assert image_size(path) == (24, 40)
        assert limit == Image.MAX_IMAGE_PIXELS


def test_reading_leaves_no_file_open(tmp_path, picture) -> None:
    paths = [saved(tmp_path, name, picture) for name in ("a.jpg", "a.png", "a.tif", "a.gif")]
    script = (
        "import sys, pathlib; from stego_cli.data.images import read_image, image_size\n"
        "for path in map(pathlib.Path, sys.argv[1:]): read_image(path); image_size(path)\n"
    )
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", script, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_many_threads_read_the_same_as_one(tmp_path, picture) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    paths = [saved(tmp_path, f"{i}{suffix}", picture) for i in range(8) for suffix in (".png", ".jpg", ".tif", ".gif")]
    paths += [saved(tmp_path, f"turned{i}.jpg", picture, exif=exif) for i in range(8)]
    alone = [read_image(path) for path in paths]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(read_image, paths))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert one.notes == other.notes


def test_load_image_treats_all_kinds_alike(tmp_path, picture) -> None:
    path = saved(tmp_path, "a.png", picture)
    kinds = [path, str(path), Image.fromarray(picture), picture, picture / 255, torch.from_numpy(picture).movedim(2, 0)]
    for kind in kinds:
        np.testing.assert_array_equal(load_image(kind).pixels, picture)


def test_load_image_takes_grey_tensors(picture) -> None:
    grey = torch.from_numpy(picture[:, :, 0])
    for kind in (grey, grey[None], grey[None] / 255):
        np.testing.assert_array_equal(load_image(kind).pixels[:, :, 2], picture[:, :, 0])


@pytest.mark.parametrize("other", [None, [[1, 2], [3, 4]], b"abc", 3])
def test_load_image_names_what_it_cannot_take(other) -> None:
    with pytest.raises(ImageError, match=rf"{type(other).__name__}.*\n\nhint: give a path"):
        load_image(other)


def test_names_that_are_no_text(tmp_path, picture) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    try:
        Image.fromarray(picture).save(path)
    except OSError:
        pytest.skip("this disk takes UTF-8 names only")
    np.testing.assert_array_equal(read_image(path).pixels, picture)
    path.write_bytes(b"")
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert r"caf\udce9.png" in str(caught.value).encode("utf-8").decode()


def test_libraries_log_nothing_on_stderr_by_themselves(tmp_path, picture) -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("PIL").handlers)
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("tifffile").handlers)
