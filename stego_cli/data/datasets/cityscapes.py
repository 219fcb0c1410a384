"""Cityscapes with fine labels, 27 classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stego_cli.data.dataset import Sample
from stego_cli.data.datasets.layout import Found, KnownDataset, missing_labels_note, names_in
from stego_cli.errors import StegoError
from stego_cli.files import printable

if TYPE_CHECKING:
    from pathlib import Path

_IMAGE, _LABEL = "_leftImg8bit.png", "_gtFine_labelIds.png"


def _splits(root: Path) -> tuple[str, ...]:
    present = names_in(root / "leftImg8bit")
    return tuple(split for split in ("train", "val", "test") if split in present)


def _find(root: Path, split: str) -> Found:
    """Return `leftImg8bit/<split>/<city>/*` with `gtFine/<split>/<city>/*`, by city and name.

    The reference takes the order in which the system happens to list the files, so its own numbering differs from
    machine to machine; sorted, it is the same everywhere.
    """
    images, labels = root / "leftImg8bit" / split, root / "gtFine" / split
    samples = []
    for city in sorted(names_in(images)):
        labelled = names_in(labels / city)
        for name in sorted(name for name in names_in(images / city) if name.endswith(_IMAGE)):
            label = name.removesuffix(_IMAGE) + _LABEL
            path = labels / city / label if label in labelled else None
            samples.append(Sample(f"{split}/{city}/{name}", images / city / name, path))
    if not samples:
        raise StegoError(
            f"no `*{_IMAGE}` in the folders of `{printable(images)}`\n\n"
            "hint: unpack leftImg8bit_trainvaltest.zip again; each city has a folder of its own"
        )
    return Found(tuple(samples), missing_labels_note(samples, labels))


CITYSCAPES = KnownDataset(
    name="cityscapes",
    label_space="cityscapes",
    archive="cityscapes",
    folders=("cityscapes",),
    parts=("leftImg8bit",),
    splits=_splits,
    find=_find,
)
