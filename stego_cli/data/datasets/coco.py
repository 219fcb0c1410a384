"""COCO-Stuff with 27, 15 or 3 coarse classes, on the curated lists of images that the STEGO family shares."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from stego_cli.data.datasets.layout import Found, KnownDataset, joined, listed_samples

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_FULL, _SEVEN, _FEW = "Coco164kFull_Stuff_Coarse.txt", "Coco164kFull_Stuff_Coarse_7.txt", "Coco164kFew_Stuff_6.txt"
_TRAIN, _VAL = "train2017", "val2017"

_Lists = tuple[tuple[str, str], ...]  # folder of the year, list below `curated/` of that folder


def _same(listing: str) -> dict[str, _Lists]:
    """Return the splits of a dataset that uses lists of one name."""
    return {
        "train": ((_TRAIN, listing),),
        "val": ((_VAL, listing),),
        "train+val": ((_TRAIN, listing), (_VAL, listing)),
    }


# cocostuff27 validates on the shorter list, but takes the full one where both splits are used together.
_LISTS27: dict[str, _Lists] = _same(_FULL) | {"val": ((_VAL, _SEVEN),)}


def _splits(lists: Mapping[str, _Lists], root: Path) -> tuple[str, ...]:
    """Return the splits whose lists are all there."""
    return tuple(
        split
        for split, needed in lists.items()
        if all((root / "curated" / year / listing).is_file() for year, listing in needed)
    )


def _find(lists: Mapping[str, _Lists], root: Path, split: str) -> Found:
    """Return the images of a split: `images/<year>/<id>.jpg` with `annotations/<year>/<id>.png`."""
    return joined(
        [
            listed_samples(
                root / "curated" / year / listing,
                root / "images" / year,
                root / "annotations" / year,
                (".jpg", ".png"),
                prefix=f"{year}/",
            )
            for year, listing in lists[split]
        ]
    )


def _cocostuff(name: str, lists: Mapping[str, _Lists]) -> KnownDataset:
    return KnownDataset(
        name=name,
        label_space=name,
        archive="cocostuff",
        folders=("cocostuff",),
        parts=("curated", "images"),
        splits=partial(_splits, lists),
        find=partial(_find, lists),
    )


COCOSTUFF27 = _cocostuff("cocostuff27", _LISTS27)
COCOSTUFF15 = _cocostuff("cocostuff15", _same(_SEVEN))
COCOSTUFF3 = _cocostuff("cocostuff3", _same(_FEW))
