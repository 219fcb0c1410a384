"""Crops of images, as the STEGO reference cuts them: where they lie, what they are called, how labels are stored."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stego_cli.data.datasets.cropped import LABEL_ADDED
from stego_cli.data.labels import IGNORE_LABEL
from stego_cli.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stego_cli.config.crops import HashRule
    from stego_cli.config.words import CropKind

CROPS_PER_IMAGE = 5
MOST_CLASSES = 255
"""Class id + 1 is stored in 8 bits, and 0 is taken."""

_MASK = 2**64 - 1
_INT_MODULUS = 2**61 - 1
# xxHash's primes, as in CPython's Objects/tupleobject.c since 3.8.
_PRIME1, _PRIME2, _PRIME5 = 11400714785074694791, 14029467366897019727, 2870177450012600261
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_UP = 2  # PNG's filter "up": each value minus the one above it


class Box(NamedTuple):
    """Where a crop lies in its image, in pixels."""

    top: int
    left: int
    height: int
    width: int


class Crop(NamedTuple):
    """One crop before it is written.

    Attributes:
        number: What its files are called.
        pixels: Shape (h, w, 3), RGB.
        labels: Shape (h, w), class id + 1, 0 where there is no class; None if the dataset has no labels.
    """

    number: int
    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None


@dataclass(frozen=True)
class CropRule:
    """What decides where crops lie.

    Attributes:
        kind: five or random.
        ratio: Side of a crop as a fraction of the image's side.
        hash_rule: Which of Python's hashes places random crops.
    """

    kind: CropKind
    ratio: float
    hash_rule: HashRule = "python38"

    def boxes(self, height: int, width: int, index: int) -> tuple[Box, ...]:
        """Return where the crops of one image lie.

        Args:
            height: Of the image.
            width: Of the image.
            index: The image's number in its split, from which random places follow.

        Raises:
            ImageError: If the image is too small for crops of this ratio.
        """
        box_height, box_width = crop_size(height, width, self.ratio)
        if self.kind == "five":
            return five_boxes(height, width, box_height, box_width)
        return random_boxes(height, width, box_height, box_width, index, self.hash_rule)

    def cut(
        self, pixels: NDArray[np.uint8], class_ids: NDArray[np.int64] | None, index: int, *, labelled: bool
    ) -> list[Crop]:
        """Cut one image.

        Args:
            pixels: Shape (H, W, 3), RGB.
            class_ids: Shape (H, W), below 0 where there is no class; None if it has no label map.
            index: The image's number in its split.
            labelled: Give labels to every crop; an image without a label map has no class anywhere.

        Raises:
            ImageError: If the image is too small, or a class id too large.
        """
        height, width = pixels.shape[:2]
        boxes = self.boxes(height, width, index)
        labels = None
        if labelled:
            labels = np.zeros((height, width), np.uint8) if class_ids is None else stored_labels(class_ids)
        return [
            Crop(crop_number(index, place), _inside(pixels, box), None if labels is None else _inside(labels, box))
            for place, box in enumerate(boxes)
        ]


def crop_number(index: int, place: int) -> int:
    """Return the number that the files of a crop are called by.

    Args:
        index: Number of the image in its split.
        place: Which of its crops: for five, top left, top right, bottom left, bottom right, centre.
    """
    return CROPS_PER_IMAGE * index + place


def crop_size(height: int, width: int, ratio: float) -> tuple[int, int]:
    """Return height and width of the crops of an image.

    Raises:
        ImageError: If nothing would be left of it.

    Example:
        >>> crop_size(375, 500, 0.5)
        (187, 250)
    """
    size = int(height * ratio), int(width * ratio)
    if min(size) < 1:
        raise ImageError(
            f"{height}x{width} pixels (height x width) leave none for a crop of ratio {ratio}\n\n"
            "hint: take such small images out of the dataset, or use a larger --ratio"
        )
    return size


def five_boxes(height: int, width: int, box_height: int, box_width: int) -> tuple[Box, ...]:
    """Return the four corners and the centre; odd margins are halved to even, as torchvision does.

    Example:
        >>> five_boxes(4, 5, 2, 2)[-1]
        Box(top=1, left=2, height=2, width=2)
    """
    bottom, right = height - box_height, width - box_width
    places = (0, 0), (0, right), (bottom, 0), (bottom, right), (round(bottom / 2), round(right / 2))
    return tuple(Box(top, left, box_height, box_width) for top, left in places)


def random_boxes(
    height: int, width: int, box_height: int, box_width: int, seed: int, rule: HashRule
) -> tuple[Box, ...]:
    """Return five places drawn by `tuple_hash`; as in the reference, the last possible offset is never drawn.

    Raises:
        ImageError: If a crop is as high or wide as the image: the reference divides by zero.
    """
    rows, columns = height - box_height, width - box_width
    if rows < 1 or columns < 1:
        raise ImageError(
            f"{height}x{width} pixels (height x width) leave no choice for random crops of {box_height}x{box_width}\n\n"
            "hint: take such small images out of the dataset, or use a smaller --ratio"
        )
    return tuple(
        Box(
            tuple_hash((seed, place, 0), rule) % rows,
            tuple_hash((seed, place, 1), rule) % columns,
            box_height,
            box_width,
        )
        for place in range(CROPS_PER_IMAGE)
    )


def tuple_hash(values: Sequence[int], rule: HashRule) -> int:
    """Return what `hash(tuple(values))` is in 64-bit CPython, whatever runs this.

    Args:
        values: Whole numbers.
        rule: python38 for 3.8 and later, python37 for older.

    Example:
        >>> tuple_hash((0, 3, 1), "python38"), tuple_hash((0, 3, 1), "python37")
        (8823971639256032228, 1267308497550654159)
    """
    hashes = [_int_hash(value) & _MASK for value in values]
    return _signed(_xx_hash(hashes) if rule == "python38" else _multiplied_hash(hashes))


def stored_labels(class_ids: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return class ids as they are stored: plus one, and 0 where there is no class.

    The id 255, which many people write for "no class", becomes 0, too: in the reference the sum overflows.

    Args:
        class_ids: Shape (H, W); below 0 where there is no class.

    Raises:
        ImageError: If there is an id above 255, which would come out as another class.
    """
    highest, lowest = int(class_ids.max()), int(class_ids.min())
    if highest > MOST_CLASSES:
        raise ImageError(
            f"its label map holds the class id {highest}; crops store ids up to {MOST_CLASSES - 1}\n\n"
            "hint: number the classes from 0 on, or name their label space with --label-space"
        )
    if lowest < IGNORE_LABEL:
        class_ids = np.maximum(class_ids, IGNORE_LABEL)
    return class_ids.astype(np.uint8) + np.uint8(LABEL_ADDED)  # -1 is 255 here, which overflows to 0


def label_png(labels: NDArray[np.uint8]) -> bytes:
    """Encode labels as a grey PNG of 8 bits.

    Rows as differences to the row above them, packed by run lengths, suit areas of one value: a fifth of the time that
    Pillow takes, and smaller files (480x360 and 2048x1024).

    Args:
        labels: Shape (h, w).
    """
    height, width = labels.shape
    rows = np.full((height, width + 1), _UP, np.uint8)
    rows[0, 1:] = labels[0]
    np.subtract(labels[1:], labels[:-1], out=rows[1:, 1:])
    packer = zlib.compressobj(level=6, memLevel=9, strategy=zlib.Z_RLE)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", packer.compress(rows.data) + packer.flush()), (b"IEND", b"")
    return _PNG_SIGNATURE + b"".join(_chunk(name, content) for name, content in parts)


def _inside(array: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    return array[box.top : box.top + box.height, box.left : box.left + box.width]


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def _int_hash(value: int) -> int:
    """Return CPython's hash of a whole number on 64 bit."""
    result = abs(value) % _INT_MODULUS
    result = -result if value < 0 else result
    return -2 if result == -1 else result  # -1 means an error in C


def _xx_hash(hashes: Sequence[int]) -> int:
    """Mix as CPython does since 3.8, after xxHash; all numbers are unsigned, of 64 bit."""
    mixed = _PRIME5
    for lane in hashes:
        mixed = (mixed + lane * _PRIME2) & _MASK
        mixed = ((mixed << 31) | (mixed >> 33)) & _MASK
        mixed = (mixed * _PRIME1) & _MASK
    mixed = (mixed + (len(hashes) ^ _PRIME5 ^ 3527539)) & _MASK
    return 1546275796 if mixed == _MASK else mixed


def _multiplied_hash(hashes: Sequence[int]) -> int:
    """Mix as CPython did up to 3.7, by multiplication; all numbers are unsigned, of 64 bit."""
    mixed, factor = 0x345678, 1000003
    for left in reversed(range(len(hashes))):
        mixed = ((mixed ^ hashes[len(hashes) - 1 - left]) * factor) & _MASK
        factor += 82520 + 2 * left
    mixed = (mixed + 97531) & _MASK
    return _MASK - 1 if mixed == _MASK else mixed


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
