"""Pixels of any kind (grey, deep, many bands, transparent) turned into 8-bit RGB, saying what was done to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from stego_cli.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ORIENTATION_TAG = 274
"""The EXIF and TIFF tag that says how a camera was held, 1 (upright) to 8."""

TURNED = "turned upright by its EXIF orientation"
"""The note for an image that was stored lying on its side."""

BandChoice = tuple[int, int, int]
"""Which bands become red, green and blue; counted from 1, as GDAL and QGIS do."""

_DEPTHS = (8, 10, 12, 14, 16)
_COLOUR_SPACES = {"CMYK": "CMYK (print)", "YCbCr": "YCbCr", "LAB": "Lab", "HSV": "HSV"}
_TOLERANCE = 1e-3  # resizing leaves floats a hair outside [0, 1]


@dataclass(frozen=True)
class LoadedImage:
    """An image as the networks want it.

    Attributes:
        pixels: (H, W, 3) uint8, RGB, upright, C-contiguous.
        notes: What was done to an unusual image, in plain words; empty for an ordinary 8-bit RGB image.
    """

    pixels: NDArray[np.uint8]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bands:
    """An image as its file or array holds it, before it becomes RGB.

    Attributes:
        values: (H, W, N), numbers of any type.
        has_alpha: Whether the last of 2 or 4 bands is opacity.
        no_data: The value that stands for "nothing measured here", or None.
        orientation: EXIF orientation that `values` still have to be turned by, 1 to 8.
        notes: What was done so far.
    """

    values: NDArray[Any]
    has_alpha: bool = False
    no_data: float | None = None
    orientation: int = 1
    notes: tuple[str, ...] = field(default=())


def from_array(array: NDArray[Any]) -> LoadedImage:
    """Turn an array into 8-bit RGB.

    Args:
        array: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4 with opacity last); bool, uint8, uint16, or float in [0, 1].

    Raises:
        ImageError: If shape, type or range is another; says what to call to mend it.

    Example:
        >>> from_array(np.array([[0.0, 1.0]])).pixels[0, 1]
        array([255, 255, 255], dtype=uint8)
    """
    values = np.asarray(array)
    _check_array(values)
    if values.ndim == 2:
        values = values[:, :, None]
    return to_rgb(Bands(values, has_alpha=values.shape[2] == 4))


def from_pil(image: Image.Image) -> LoadedImage:
    """Turn a Pillow image of any mode into 8-bit RGB; an EXIF orientation is applied, as for a file.

    Raises:
        ImageError: If its file turns out to be damaged when the pixels are read, or it has no pixels.
    """
    try:
        image.load()
    except Exception as error:
        raise ImageError(f"the image cannot be decoded: {error}\n\nhint: open it again from a sound file") from error
    if 0 in image.size:
        raise ImageError(
            f"an image of {image.height}x{image.width} (height x width) has no pixels\n\nhint: leave it out"
        )
    return to_rgb(bands_of_pil(image, orientation_of(image)))


def orientation_of(image: Image.Image) -> int:
    """Return how a Pillow image has to be turned, 1 (not at all) to 8, without decoding it."""
    try:
        # The method of the base class: the one for PNG decodes the whole image to find EXIF behind the pixels.
        orientation = Image.Image.getexif(image).get(ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001, damaged EXIF raises anything, and must not cost the picture
        return 1
    return orientation if orientation in range(1, 9) else 1


def bands_of_pil(image: Image.Image, orientation: int) -> Bands:
    """Take the bands out of a Pillow image whose pixels are loaded; palettes and print colours become RGB."""
    mode, notes = image.mode, []
    see_through = "transparency" in image.info
    if mode in {"P", "PA"}:
        notes.append("palette colours converted to RGB")
        image = image.convert("RGBA" if see_through or mode == "PA" else "RGB")
    elif mode in {"RGBa", "RGBX", "La"}:
        image = image.convert({"RGBa": "RGBA", "RGBX": "RGB", "La": "LA"}[mode])
    elif mode in _COLOUR_SPACES:
        notes.append(f"{_COLOUR_SPACES[mode]} colours converted to RGB")
        image = image.convert("RGB")
    elif see_through and mode in {"1", "L", "RGB"}:
        image = image.convert("RGBA" if mode == "RGB" else "LA")
    values = np.asarray(image)
    if values.ndim == 2:
        values = values[:, :, None]
    return Bands(values, has_alpha=image.mode in {"LA", "RGBA"}, orientation=orientation, notes=tuple(notes))


def to_rgb(bands: Bands, chosen: BandChoice | None = None) -> LoadedImage:
    """Choose three bands, bring them to 8 bits, put what is transparent on white, and turn the image upright.

    Args:
        bands: The image as it was found.
        chosen: Bands to use as red, green and blue, counted from 1; they are taken as they are, opacity included.

    Raises:
        ImageError: If a chosen band does not exist.
    """
    notes = list(bands.notes)
    colour, alpha = _split(bands, chosen, notes)
    pixels = _to_8_bits(colour, bands.no_data, notes)
    if alpha is not None:
        pixels = _on_white(pixels, _to_8_bits(alpha, None, []), notes)
    pixels = _upright(pixels, bands.orientation, notes)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return LoadedImage(np.ascontiguousarray(pixels), tuple(notes))


def _check_array(array: NDArray[Any]) -> None:
    """Refuse what `from_array` does not take."""
    shape = "x".join(str(side) for side in array.shape) or "nothing"
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ImageError(f"an array of {shape} is not one image\n\nhint: give (height, width) or (height, width, 3)")
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4):
        if array.shape[0] in (1, 3, 4):
            hint = "channels come last; use `np.moveaxis(array, 0, -1)`, or `tensor.permute(1, 2, 0)` before `.numpy()`"
        else:
            hint = "pick three bands, for example `array[:, :, [0, 1, 2]]`"
        raise ImageError(f"an array of {shape} has {array.shape[2]} channels; 1, 3 or 4 can be used\n\nhint: {hint}")
    kind = array.dtype.kind
    if kind == "f":
        _check_floats(array)
    elif array.dtype not in (np.dtype(bool), np.dtype(np.uint8), np.dtype(np.uint16)):
        raise ImageError(
            f"an array of type {array.dtype} is not understood; bool, uint8, uint16 or float in [0, 1] can be used\n\n"
            "hint: if the values are 0 to 255, use `array.astype(np.uint8)`"
        )


def _check_floats(array: NDArray[Any]) -> None:
    """Refuse floats that are no brightness between 0 and 1."""
    if not np.isfinite(array).all():
        raise ImageError("the array holds NaN or infinite values\n\nhint: fill them first, with `np.nan_to_num(array)`")
    low, high = float(array.min()), float(array.max())
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise ImageError(
            f"a float array must be in [0, 1], this one goes from {low:g} to {high:g}\n\n"
            "hint: divide by the largest possible value (`array / 255`), and undo any normalisation first"
        )


def _split(bands: Bands, chosen: BandChoice | None, notes: list[str]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return the one or three bands that carry the picture, and the opacity where there is one."""
    values, count = bands.values, bands.values.shape[2]
    if chosen is not None:
        if wrong := [band for band in chosen if not 1 <= band <= count]:
            raise ImageError(
                f"band {wrong[0]} was asked for, but there are {count}\n\nhint: choose three from 1 to {count}"
            )
        notes.append("bands {}, {}, {} used as red, green, blue".format(*chosen))
        return values[:, :, [band - 1 for band in chosen]], None
    alpha = values[:, :, -1:] if bands.has_alpha and count in (2, 4) else None
    colours = count if alpha is None else count - 1
    if colours <= 2:
        notes.append("grey: the same values in all three channels")
        if colours == 2:
            notes.append("2 bands: the first one used")
        return values[:, :, :1], alpha
    if colours > 3:
        notes.append(f"{colours} bands: the first three used as red, green, blue")
    return values[:, :, :3], alpha


def _to_8_bits(values: NDArray[Any], no_data: float | None, notes: list[str]) -> NDArray[np.uint8]:
    """Bring numbers of any type to 0..255, bright enough that nothing meaningful comes out black."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        notes.append("black and white")
        return values.astype(np.uint8) * np.uint8(255)
    valid = np.isfinite(values)
    if no_data is not None:
        valid &= values != no_data
    present = values if valid.all() else values[valid]
    if present.size < values.size:
        notes.append(f"{1 - present.size / values.size:.1%} of the values are missing (no data) and shown black")
    if not present.size:
        return np.zeros(values.shape, np.uint8)
    start, end, words = _range(values.dtype, float(present.min()), float(present.max()))
    notes.append(words)
    deep = values.dtype == np.uint16  # far quicker by table, as there are only so many values
    table = _scaled(np.arange(2**16, dtype=np.uint16) if deep else values, start, end)
    pixels: NDArray[np.uint8] = table[values] if deep else table
    if present.size < values.size:
        pixels[~valid] = 0
    return pixels


def _scaled(values: NDArray[Any], start: float, end: float) -> NDArray[np.uint8]:
    """Map `start` to 0 and `end` to 255, rounded."""
    wide = np.result_type(values.dtype, np.float32)
    with np.errstate(all="ignore"):  # missing and absurd values may overflow; the former are blackened later
        scaled: NDArray[Any] = (values.astype(wide) - wide.type(start)) * wide.type(255 / (end - start))
        rounded: NDArray[np.uint8] = (np.clip(scaled, 0, 255) + wide.type(0.5)).astype(np.uint8)
    return rounded


def _range(kind: np.dtype[Any], low: float, high: float) -> tuple[float, float, str]:
    """Return the values that become 0 and 255, and how to say so.

    Whole numbers are read by bit depth, not stretched: images of one camera keep their relative brightness, and
    12-bit data in a 16-bit file still fills the range.
    """
    if kind.kind == "f" and low >= -_TOLERANCE and high <= 1 + _TOLERANCE:
        return 0.0, 1.0, "decimal numbers between 0 and 1 scaled to 8 bits"
    if kind.kind in "iu" and low >= 0 and high < 2 ** _DEPTHS[-1]:
        depth = next(depth for depth in _DEPTHS if high < 2**depth)
        words = "scaled to 8 bits" if depth > 8 else "kept as they are"
        return 0.0, 2.0**depth - 1, f"values up to {high:g} read as {depth}-bit, {words}"
    words = f"values from {low:g} to {high:g} stretched over the 8-bit range"
    return low, high if high > low else low + max(1.0, abs(low)), words


def _on_white(pixels: NDArray[np.uint8], alpha: NDArray[np.uint8], notes: list[str]) -> NDArray[np.uint8]:
    """Show see-through pixels over white, as a browser does; what lies under full transparency is arbitrary."""
    if alpha.min() == 255:
        notes.append("alpha channel dropped, everything is opaque")
        return pixels
    notes.append("transparent parts shown over white")
    wide = alpha.astype(np.uint16)
    mixed: NDArray[np.uint16] = (pixels * wide + 255 * (255 - wide) + 127) // 255
    return mixed.astype(np.uint8)


def _upright(pixels: NDArray[np.uint8], orientation: int, notes: list[str]) -> NDArray[np.uint8]:
    """Undo how the camera was held.

    Example:
        >>> _upright(np.array([[[1], [2]]], np.uint8), 6, [])[:, 0, 0]  # camera turned left: rotate right
        array([1, 2], dtype=uint8)
    """
    if orientation == 1:
        return pixels
    notes.append(TURNED)
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    # After the swap of axes, what is left is a mirror in one, both or none of the axes.
    down = -1 if orientation in (3, 4, 7, 8) else 1
    right = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::down, ::right]
