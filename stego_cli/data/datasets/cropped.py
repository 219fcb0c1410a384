"""Crops of a dataset, cut beforehand: `img/<split>/<k>.jpg` with `label/<split>/<k>.png`, where k counts from 0."""

from __future__ import annotations

import json
import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from stego_cli.data.dataset import Sample
from stego_cli.data.datasets.known import place_of
from stego_cli.data.datasets.layout import Found, missing_labels_note, names_in
from stego_cli.data.images import IMAGE_SUFFIXES
from stego_cli.errors import StegoError
from stego_cli.files import printable

if TYPE_CHECKING:
    from pathlib import Path

    from stego_cli.config.data import DataConfig
    from stego_cli.config.words import CropKind

MANIFEST = "manifest.json"
"""What the crops were made from, in their folder; crops of the reference have none."""

JOURNAL = ".crops.journal"
"""A run of `stego crop` that is under way, or was cut off, has this file in the folder."""

LABEL_ADDED = 1
"""Crops store class id + 1, so that 0 stands for no class."""

_FOLDER_NAME = re.compile(r"(?P<dataset>.+)_[a-z]+_crop_[\d.]+")


def crops_folder(config: DataConfig, kind: CropKind, ratio: float) -> Path:
    """Return the folder that crops of the dataset of `config` belong in; whoever writes or reads them asks here.

    Crops of a known dataset lie beside it, in `<data_dir>/cropped`, as in the reference. Those of people's own folders
    lie in `STEGO_HOME/cropped`, as a folder of photographs is not ours to write into.

    Raises:
        StegoError: If the dataset is a folder that is not there.
    """
    crops = place_of(config).crops
    return crops.with_name(f"{crops.name}_{kind}_crop_{float(ratio)}")


def is_crops(root: Path) -> bool:
    """Say whether a folder holds crops, by its manifest or, for those of the reference, by its name."""
    named = bool(_FOLDER_NAME.fullmatch(root.name)) and (root / "label").is_dir()
    return (root / "img").is_dir() and (named or (root / MANIFEST).is_file())


def crop_splits(root: Path) -> tuple[str, ...]:
    """Return the splits of which there are crops, `train` first."""
    return tuple(sorted((name for name in names_in(root / "img") if not name.startswith(".")), key=_train_first))


def crop_samples(root: Path, split: str) -> Found:
    """Return the crops of a split in the order of their numbers; numbers may be missing.

    Raises:
        StegoError: If there are none, or not all that there should be.
    """
    if (root / JOURNAL).exists():
        raise StegoError(
            f"the crops in `{printable(root)}` are not finished\n\n"
            "hint: run the same `stego crop` again; it goes on where it stopped"
        )
    images, labels = root / "img" / split, root / "label" / split
    names = (PurePath(name) for name in names_in(images))
    numbered = sorted(
        (int(name.stem), name.name) for name in names if name.stem.isdecimal() and name.suffix.lower() in IMAGE_SUFFIXES
    )
    if not numbered:
        raise StegoError(
            f"no crops in `{printable(images)}`\n\nhint: run `stego crop` again; it goes on where it stopped"
        )
    labelled = names_in(labels)
    samples = tuple(
        Sample(name, images / name, labels / f"{k}.png" if f"{k}.png" in labelled else None) for k, name in numbered
    )
    return Found(samples, missing_labels_note(samples, labels) if labelled else ())


def crop_origin(root: Path) -> tuple[str, str | None]:
    """Return the name of the dataset that crops were made from, and its label space if the manifest names one."""
    match = _FOLDER_NAME.fullmatch(root.name)
    named = match["dataset"] if match else root.name
    try:
        manifest: Any = json.loads((root / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        return named, None
    if not isinstance(manifest, dict):
        return named, None
    dataset, space = manifest.get("dataset"), manifest.get("label_space")
    return dataset if isinstance(dataset, str) else named, space if isinstance(space, str) else None


def _train_first(split: str) -> tuple[bool, str]:
    return split != "train", split
