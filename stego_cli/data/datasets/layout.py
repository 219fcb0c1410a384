"""What the known datasets have in common: a folder laid out as published, splits, and lists of images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from stego_cli.data.dataset import Sample
from stego_cli.errors import StegoError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Found:
    """The images of one split, in order, and what a user should know about them."""

    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownDataset:
    """A dataset that is known by name.

    Attributes:
        name: What users call it.
        label_space: Its classes.
        archive: Its entry in the download catalog.
        folders: Where it may lie below the folder that datasets lie in; the first is where `stego download` puts it.
        parts: What its own folder holds, by which it is recognised and without which it is of no use.
        splits: Returns the splits that its folder has, `train` first.
        find: Returns the images of a split, given its folder.
    """

    name: str
    label_space: str
    archive: str
    folders: tuple[str, ...]
    parts: tuple[str, ...]
    splits: Callable[[Path], tuple[str, ...]]
    find: Callable[[Path, str], Found]

    def lacks(self, root: Path) -> list[str]:
        """Return which of its parts a folder does not have."""
        return [part for part in self.parts if not (root / part).exists()]

    def places(self, base: Path) -> list[Path]:
        """Return where to look for its folder, given the one that datasets lie in or its own.

        Archives often bring a folder of their own name, so each place is followed by one level of nesting.
        """
        below = [base.joinpath(*PurePosixPath(folder).parts) for folder in self.folders]
        return [*chain.from_iterable((place, place / place.name) for place in below), base]


def names_in(folder: Path) -> frozenset[str]:
    """Return the names in a folder, asked for once rather than file by file; none if there is no such folder.

    Raises:
        StegoError: If the folder is there, but cannot be looked into.
    """
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise StegoError(
            f"cannot look into `{printable(folder)}`: {error.strerror or error}\n\n"
            "hint: make it readable with `chmod u+rx`, or ask its owner"
        ) from error


def read_list(path: Path) -> tuple[str, ...]:
    """Read a list of image names, one in a line.

    Raises:
        StegoError: If there is no such list, it is empty, or an entry is no bare name.
    """
    try:
        lines = (line.strip() for line in path.read_text("utf-8").splitlines())
        names = tuple(dict.fromkeys(line for line in lines if line))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise StegoError(
            f"cannot read the list of images `{printable(path)}`: {reason}\n\n"
            "hint: the list belongs to the dataset and says which images a split has; unpack the archive again"
        ) from error
    if not names:
        raise StegoError(f"the list of images `{printable(path)}` is empty\n\nhint: unpack the archive again")
    if wrong := [name for name in names if "/" in name or "\\" in name or name == ".."]:
        raise StegoError(f"`{printable(path)}` names `{printable(wrong[0])}`, a path\n\nhint: a line is one bare name")
    return names


def listed_samples(listing: Path, images: Path, labels: Path, suffixes: tuple[str, str], prefix: str = "") -> Found:
    """Return the images that a list names, in its order.

    Images that are not there stay in the list, so that numbers mean the same on every machine; label maps that are
    not there are None. Both are counted in a note.

    Args:
        listing: One name in a line, without suffix.
        images: Folder of the images.
        labels: Folder of the label maps.
        suffixes: Those of images and label maps.
        prefix: Put before the file names to make the samples' names.

    Raises:
        StegoError: If not one of the images is there, or the list cannot be used.
    """
    stems = read_list(listing)
    there, labelled = names_in(images), names_in(labels)
    samples = []
    for stem in stems:
        name, label = stem + suffixes[0], stem + suffixes[1]
        samples.append(Sample(prefix + name, images / name, labels / label if label in labelled else None))
    missing = sum(stem + suffixes[0] not in there for stem in stems)
    if missing == len(stems):
        raise StegoError(
            f"none of the {len(stems)} images that `{printable(listing)}` names is in `{printable(images)}`, "
            f"which holds {len(there)} file(s)\n\n"
            "hint: the archive may not be unpacked to the end; do that again, or run `stego download datasets`"
        )
    gone = f"{missing} of {len(stems)} listed images are not in `{printable(images)}` and cannot be used"
    return Found(tuple(samples), ((gone,) if missing else ()) + missing_labels_note(samples, labels))


def joined(parts: Sequence[Found]) -> Found:
    """Put several lists one after another."""
    return Found(
        tuple(chain.from_iterable(part.samples for part in parts)),
        tuple(chain.from_iterable(part.notes for part in parts)),
    )


def missing_labels_note(samples: Sequence[Sample], labels: Path) -> tuple[str, ...]:
    """Say how many images have no label map, if any."""
    count = sum(sample.label is None for sample in samples)
    return (f"{count} of {len(samples)} images have no label map in `{printable(labels)}`",) if count else ()
