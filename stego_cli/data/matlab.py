"""Images and label maps in MATLAB files, as Potsdam comes: arrays of plain numbers, and nothing else.

Read here and not by SciPy, which ends the whole process with a segmentation fault on damaged files (1.17: a data type
that does not exist is looked up beyond the end of a table). The format is "MAT-File Level 5" of MathWorks' "MAT-File
Format": a header of 128 bytes, then one element per variable, each a tag (type and length) and its data.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from stego_cli.data.image_errors import check_size, decoding, naming, opened
from stego_cli.data.pixels import BandChoice, Bands, LoadedImage, to_rgb
from stego_cli.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

MATLAB_SUFFIX = ".mat"

_IMAGE_KEY = "img"
_MOST_BANDS = 64
_HEADER_BYTES = 128
_LARGEST_HEAD = 1024  # of a variable: flags, dimensions and a name of at most 63 letters
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC_CLASSES = range(6, 16)  # double to uint64; below are cells, structures, objects, text and sparse arrays
_COMPLEX = 0x800
_DAMAGED = "it is damaged or cut short\n\nhint: copy or download it again"


@dataclass(frozen=True)
class _Variable:
    """What the head of a variable says.

    Attributes:
        name: What it is called.
        shape: Its sides.
        is_numeric: Whether it is an array of real numbers.
        start: Where the numbers begin, in bytes from the beginning of the variable.
        order: `<` or `>`, as in `struct`.
        take: Returns so many bytes of the variable from its beginning, fewer if it is shorter.
    """

    name: str
    shape: tuple[int, ...]
    is_numeric: bool
    start: int
    order: str
    take: Callable[[int], bytes]


def read_matlab_image(path: Path, bands: BandChoice | None = None) -> LoadedImage:
    """Read the variable `img`, (H, W) or (H, W, N), as 8-bit RGB.

    Args:
        path: A MATLAB file of version 5 to 7.
        bands: As in `read_image`.

    Raises:
        ImageError: As `read_image`, and if there is no such variable.
    """
    with naming(path):
        values = read_variable(path, _IMAGE_KEY)
        return to_rgb(Bands(values if values.ndim == 3 else values[:, :, None]), bands)


def matlab_image_size(path: Path) -> tuple[int, int]:
    """Return height and width of the variable `img` without reading it.

    Raises:
        ImageError: As `read_matlab_image`, as far as the header shows it.
    """
    with naming(path), opened(path) as file, decoding():
        height, width = _find(file, _IMAGE_KEY).shape[:2]
        return height, width


def read_variable(path: Path, key: str) -> NDArray[Any]:
    """Read one array of numbers, shape (H, W) or (H, W, N). Nothing else in the file is looked at.

    Raises:
        ImageError: If it is not there, is something other than numbers, or the file is damaged. Without its name, which
            the caller adds.
    """
    with opened(path) as file, decoding():
        found = _find(file, key)
        kind, length, start = _tag(found.take(found.start + 8), found.start, found.order)
        if kind not in _NUMBERS:
            raise ImageError(_DAMAGED)
        dtype = np.dtype(found.order + _NUMBERS[kind])
        data = found.take(start + length)[start:]
        if not len(data) == length == prod(found.shape) * dtype.itemsize:
            raise ImageError(_DAMAGED)
        values = np.frombuffer(data, dtype).reshape(found.shape, order="F")
        return values.astype(dtype.newbyteorder("="))


def _find(file: IO[bytes], key: str) -> _Variable:
    """Return a variable that is safe to read: an array of numbers, and not too many."""
    there = []
    for found in _variables(file):
        if found.name == key:
            break
        there.append(found.name if found.name.isidentifier() else "one without a proper name")
    else:
        words = f"only {', '.join(sorted(there))}" if there else "it is empty"
        raise ImageError(f"it has no variable `{key}`, {words}\n\nhint: save the array under the name `{key}`")
    if not found.is_numeric:
        raise ImageError(f"its variable `{key}` is no array of numbers\n\nhint: only real numbers are read")
    if len(found.shape) not in (2, 3) or prod(found.shape[2:]) > _MOST_BANDS:
        sides = "x".join(map(str, found.shape))
        raise ImageError(f"its variable `{key}` has shape {sides}\n\nhint: (height, width) or (height, width, bands)")
    check_size(found.shape[0], found.shape[1])
    return found


def _variables(file: IO[bytes]) -> Iterator[_Variable]:
    """Yield the heads of all variables."""
    header = file.read(_HEADER_BYTES)
    if header.startswith((b"MATLAB 7.3", b"\x89HDF")):
        raise ImageError(
            "it is a MATLAB file of version 7.3, which is not read\n\nhint: save it in MATLAB with the option '-v7'"
        )
    order = {b"IM": "<", b"MI": ">"}.get(header[126:])
    if order is None:
        raise ImageError("it is no MATLAB file of version 5 to 7\n\nhint: save it in MATLAB with the option '-v7'")
    place = _HEADER_BYTES
    while len(tag := _read_at(file, place, 8)) == 8:
        kind, length = struct.unpack(order + "II", tag)
        if kind == _COMPRESSED:
            yield _head(partial(_unpacked, _read_at(file, place + 8, length), order), order)
        elif kind == _MATRIX:
            yield _head(partial(_read_at, file, place + 8), order)
        else:
            raise ImageError(_DAMAGED)
        place += 8 + length


def _read_at(file: IO[bytes], place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)


def _unpacked(packed: bytes, order: str, count: int) -> bytes:
    """Return the first bytes of a compressed variable, never many more: a small file can hold gigabytes.

    The few more bring the end of the stream into view where there is one, and with it the check of its sum.
    """
    data = zlib.decompressobj().decompress(packed, 8 + count + 16)
    if len(data) < 8 or struct.unpack(order + "I", data[:4])[0] != _MATRIX:
        raise ImageError(_DAMAGED)
    return data[8 : 8 + count]


def _head(take: Callable[[int], bytes], order: str) -> _Variable:
    """Read flags, dimensions and name, which come before the numbers."""
    data, fields, place = take(_LARGEST_HEAD), [], 0
    for _ in range(3):
        _, length, start = _tag(data, place, order)
        fields.append(data[start : start + length])
        if len(fields[-1]) < length:
            raise ImageError(_DAMAGED)
        place = start + length + -(start + length) % 8
    flags, shape, name = fields
    kind = struct.unpack_from(order + "I", flags)[0]
    return _Variable(
        name=name.decode("ascii", "backslashreplace"),
        shape=struct.unpack(f"{order}{len(shape) // 4}i", shape[: len(shape) // 4 * 4]),
        is_numeric=kind & 0xFF in _NUMERIC_CLASSES and not kind & _COMPLEX,
        start=place,
        order=order,
        take=take,
    )


def _tag(data: bytes, place: int, order: str) -> tuple[int, int, int]:
    """Return type and length of what begins at a place, and where its data begin; up to 4 bytes lie inside the tag."""
    kind, length = struct.unpack_from(order + "II", data, place)
    if kind >> 16:
        return kind & 0xFFFF, kind >> 16, place + 4
    return kind, length, place + 8
