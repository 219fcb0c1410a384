"""Photographs with the colours of their classes laid over them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from stego_cli.errors import ConfigError
from stego_cli.files import atomic_write
from stego_cli.report.masks import outside_id

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from stego_cli.config.model import LabelSpace

LONGEST_SIDE = 1600
JPEG_QUALITY = 90

_OUTSIDE_BRIGHTNESS = 0.3
_OUTLINE_STRENGTH = 0.75
_PIXELS_PER_OUTLINE = 1000  # one pixel more of line for each such stretch of the longer side


def overlay(
    pixels: NDArray[np.uint8],
    label_map: NDArray[np.integer],
    label_space: LabelSpace,
    opacity: float = 0.5,
    *,
    outlines: bool = True,
    outside: int | None = None,
) -> NDArray[np.uint8]:
    """Lay the colours of the classes over an image.

    Where two classes meet runs a thin line, light on one side and dark on the other, so that the areas can be told
    apart in greyscale and by readers who do not see the colours. Pixels outside are dimmed.

    Args:
        pixels: Shape (H, W, 3), RGB.
        label_map: Shape (H, W), class ids or the value of `outside`.
        label_space: Names and colours of the classes.
        opacity: Share of the class colour, in [0, 1].
        outlines: Draw the lines.
        outside: Value of pixels that belong to no class; by default that of `outside_id`.

    Returns:
        Shape (H, W, 3), RGB, a new array.

    Raises:
        ConfigError: If the opacity is no share.
    """
    if not 0 <= opacity <= 1:
        raise ConfigError(
            f"opacity {opacity} is not between 0 and 1\n\nhint: 0 shows only the image, 1 only the classes"
        )
    outside = outside_id(label_space) if outside is None else outside
    beyond = label_map == outside
    colours = np.asarray(label_space.colours, dtype=np.uint16)
    share = round(opacity * 256)
    tints = (colours * share).astype(np.uint16)  # at most 255 * 256: fits
    ids = np.where(beyond, 0, label_map) if beyond.any() else label_map
    mixed = tints[ids]  # (H, W, 3)
    mixed += pixels * np.uint16(256 - share)
    mixed >>= 8
    picture = mixed.astype(np.uint8)
    picture[beyond] = pixels[beyond] * _OUTSIDE_BRIGHTNESS
    if outlines:
        _draw_outlines(picture, label_map)
    return picture


def write_overlay(
    path: Path,
    pixels: NDArray[np.uint8],
    label_map: NDArray[np.integer],
    label_space: LabelSpace,
    opacity: float = 0.5,
    *,
    outside: int | None = None,
) -> None:
    """Write the overlay of an image as JPEG, whole or not at all.

    The picture is for looking at: one whose longer side exceeds `LONGEST_SIDE` pixels is shrunk to it, which keeps a
    gallery of large photographs quick. The label map keeps the full size.

    Raises:
        OutputError: If the system refuses the write.
    """
    pixels, label_map = _shrunk(pixels, label_map)
    picture = overlay(pixels, label_map, label_space, opacity, outside=outside)
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "JPEG", quality=JPEG_QUALITY)
    with atomic_write(path) as file:
        file.write(encoded.getbuffer())


def is_sound_overlay(path: Path) -> bool:
    """Say whether `path` is a JPEG from its first marker to its last."""
    try:
        with path.open("rb") as file:
            start = file.read(2)
            file.seek(-2, io.SEEK_END)
            return start == b"\xff\xd8" and file.read(2) == b"\xff\xd9"
    except OSError:
        return False


def _shrunk(pixels: NDArray[np.uint8], label_map: NDArray[np.integer]) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    """Return both at `LONGEST_SIDE` or below: the photograph antialiased, the ids by nearest neighbour."""
    height, width = label_map.shape
    if max(height, width) <= LONGEST_SIDE:
        return pixels, label_map
    scale = LONGEST_SIDE / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    small = Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BILINEAR, reducing_gap=2.0)
    row_ids = ((np.arange(rows) + 0.5) * height / rows).astype(np.intp)
    column_ids = ((np.arange(columns) + 0.5) * width / columns).astype(np.intp)
    return np.asarray(small), label_map[row_ids[:, None], column_ids]


def _draw_outlines(picture: NDArray[np.uint8], label_map: NDArray[np.integer]) -> None:
    """Draw, in place, a light line before and a dark line after each change of class, rows and columns alike."""
    across, down = label_map[:, :-1] != label_map[:, 1:], label_map[:-1] != label_map[1:]
    before, after = np.zeros(label_map.shape, dtype=bool), np.zeros(label_map.shape, dtype=bool)
    before[:, :-1] |= across
    before[:-1] |= down
    after[:, 1:] |= across
    after[1:] |= down
    for _ in range(max(label_map.shape) // _PIXELS_PER_OUTLINE):
        before[:, :-1] |= before[:, 1:]
        before[:-1] |= before[1:]
        after[:, 1:] |= after[:, :-1]
        after[1:] |= after[:-1]
    for line, level in ((after & ~before, 0), (before, 255)):
        picture[line] = picture[line] * (1 - _OUTLINE_STRENGTH) + level * _OUTLINE_STRENGTH
