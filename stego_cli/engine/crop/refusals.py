"""When `stego crop` must not go on: what it would mix, replace or mistake is named, with a way out."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stego_cli.engine.crop.files import IMAGES, LABELS, folder_of, sizes_in, stamps_of
from stego_cli.errors import OutputError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stego_cli.data.dataset import Dataset
    from stego_cli.engine.crop.files import Stamp
    from stego_cli.engine.crop.record import CroppedImage, CropRecord, SplitRecord


def refuse_place(out: Path, datasets: Iterable[Dataset]) -> None:
    """Refuse a folder among the images, where the next command would take the crops for images."""
    for dataset in datasets:
        images = Path(os.path.commonpath([sample.image.parent for sample in dataset.samples]))
        if out.resolve().is_relative_to(images.resolve()):
            raise OutputError(
                f"`{printable(out)}` is among the images of {printable(dataset.name)}\n\n"
                "hint: choose a folder beside them with --out, so that no crop is taken for an image"
            )


def refuse_other_settings(
    out: Path, settings: Mapping[str, Any], record: CropRecord | None, wanted: Mapping[str, Dataset], *, overwrite: bool
) -> None:
    """Refuse to mix crops that were made in different ways."""
    if record is None:
        return
    different = [
        f"{name}: {_words(record.settings.get(name))} there, {_words(value)} now"
        for name, value in settings.items()
        if record.settings.get(name) != value
    ]
    holding = [split for split, one in record.splits.items() if one.done]
    left = [split for split in holding if split not in wanted]
    if different and (left if overwrite else holding):
        hint = "add --overwrite to replace them, or choose another folder with --out"
        if overwrite:
            hint = f"add {' '.join(f'--split {split}' for split in left)}, or choose another folder with --out"
        raise OutputError(
            f"`{printable(out)}` holds crops of {', '.join(left if overwrite else holding)} made with other settings:"
            "\n  " + "\n  ".join(different) + f"\n\nhint: {hint}"
        )


def refuse_foreign(out: Path, split: str, known: SplitRecord | None) -> None:
    """Refuse to touch files in a place of which no record speaks, such as crops that the reference made."""
    if known is not None:
        return
    for kind in (IMAGES, LABELS):
        folder = folder_of(out, kind, split)
        there = [name for name in sizes_in(folder) if not name.startswith(".")]
        if there:
            raise OutputError(
                f"`{printable(folder)}` holds {len(there)} files, and no record says that this tool made them; "
                "they may be crops of the reference\n\n"
                "hint: use them as they are with the same dataset and --crop, add --overwrite to replace them, or "
                "choose another folder with --out"
            )


def refuse_changed(out: Path, dataset: Dataset, done: Mapping[int, CroppedImage]) -> None:
    """Refuse to go on where images were edited, added in between or taken away since they were cut."""
    changes = [change for image in done.values() if (change := _change(dataset, image))]
    if changes:
        more = f"\n  and {len(changes) - 1} more" if len(changes) > 1 else ""
        raise OutputError(
            f"the images have changed since crops of them were written to `{printable(out)}`:\n  {changes[0]}{more}\n\n"
            "hint: add --overwrite to cut them all again, or choose another folder with --out"
        )


def _change(dataset: Dataset, image: CroppedImage) -> str | None:
    """Say in what an image differs from the one that was cut."""
    if image.index >= len(dataset):
        return f"image {image.index} was `{printable(image.name)}`; there are only {len(dataset)} now"
    sample = dataset.samples[image.index]
    if sample.name != image.name:
        return f"image {image.index} was `{printable(image.name)}`, it is `{printable(sample.name)}` now"
    try:
        stamps = stamps_of(sample)
    except OSError as error:
        return f"`{printable(image.name)}` or its label map cannot be read: {error.strerror}"
    for what, then, now in zip(("image", "label map"), (image.image, image.label), stamps, strict=True):
        if then != now:
            return f"{what} of `{printable(image.name)}` was {_stamp_words(then)}, it is {_stamp_words(now)} now"
    return None


def _stamp_words(stamp: Stamp | None) -> str:
    if stamp is None:
        return "none"
    return f"{stamp.bytes} bytes of {datetime.fromtimestamp(stamp.changed / 1e9).astimezone():%Y-%m-%d %H:%M:%S}"


def _words(value: Any) -> str:
    return "none" if value is None else str(value)
