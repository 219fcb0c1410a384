"""Looking at the files of a dataset one by one, and counting what was seen."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from stego_cli.data.images import IMAGE_SUFFIXES, image_size, read_image
from stego_cli.errors import ImageError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stego_cli.data.dataset import Dataset

Size = tuple[int, int]

_MODES = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with opacity",
    "P": "palette",
    "RGB": "RGB",
    "RGBA": "RGB with opacity",
    "RGBX": "four bands",
    "CMYK": "CMYK",
    "YCbCr": "RGB",
    "LAB": "Lab",
    "I": "32-bit grey",
    "F": "floating-point grey",
}
_TABLE = 1 << 16  # label values up to here are counted in a table, others by sorting


@dataclass(frozen=True, slots=True)
class Depth:
    """How closely to look at one image and its label map.

    Attributes:
        pixels: Decode the image, instead of reading its header.
        values: Count the values of the label map, instead of reading its header.
        digest: Hash the bytes of the image file.
    """

    pixels: bool = False
    values: bool = False
    digest: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of one image and its label map.

    Attributes:
        index: Which image of the dataset.
        depth: How closely was looked.
        size: Height and width of the image; None if it cannot be read.
        kind: File format and colours, such as `JPEG, RGB`.
        notes: What reading does to an image of this kind; known only from pixels.
        image_error: Why the image cannot be used, or nothing.
        digest: Hash of the image file's bytes, if asked for.
        label_size: Height and width of the label map; None if there is none or it cannot be read.
        values: Pixels of each stored label value, if asked for.
        label_error: Why the label map cannot be used, or nothing.
    """

    index: int
    depth: Depth
    size: Size | None = None
    kind: str = ""
    notes: tuple[str, ...] = ()
    image_error: str = ""
    digest: bytes = b""
    label_size: Size | None = None
    values: dict[int, int] = field(default_factory=dict)
    label_error: str = ""


def look(dataset: Dataset, index: int, depth: Depth) -> Look:
    """Look at one image and its label map; what is wrong with them becomes a part of the answer."""
    size, kind, notes, image_error = _look_at_image(dataset, index, depth)
    label_size, values, label_error = _look_at_label(dataset, index, depth)
    digest = _digest(dataset.samples[index].image) if depth.digest and not image_error else b""
    return Look(index, depth, size, kind, notes, image_error, digest, label_size, values, label_error)


def _look_at_image(dataset: Dataset, index: int, depth: Depth) -> tuple[Size | None, str, tuple[str, ...], str]:
    """Return size, kind, notes and error of an image."""
    path = dataset.samples[index].image
    try:
        if path.suffix.lower() not in IMAGE_SUFFIXES:  # such as `.mat`: only the dataset knows how to read it
            height, width = dataset.image(index).shape[:2]
            return (height, width), path.suffix.removeprefix(".").upper(), (), ""
        size = image_size(path)
        kind = kind_of(path, size)
        notes = read_image(path, dataset.bands).notes if depth.pixels else ()
    except ImageError as error:
        return None, "", (), reason(error, path)
    return size, kind, notes, ""


def _look_at_label(dataset: Dataset, index: int, depth: Depth) -> tuple[Size | None, dict[int, int], str]:
    """Return size, value counts and error of a label map."""
    path = dataset.samples[index].label
    if path is None:
        return None, {}, ""
    try:
        # The header first, which says in words why an empty or locked file is of no use.
        size = image_size(path) if path.suffix.lower() in IMAGE_SUFFIXES else None
        stored = dataset.stored_labels(index) if depth.values else None
    except ImageError as error:
        return None, {}, reason(error, path)
    if stored is None:
        return size, {}, ""
    return (stored.shape[0], stored.shape[1]), count_values(stored), ""


def count_values(stored: NDArray[np.int64]) -> dict[int, int]:
    """Return the number of pixels of each value in a label map (H, W).

    Example:
        >>> count_values(np.array([[0, 7], [-1, 7]]))
        {-1: 1, 0: 1, 7: 2}
    """
    if stored.size and stored.min() >= 0 and stored.max() < _TABLE:
        table = np.bincount(stored.ravel())
        found = np.flatnonzero(table)
        return dict(zip(found.tolist(), table[found].tolist(), strict=True))
    values, counts = np.unique(stored, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def kind_of(path: Path, size: Size) -> str:
    """Return file format and colours in words, from the header alone.

    Args:
        path: An image whose header can be read.
        size: Its height and width. Pillow grumbles on stderr about very large images, which are not opened here.
    """
    suffix = path.suffix.removeprefix(".").upper()
    if Image.MAX_IMAGE_PIXELS and size[0] * size[1] > Image.MAX_IMAGE_PIXELS:
        return f"{suffix}, very large"
    try:
        with Image.open(path, formats=("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM")) as image:
            tiles = image.tile if hasattr(image, "tile") else []  # set by all formats that decode lazily
            mode, form = image.mode, "JPEG" if image.format == "MPO" else str(image.format)
    except Exception:  # noqa: BLE001, a TIFF of many bands, or whatever else Pillow stumbles on; decoding will tell
        return f"{suffix}, several bands or unusual numbers"
    deep = any("16" in str(tile[3]) for tile in tiles) or mode.startswith("I;16")
    words = "grey" if mode.startswith("I;16") else _MODES.get(mode, mode)
    return f"{form}, {'16-bit ' if deep else ''}{words}"


def reason(error: ImageError, path: Path) -> str:
    """Return what is wrong with a file, without the name in front and the hint behind."""
    words = str(error).partition("\n\nhint: ")[0]
    name = printable(path)
    return words.removeprefix(f"cannot read image `{name}`: ").removeprefix(f"label map `{name}` ")


def _digest(path: Path) -> bytes:
    """Return a hash of a file's bytes; nothing if it cannot be read any more."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b""


@dataclass
class ValueCount:
    """How often a stored label value occurs: its pixels, the label maps that have it, and the first of those."""

    pixels: int = 0
    maps: int = 0
    example: int = -1


@dataclass
class Kind:
    """Images of one format: how many, the first of them, and what reading does to such images."""

    images: int = 0
    example: int = -1
    notes: tuple[str, ...] = ()


@dataclass
class Tally:
    """What was seen of one split, added up.

    Attributes:
        headers: Images that were looked at.
        decoded: Images that were decoded.
        maps: Label maps whose values were counted.
        sizes: Images of each height and width, by index.
        kinds: Images of each format.
        values: Stored label values.
        image_errors: Why images cannot be used, by index.
        label_errors: Why label maps cannot be used, by index.
        mismatches: Height and width of label map and of image where they differ, by index.
        digests: Images by the hash of their bytes.
    """

    headers: int = 0
    decoded: int = 0
    maps: int = 0
    sizes: dict[Size, list[int]] = field(default_factory=dict)
    kinds: dict[str, Kind] = field(default_factory=dict)
    values: dict[int, ValueCount] = field(default_factory=dict)
    image_errors: dict[int, str] = field(default_factory=dict)
    label_errors: dict[int, str] = field(default_factory=dict)
    mismatches: dict[int, tuple[Size, Size]] = field(default_factory=dict)
    digests: dict[bytes, list[int]] = field(default_factory=dict)

    def add(self, seen: Look) -> None:
        """Count one image and its label map, seen for the first time."""
        self.headers += 1
        if seen.image_error:
            self.image_errors[seen.index] = seen.image_error
        if seen.size:
            self.sizes.setdefault(seen.size, []).append(seen.index)
            kind = self.kinds.setdefault(seen.kind, Kind(example=seen.index))
            kind.images += 1
        if seen.digest:
            self.digests.setdefault(seen.digest, []).append(seen.index)
        self.add_pixels(seen)
        self._add_label(seen)

    def add_pixels(self, seen: Look) -> None:
        """Take in what only decoding shows of an image, whether or not it was counted before."""
        if not seen.depth.pixels:
            return
        self.decoded += 1
        if seen.image_error:
            self.image_errors[seen.index] = seen.image_error
        elif seen.notes and not self.kinds[seen.kind].notes:
            self.kinds[seen.kind].notes = seen.notes

    def _add_label(self, seen: Look) -> None:
        if seen.label_error:
            self.label_errors[seen.index] = seen.label_error
        if seen.size and seen.label_size and seen.size != seen.label_size:
            self.mismatches[seen.index] = (seen.label_size, seen.size)
        self.maps += bool(seen.values)
        for value, pixels in seen.values.items():
            count = self.values.setdefault(value, ValueCount(example=seen.index))
            count.pixels += pixels
            count.maps += 1

    def size_at(self, share: float) -> Size:
        """Return the size that a share of the images, in order of their area, does not exceed."""
        rank = share * (sum(map(len, self.sizes.values())) - 1)
        passed = 0
        for size in sorted(self.sizes, key=lambda size: (size[0] * size[1], size)):
            passed += len(self.sizes[size])
            if passed > rank:
                return size
        raise ValueError("no image was measured")


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` of the numbers below `count`, evenly spread, in order.

    Example:
        >>> spread(10, 4), spread(3, 4)
        ([1, 3, 6, 8], [0, 1, 2])
    """
    if count <= most:
        return list(range(count))
    return [(2 * position + 1) * count // (2 * most) for position in range(most)]


def coarse_to_fine(items: Sequence[int]) -> Iterator[int]:
    """Yield the items so that, wherever one stops, those that came are evenly spread.

    Example:
        >>> list(coarse_to_fine([0, 1, 2, 3, 4]))
        [0, 4, 2, 1, 3]
    """
    step = 1 << max(len(items) - 1, 0).bit_length()
    yield from items[:1]
    while step > 1:
        yield from items[step // 2 :: step]
        step //= 2
