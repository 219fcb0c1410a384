"""The neighbour index: who is nearest to whom, and what it was made from, in one safetensors file."""

from __future__ import annotations

import difflib
import json
import math
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

import stego_cli
from stego_cli.checkpoints.plain import harmless
from stego_cli.config.words import IndexKind
from stego_cli.errors import ShapeError, StaleError, StegoError
from stego_cli.features.fingerprint import Fingerprint
from stego_cli.files import atomic_write, printable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

METADATA_KEY = "stego_neighbors"
FORMAT = 1
REBUILD = "build it again with `stego knn build --overwrite`"

_TENSORS = {"neighbors": np.int64, "similarities": np.float32, "valid": np.bool_, "names": np.uint8, "ends": np.int64}


@dataclass(frozen=True, eq=False)  # comparing arrays has no single answer
class NeighborIndex:
    """The neighbours of the N images of one dataset and split.

    Attributes:
        neighbors: Image numbers, shape (N, columns) int64: the image itself, then the others, nearest first; -1 where
            there is none. In a file of the reference, an image with exact copies may stand behind one of them.
        similarities: Inner products beside them, float32, NaN where there is none; None for a file of the reference,
            which does not keep them.
        valid: Shape (N,): false for images that could not be read.
        names: What the images are called, in their order; empty for a file of the reference.
        kind: How the neighbours were found.
        recall: Share of the true neighbours found, for approximate kinds.
        fingerprint: What the index was made from; None for a file of the reference, which does not say.
        stego_version: Version of this tool that made it.

    Raises:
        ShapeError: If these do not fit each other, or a number is that of no image.
    """

    neighbors: NDArray[np.int64]
    similarities: NDArray[np.float32] | None
    valid: NDArray[np.bool_]
    names: tuple[str, ...] = ()
    kind: IndexKind = "flat"
    recall: float | None = None
    fingerprint: Fingerprint | None = None
    stego_version: str = stego_cli.__version__

    def __post_init__(self) -> None:
        if problems := _problems(self):
            raise ShapeError(
                "this is no neighbour index:\n  " + "\n  ".join(problems) + "\n\n"
                "hint: it was put together wrongly; " + REBUILD
            )

    def __len__(self) -> int:
        return len(self.neighbors)

    @property
    def columns(self) -> int:
        """How many columns there are, the image itself included."""
        return int(self.neighbors.shape[1])

    def others(self, image: int) -> NDArray[np.int64]:
        """Return the neighbours of one image without itself, nearest first; at most `columns` - 1."""
        row = self.neighbors[image]
        others: NDArray[np.int64] = row[(row != image) & (row >= 0)][: self.columns - 1]
        return others

    def find(self, wanted: str) -> int:
        """Return the number of the image that somebody means.

        Args:
            wanted: Its name in the dataset, or the end of it, with or without the suffix, if only one ends like that.

        Raises:
            StegoError: If none or several are called so; names some.
        """
        return find_name(self.names, wanted)


def find_name(names: tuple[str, ...], wanted: str) -> int:
    """Return the place of the name that somebody means; see `NeighborIndex.find`."""
    if wanted in names:
        return names.index(wanted)
    tail = PurePosixPath(wanted).parts
    found = [place for place, name in enumerate(names) if tail and _ends_like(PurePosixPath(name), tail)]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(f"`{printable(names[place])}`" for place in found[:3])
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise StegoError(f"`{printable(wanted)}` may be {some}{more}\n\nhint: write the whole name")
    near = difflib.get_close_matches(wanted, names, n=3)
    hint = (
        f"did you mean {' or '.join(f'`{printable(name)}`' for name in near)}?"
        if near
        else (
            f"names are paths within the dataset, such as `{printable(names[0])}`"
            if names
            else "the index has no names"
        )
    )
    raise StegoError(f"no image of the index is called `{printable(wanted)}`\n\nhint: {hint}")


def _ends_like(name: PurePosixPath, tail: tuple[str, ...]) -> bool:
    """Say whether a name ends in these parts, its suffix aside if they have none of their own."""
    return name.parts[-len(tail) :] == tail or name.with_suffix("").parts[-len(tail) :] == tail


def _problems(index: NeighborIndex) -> list[str]:
    """List what does not fit together."""
    neighbors, shape = index.neighbors, index.neighbors.shape
    if neighbors.ndim != 2 or neighbors.dtype != np.int64 or 0 in shape:
        return [f"neighbours have the shape {shape} and the type {neighbors.dtype}, expected (images, columns) int64"]
    found = []
    if index.similarities is not None and not _is(index.similarities, shape, np.float32):
        found.append(f"similarities have the shape {index.similarities.shape}, the neighbours {shape}")
    if not _is(index.valid, shape[:1], np.bool_):
        found.append(f"the mask of valid images has the shape {index.valid.shape}, expected {shape[:1]}")
    if index.names and len(index.names) != shape[0]:
        found.append(f"there are {len(index.names)} names for {shape[0]} images")
    if neighbors.min() < -1 or neighbors.max() >= shape[0]:
        found.append(
            f"numbers of images reach from {neighbors.min()} to {neighbors.max()}, there are {shape[0]} images"
        )
    if index.recall is not None and not 0 <= index.recall <= 1:
        found.append(f"a recall of {index.recall} is no share")
    return found


def _is(array: NDArray[Any], shape: tuple[int, ...], dtype: type[np.generic]) -> bool:
    return array.shape == shape and array.dtype == dtype


def save_index(index: NeighborIndex, path: Path) -> None:
    """Write an index as one safetensors file; it appears whole or not at all, equal bytes for equal content.

    Raises:
        ShapeError: If the index has no similarities or names, as one read from a file of the reference.
        OutputError: If the file cannot be written.
    """
    if index.similarities is None or not index.names:
        raise ShapeError(f"an index of the reference lacks similarities and names\n\nhint: {REBUILD}")
    encoded = [name.encode("utf-8", "surrogateescape") for name in index.names]
    tensors = {
        "neighbors": index.neighbors,
        "similarities": index.similarities,
        "valid": index.valid,
        "names": np.frombuffer(b"".join(encoded), np.uint8),  # a header of safetensors ends at 100 MB: too few names
        "ends": np.cumsum([len(name) for name in encoded], dtype=np.int64),
    }
    about = {
        "format": FORMAT,
        "kind": index.kind,
        "recall": index.recall,
        "stego_version": index.stego_version,
        "fingerprint": index.fingerprint.model_dump(mode="json") if index.fingerprint else None,
    }
    # One entry only: the library writes several in an order that changes from run to run.
    metadata = {METADATA_KEY: json.dumps(about, sort_keys=True)}
    with atomic_write(path) as file:
        file.write(save({key: np.ascontiguousarray(value) for key, value in tensors.items()}, metadata=metadata))


def load_index(path: Path, expected: Fingerprint | None = None) -> NeighborIndex:
    """Read an index that `save_index` wrote.

    Args:
        path: The file.
        expected: What the index must have been made from; None takes any.

    Raises:
        StaleError: If it was made from something else; names every difference.
        StegoError: If there is no such file, it is damaged, no index, or from a later version.
    """
    metadata, tensors = _read(path)
    about = _about(metadata, path)
    if wrong := _wrong_tensors(tensors):
        raise _unusable(path, "; ".join(wrong))
    try:
        fingerprint = Fingerprint.model_validate(about["fingerprint"]) if about.get("fingerprint") else None
        index = NeighborIndex(
            neighbors=tensors["neighbors"],
            similarities=tensors["similarities"],
            valid=tensors["valid"],
            names=_names(tensors["names"], tensors["ends"]),
            kind=about["kind"],
            recall=about["recall"],
            fingerprint=fingerprint,
            stego_version=str(about["stego_version"]),
        )
    except ShapeError as error:
        raise _unusable(path, str(error).partition("\n\nhint:")[0]) from error
    except ValidationError as error:
        raise _unusable(path, f"its fingerprint is not sound: {error.errors()[0]['msg']}") from error
    if expected is not None:
        _refuse_stale(path, fingerprint, expected)
    return index


def _refuse_stale(path: Path, found: Fingerprint | None, expected: Fingerprint) -> None:
    """Raise if an index was made from something else than what is wanted now."""
    differences = ("it does not say what it was made from",) if found is None else found.differences(expected)
    if differences:
        raise StaleError(
            f"the neighbour index `{printable(path)}` was made from something else:\n  "
            + "\n  ".join(harmless(each) for each in differences)
            + f"\n\nhint: {REBUILD}, or go back to the settings that it was made with"
        )


def _unusable(path: Path, why: str) -> StegoError:
    return StegoError(f"`{printable(path)}` is not a usable neighbour index: {harmless(why)}\n\nhint: {REBUILD}")


def _read(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Read metadata and tensors; they are copies, so that they outlive the file."""
    if not path.is_file():
        what = "a folder is in its place" if path.is_dir() else "there is no such file"
        raise StegoError(f"no neighbour index at `{printable(path)}`: {what}\n\nhint: run `stego knn build` first")
    try:
        with safe_open(path, framework="np") as file:
            metadata: dict[str, str] = file.metadata() or {}
            if METADATA_KEY not in metadata:
                raise _unusable(path, "it is a safetensors file of another kind")
            return metadata, {key: np.array(file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118 - no dictionary
    except PermissionError as error:
        raise _unusable(path, "no permission to read it") from error
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:  # the last two: odd types
        raise _unusable(path, f"truncated, damaged, or no safetensors file ({error})") from error


def _about(metadata: dict[str, str], path: Path) -> dict[str, Any]:
    """Read what the metadata says of the index."""
    try:
        about: Any = json.loads(metadata[METADATA_KEY])
    except (json.JSONDecodeError, RecursionError, ValueError) as error:
        raise _unusable(path, f"its metadata is not JSON ({error})") from error
    if not isinstance(about, dict):
        raise _unusable(path, "its metadata is no table")
    version = about.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise StegoError(
            f"`{printable(path)}` has format {version}; this version of stego reads up to {FORMAT}\n\n"
            "hint: install a newer stego-cli, or build the index again with this one"
        )
    if version != FORMAT or about.get("kind") not in get_args(IndexKind) or "stego_version" not in about:
        raise _unusable(path, "its metadata lacks the format, the kind or the version")
    recall = about.setdefault("recall", None)
    if recall is not None and (isinstance(recall, bool) or not isinstance(recall, int | float) or math.isnan(recall)):
        raise _unusable(path, f"its recall is {recall!r}, not a number")
    return about


def _wrong_tensors(tensors: dict[str, NDArray[Any]]) -> list[str]:
    """List tensors that are missing, of another type, or too many."""
    wrong = [f"`{key}` is missing" for key in _TENSORS if key not in tensors]
    wrong += [f"`{key}` does not belong there" for key in sorted(tensors) if key not in _TENSORS]
    wrong += [
        f"`{key}` is {tensors[key].dtype}, expected {np.dtype(kind)}"
        for key, kind in _TENSORS.items()
        if key in tensors and tensors[key].dtype != kind
    ]
    return wrong


def _names(letters: NDArray[np.uint8], ends: NDArray[np.int64]) -> tuple[str, ...]:
    """Cut the names out of one run of UTF-8."""
    if letters.ndim != 1 or ends.ndim != 1 or not len(ends):
        raise ShapeError("the names are not two rows of numbers\n\nhint: " + REBUILD)
    begins = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    if (begins > ends).any() or begins[0] < 0 or ends[-1] != len(letters):
        raise ShapeError("the names end before they begin, or beyond their text\n\nhint: " + REBUILD)
    text = letters.tobytes()
    return tuple(
        text[begin:end].decode("utf-8", "surrogateescape")
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
    )
