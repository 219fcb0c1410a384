"""Neighbour files of the STEGO reference: `nns_*.npz` with one table of image numbers and nothing else."""

from __future__ import annotations

import re
import zipfile
import zlib
from typing import IO, TYPE_CHECKING

import numpy as np

from stego_cli.checkpoints.plain import harmless
from stego_cli.errors import ShapeError, StegoError
from stego_cli.files import atomic_write, printable
from stego_cli.neighbors.index import NeighborIndex

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

KEY = "nns"

_MOST_GROWTH = 200  # a table of image numbers shrinks to a third or a tenth in the archive, never to this part
_SMALL = 1024  # bytes; archives below it do no harm
_LONGEST_HEADER = 10_000
_HEADER = re.compile(
    r"\{'descr': '([<>|]?[iu][1248])', 'fortran_order': (True|False), 'shape': \((\d{1,12}), (\d{1,12})\), \}\s*"
)


def reference_name(model_type: str, dataset: str, split: str, crop: str | None, res: int) -> str:
    """Return what the reference calls its neighbour file.

    Args:
        model_type: The backbone in its words, such as `vit_small`.
        dataset: For example `cocostuff27`.
        split: `train` or `val`.
        crop: `five`, `random` or None.
        res: Side of the images in pixels. The reference always writes 224 here, and looks for its configured `res`.

    Example:
        >>> reference_name("vit_small", "cityscapes", "train", None, 224)
        'nns_vit_small_cityscapes_train_None_224.npz'
    """
    return f"nns_{model_type}_{dataset}_{split}_{crop}_{res}.npz"


def save_reference(index: NeighborIndex, path: Path) -> None:
    """Write the neighbours as the reference does; the file appears whole or not at all.

    Raises:
        StegoError: If an image has no neighbours: this layout cannot say so, and the reference would take -1 for the
            last image.
        OutputError: If the file cannot be written.
    """
    without = np.flatnonzero((index.neighbors < 0).any(axis=1))
    if len(without):
        first = f"`{printable(index.names[without[0]])}`" if index.names else f"image {without[0]}"
        raise StegoError(
            f"{len(without)} images could not be read and have no neighbours ({first} is the first); "
            "a file of the reference cannot say so\n\n"
            "hint: repair or remove these images, then build the index again"
        )
    with atomic_write(path) as file:
        np.savez_compressed(file, nns=index.neighbors)


def load_reference(path: Path, count: int) -> NeighborIndex:
    """Read the neighbours that the reference wrote. What they were made from is not in the file, so nobody can check.

    Args:
        path: The file, `nns_*.npz`.
        count: How many images the dataset has.

    Returns:
        An index without similarities, names and fingerprint.

    Raises:
        StegoError: If there is no such file, it is damaged or holds something else, or it was made for another number
            of images.
    """
    if not path.is_file():
        raise StegoError(f"no neighbour file at `{printable(path)}`\n\nhint: check the path, or run `stego knn build`")
    try:
        with zipfile.ZipFile(path) as archive:
            table = _read_table(archive, path, count)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, NotImplementedError) as error:
        raise _unusable(path, f"damaged, or no archive of NumPy arrays ({error})") from error
    try:
        return NeighborIndex(table, None, np.ones(count, np.bool_))
    except ShapeError as error:
        raise _unusable(path, str(error).partition("\n\nhint:")[0]) from error


def _read_table(archive: zipfile.ZipFile, path: Path, count: int) -> NDArray[np.int64]:
    """Read the table after a look at its header: neither objects nor more than a real file holds is ever unpacked."""
    members = {info.filename: info for info in archive.infolist()}
    if (info := members.get(f"{KEY}.npy")) is None:
        names = ", ".join(f"`{printable(name.removesuffix('.npy'))}`" for name in sorted(members)[:5]) or "nothing"
        raise _unusable(path, f"it holds {names}, expected an array `{KEY}`")
    with archive.open(info) as file:
        begin, dtype, in_columns, shape = _read_header(file, path)
        if shape[0] != count:
            raise StegoError(
                f"`{printable(path)}` has the neighbours of {shape[0]} images, the dataset has {count}\n\n"
                "hint: it was made for another dataset, split or crop; take the right one, or run `stego knn build`"
            )
        if not 0 < shape[1] <= count or info.file_size != begin + shape[0] * shape[1] * dtype.itemsize:
            raise _unusable(path, f"{shape[1]} columns and {info.file_size} bytes do not go together")
        if info.file_size > _MOST_GROWTH * max(info.compress_size, _SMALL):
            raise _unusable(
                path, f"it would grow from {info.compress_size} to {info.file_size} bytes, as no real one does"
            )
        values = np.frombuffer(file.read(), dtype)
    return values.reshape(shape, order="F" if in_columns else "C").astype(np.int64, order="C")


def _read_header(file: IO[bytes], path: Path) -> tuple[int, np.dtype[np.integer], bool, tuple[int, int]]:
    """Read the header of an array in NumPy's format: where values begin, their type, column by column?, and the shape.

    NumPy's own reader is not asked: it hands the header to Python's parser, which fails in many ways on damaged ones.
    """
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY" or magic[6] not in {1, 2, 3}:
        raise _unusable(path, f"`{KEY}` is no array of NumPy")
    size = 2 if magic[6] == 1 else 4
    length = int.from_bytes(file.read(size), "little")
    text = file.read(min(length, _LONGEST_HEADER)).decode("latin-1")
    if (found := _HEADER.fullmatch(text)) is None:
        raise _unusable(path, f"`{KEY}` is no table of whole numbers, but {text[:100].strip()}")
    descr, in_columns, rows, columns = found.groups()
    return 8 + size + length, np.dtype(descr), in_columns == "True", (int(rows), int(columns))


def _unusable(path: Path, why: str) -> StegoError:
    return StegoError(
        f"`{printable(path)}` is not a usable neighbour file: {harmless(why)}\n\n"
        "hint: copy it again from where it was made, or run `stego knn build`"
    )
