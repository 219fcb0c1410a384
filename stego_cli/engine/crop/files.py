"""The files of crops: where they lie, what they are called, how they are written, and how a changed one is noticed."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import IO, TYPE_CHECKING, NamedTuple

from PIL import Image

from stego_cli.data.crops import CROPS_PER_IMAGE, crop_number, label_png
from stego_cli.files import TEMPORARY, output_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stego_cli.data.crops import Crop
    from stego_cli.data.dataset import Sample

IMAGES, LABELS = ("img", ".jpg"), ("label", ".png")
"""Folder and suffix of the two kinds of files."""


class Stamp(NamedTuple):
    """By what a file is known to be the same: size, and time of change in nanoseconds."""

    bytes: int
    changed: int


def folder_of(out: Path, kind: tuple[str, str], split: str) -> Path:
    """Return where the files of a split lie; `kind` is `IMAGES` or `LABELS`."""
    return out / kind[0] / split


def names_of(kind: tuple[str, str], index: int) -> list[str]:
    """Return the names of the files of one image."""
    return [f"{crop_number(index, place)}{kind[1]}" for place in range(CROPS_PER_IMAGE)]


def stamps_of(sample: Sample) -> tuple[Stamp, Stamp | None]:
    """Return size and time of change of an image and of its label map.

    Raises:
        OSError: If one is not there.
    """
    return _stamp(sample.image), None if sample.label is None else _stamp(sample.label)


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return Stamp(status.st_size, status.st_mtime_ns)


def sizes_in(folder: Path) -> dict[str, int]:
    """Return the sizes of the files in a folder; none if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise output_error(folder, error) from error


def write_crop(crop: Crop, images: Path, labels: Path, quality: int) -> tuple[int, int]:
    """Write the files of one crop, each whole or not at all.

    Args:
        crop: What to write.
        images: Folder of the images; must exist.
        labels: Folder of the label maps; must exist if there are any.
        quality: JPEG quality.

    Returns:
        The sizes of image and label map in bytes; the latter is 0 if there is none.

    Raises:
        OutputError: If the system refuses.
    """
    picture = Image.fromarray(crop.pixels)
    image_bytes = _write(images, f"{crop.number}{IMAGES[1]}", lambda file: picture.save(file, "JPEG", quality=quality))
    if crop.labels is None:
        return image_bytes, 0
    encoded = label_png(crop.labels)
    return image_bytes, _write(labels, f"{crop.number}{LABELS[1]}", lambda file: file.write(encoded))


def _write(folder: Path, name: str, write: Callable[[IO[bytes]], object]) -> int:
    """Write a file under a temporary name and rename it; return its size.

    It is not flushed to disk, which would take longer than making it: see record.py for why that is safe.
    """
    path, temporary = folder / name, folder / (TEMPORARY + name)
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            size = os.fstat(file.fileno()).st_size
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise output_error(path, error) from error
        raise
    return size
