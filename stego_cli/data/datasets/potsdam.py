"""ISPRS Potsdam with three classes: the crops with the published split, and all crops named by tile, row and column."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stego_cli.data.dataset import Sample
from stego_cli.data.datasets.layout import Found, KnownDataset, joined, listed_samples, missing_labels_note, names_in
from stego_cli.errors import StegoError
from stego_cli.files import printable

if TYPE_CHECKING:
    from pathlib import Path

_LISTS = {
    "train": ("labelled_train.txt",),
    "val": ("labelled_test.txt",),
    "train+val": ("labelled_train.txt", "labelled_test.txt"),
    "unlabelled_train": ("unlabelled_train.txt",),
    "all": ("all.txt",),
}
_RAW_NAME = re.compile(r"(\d+)_(\d+)_(\d+)\.mat")


def _splits(root: Path) -> tuple[str, ...]:
    present = names_in(root)
    return tuple(split for split, lists in _LISTS.items() if present.issuperset(lists))


def _find(root: Path, split: str) -> Found:
    """Return the crops of a split: `imgs/<id>.mat` with `gt/<id>.mat`."""
    folders = root / "imgs", root / "gt"
    return joined([listed_samples(root / listing, *folders, (".mat", ".mat")) for listing in _LISTS[split]])


def _raw_splits(root: Path) -> tuple[str, ...]:  # noqa: ARG001, every dataset is asked the same way
    return "train", "val"


def _raw_find(root: Path, split: str) -> Found:
    """Return all crops by tile, row and column, as numbers; as in the reference, every split is all of them."""
    images, labels = root / "processed" / "imgs", root / "processed" / "gt"
    there, labelled = names_in(images), names_in(labels)
    numbered = sorted((tuple(map(int, match.groups())), match[0]) for match in map(_RAW_NAME.fullmatch, there) if match)
    if not numbered:
        raise StegoError(
            f"no `<tile>_<row>_<column>.mat` in `{printable(images)}`, which holds {len(there)} file(s)\n\n"
            "hint: unpack potsdamraw.zip again"
        )
    samples = tuple(Sample(name, images / name, labels / name if name in labelled else None) for _, name in numbered)
    same = f"`{split}` is every image: potsdamraw has no splits, so scores on it are scores on what was learned from"
    return Found(samples, (same, *missing_labels_note(samples, labels)))


POTSDAM = KnownDataset(
    name="potsdam",
    label_space="potsdam",
    archive="potsdam",
    folders=("potsdam",),
    parts=("imgs", "labelled_train.txt"),
    splits=_splits,
    find=_find,
)
POTSDAMRAW = KnownDataset(
    name="potsdamraw",
    label_space="potsdam",
    archive="potsdamraw",
    folders=("potsdamraw",),
    parts=("processed/imgs",),
    splits=_raw_splits,
    find=_raw_find,
)
