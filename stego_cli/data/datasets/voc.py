"""Pascal VOC 2012, segmentation: background and 20 classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stego_cli.data.datasets.layout import Found, KnownDataset, listed_samples, names_in

if TYPE_CHECKING:
    from pathlib import Path

_LISTS = {"train": "train.txt", "val": "val.txt", "train+val": "trainval.txt", "test": "test.txt"}


def _splits(root: Path) -> tuple[str, ...]:
    present = names_in(root / "ImageSets" / "Segmentation")
    return tuple(split for split, listing in _LISTS.items() if listing in present)


def _find(root: Path, split: str) -> Found:
    """Return `JPEGImages/<id>.jpg` with the palette picture `SegmentationClass/<id>.png`; 255 there is a border."""
    listing = root / "ImageSets" / "Segmentation" / _LISTS[split]
    return listed_samples(listing, root / "JPEGImages", root / "SegmentationClass", (".jpg", ".png"))


VOC2012 = KnownDataset(
    name="voc2012",
    label_space="voc2012",
    archive="voc2012",
    folders=("voc2012/VOCdevkit/VOC2012", "VOCdevkit/VOC2012", "pascalvoc/VOCdevkit/VOC2012", "pascalvoc", "voc2012"),
    parts=("ImageSets/Segmentation", "JPEGImages"),
    splits=_splits,
    find=_find,
)
