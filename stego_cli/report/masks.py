"""Label maps as PNG files: exactly the image's size, the value of a pixel is the id of its class."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from stego_cli.errors import ImageError
from stego_cli.files import atomic_write, printable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from stego_cli.config.model import LabelSpace

OUTSIDE = 255
OUTSIDE_WIDE = 65535

# Measured on 480x360 and 4000x3000: level 3 costs a third more time than 1 for files a quarter smaller; 6 takes
# three times as long for another tenth.
_COMPRESS_LEVEL = 3
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_OUR_KINDS = {(8, 3), (16, 0)}  # bits and colour type: palette, 16-bit grey


def outside_id(label_space: LabelSpace) -> int:
    """Return the value of pixels that the model did not look at: 255, or 65535 when ids need 16 bits."""
    return OUTSIDE if len(label_space) <= OUTSIDE else OUTSIDE_WIDE


def write_label_png(
    path: Path, label_map: NDArray[np.integer], label_space: LabelSpace, outside: int | None = None
) -> None:
    """Write a label map as a PNG whose pixel values are class ids.

    Up to 255 classes it is a palette picture, so that viewers show the colours of the label space; index 255, outside,
    is black and transparent. With more classes it is a 16-bit grey picture without colours, and outside is 65535.

    Args:
        path: Where to; replaced whole or not at all.
        label_map: Shape (H, W), class ids or the value of `outside`.
        label_space: Names and colours of the classes.
        outside: Value in `label_map` of pixels that belong to no class; by default that of `outside_id`.

    Raises:
        OutputError: If the system refuses the write.
        ValueError: If the map holds an id that the label space does not have.
    """
    stored_outside = outside_id(label_space)
    dtype = np.uint8 if stored_outside == OUTSIDE else np.uint16
    ids = _checked(label_map, label_space, stored_outside if outside is None else outside, stored_outside)
    picture = Image.fromarray(np.ascontiguousarray(ids.astype(dtype, copy=False)))
    encoded = io.BytesIO()  # encoded in memory, so that a full disk is met by a plain write, which says so
    if dtype is np.uint8:
        picture.putpalette(_palette(label_space))
        picture.save(encoded, "PNG", compress_level=_COMPRESS_LEVEL, transparency=OUTSIDE)
    else:
        picture.save(encoded, "PNG", compress_level=_COMPRESS_LEVEL)
    with atomic_write(path) as file:
        file.write(encoded.getbuffer())


def read_label_png(path: Path) -> NDArray[np.integer]:
    """Read a label map: shape (H, W), uint8 for palette and grey pictures, uint16 for 16-bit grey ones.

    Raises:
        ImageError: If the file cannot be read or is no label map.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode not in {"P", "L", "I;16"}:
                raise ImageError(
                    f"`{printable(path)}` is no label map: its pixels are {picture.mode}, not class ids"
                    "\n\nhint: give a palette or grey PNG such as those in the folder `labels`"
                )
            return np.array(picture)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(
            f"cannot read the label map `{printable(path)}`: {error}\n\nhint: write it anew with --overwrite"
        ) from error


def is_sound(path: Path, height: int, width: int) -> bool:
    """Say whether `path` is a whole label map of this size, so that work already done can be skipped.

    Reads the file and compares the checksum of every part up to the end marker, without unpacking the pixels: a
    truncated or altered file fails, and it takes a twentieth to a hundredth of the time of opening the picture.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return False
    header = _whole_png_header(content)
    if header is None:
        return False
    found_width, found_height, bits, colour_type = struct.unpack(">IIBB", header[:10])
    return (found_height, found_width) == (height, width) and (bits, colour_type) in _OUR_KINDS


def _whole_png_header(content: bytes) -> bytes | None:
    """Return the content of the header of a PNG that is whole, or None for anything else."""
    if not content.startswith(_SIGNATURE):
        return None
    header, start = None, len(_SIGNATURE)
    while start + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, start)
        end = start + 12 + length  # length, name, data, checksum
        if end > len(content):
            return None
        name, data = content[start + 4 : start + 8], memoryview(content)[start + 8 : end - 4]
        if zlib.crc32(data, zlib.crc32(name)) != struct.unpack_from(">I", content, end - 4)[0]:
            return None
        if header is None:
            header = bytes(data) if name == b"IHDR" and length == 13 else b""
        if name == b"IEND":
            return header or None
        start = end
    return None


def _palette(label_space: LabelSpace) -> bytes:
    """Return 256 colours: those of the classes, then black."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(label_space)] = label_space.colours
    return table.tobytes()


def _checked(
    label_map: NDArray[np.integer], label_space: LabelSpace, outside: int, stored_outside: int
) -> NDArray[np.integer]:
    """Return the map with `outside` as it is stored; refuse ids that mean nothing."""
    if label_map.ndim != 2:
        raise ValueError(f"a label map has shape (height, width), got {label_map.shape}")
    if label_map.size and label_map.min() >= 0 and label_map.max() < len(label_space):
        return label_map  # nearly always so, and quicker to see than the rest
    beyond = label_map == outside
    wrong = label_map[~beyond & ((label_map < 0) | (label_map >= len(label_space)))]
    if wrong.size:
        raise ValueError(f"class id {wrong[0]} in a label map of {len(label_space)} classes")
    return np.where(beyond, stored_outside, label_map)
