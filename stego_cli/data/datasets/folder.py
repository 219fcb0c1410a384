"""A dataset that is simply a folder: images, in splits if there are any, label maps and salience masks beside them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePath
from typing import TYPE_CHECKING

from stego_cli.data.dataset import Sample
from stego_cli.data.datasets.layout import Found, names_in
from stego_cli.data.folders import FolderReader
from stego_cli.data.images import IMAGE_SUFFIXES
from stego_cli.data.inputs import collect_inputs
from stego_cli.data.label_maps import LABEL_SUFFIXES, UNFIT, UNFIT_SUFFIXES
from stego_cli.errors import StegoError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stego_cli.data.inputs import InputImage

SPLITS = ("train", "val", "test")
_SPELLINGS = frozenset({"training", "validation", "valid", "testing", "dev"})  # of the three above

_Labels = dict[PurePath, dict[str, "Path"]]  # path below `labels/` without suffix -> suffix -> file


def folder_splits(root: Path) -> tuple[str, ...]:
    """Return the splits that a folder has, `train` first.

    They are the folders in `imgs/` if any is called `train`, `val` or `test`, or something like it; folders of other
    names count only if there are no images beside them. Without such folders all images are `train`.
    """
    images = root / "imgs"
    names = [name for name in names_in(images) if not name.startswith(".")]
    folders = {name for name in names if (images / name).is_dir()}
    if not folders & _SPELLINGS.union(SPLITS):
        return ("train",)
    mixed = any(PurePath(name).suffix.lower() in IMAGE_SUFFIXES for name in names if name not in folders)
    usual = [split for split in SPLITS if split in folders]
    return (*usual, *(() if mixed else sorted(folders.difference(SPLITS))))


def has_split(root: Path, split: str) -> bool:
    """Say whether a split can be opened: those of `folder_splits`, and any folder in `imgs/` that is asked for."""
    images = root / "imgs"
    return split in folder_splits(root) or (split in names_in(images) and (images / split).is_dir())


def folder_samples(root: Path, split: str) -> Found:
    """Return the images of one split in the order of their names, each with its label map if there is one.

    Images are in `imgs/<split>/` and label maps in `labels/<split>/`; the two belong together by their path below
    these folders without the suffix. Salience masks lie in `salience/` in the same way. A dataset without splits is
    taken whole: what is in `imgs/`, or in a folder of nothing but images.

    Raises:
        StegoError: If there is no image, two images claim one label map, or a label map or mask is JPEG or GIF.
    """
    images, labels, masks = root / "imgs" / split, root / "labels" / split, root / "salience" / split
    notes: list[str] = []
    if not images.is_dir():
        images = root / "imgs" if (root / "imgs").is_dir() else root
        labels, masks = root / "labels", root / "salience"
        if inside := [name for name in SPLITS if (root / name).is_dir() and images == root]:
            notes.append(f"`{inside[0]}` is taken as a folder of images like any other; splits lie in `imgs/`")
    collected = collect_inputs([images], exclude=[root / "labels", root / "salience", root / "cropped"])
    notes += [f"`{printable(skipped.path)}`: {skipped.reason}" for skipped in collected.skipped]
    found = sorted(collected.images, key=lambda image: image.relative)
    maps, salient = _label_files(labels), _label_files(masks)
    _refuse_shared(found, maps)
    samples = tuple(
        Sample(image.relative.as_posix(), image.path, _label_of(stem, maps), _label_of(stem, salient, "salience mask"))
        for image in found
        for stem in (image.relative.with_suffix(""),)
    )
    return Found(samples, (*notes, *_pairing_notes(samples, maps, labels)))


def _label_files(labels: Path) -> _Labels:
    """Return all files below a folder of label maps, or of masks, which are read like them."""
    reader = FolderReader()
    files = reader.below(labels)[1] if labels.is_dir() else []
    if reader.unreadable:
        path, reason = next(iter(reader.unreadable.items()))
        raise StegoError(f"files in `{printable(path)}`: {reason}\n\nhint: make it readable with `chmod u+rx`")
    found: _Labels = defaultdict(dict)
    for entry in files:
        found[entry.path.relative_to(labels).with_suffix("")][entry.path.suffix.lower()] = entry.path
    return found


def _label_of(stem: PurePath, maps: _Labels, what: str = "label map") -> Path | None:
    """Return the label map of an image, or its mask.

    Raises:
        StegoError: If the only one is in a format that changes values.
    """
    files = maps.get(stem, {})
    if best := next((files[suffix] for suffix in LABEL_SUFFIXES if suffix in files), None):
        return best
    if unfit := next((files[suffix] for suffix in files if suffix in UNFIT_SUFFIXES), None):
        raise StegoError(f"{what} `{printable(unfit)}` cannot be used: {UNFIT}")
    return None


def _refuse_shared(found: Sequence[InputImage], maps: Mapping[PurePath, object]) -> None:
    """Refuse two images of one name for which there is a label map: nobody can say whose it is.

    Raises:
        StegoError: Naming both.
    """
    first: dict[PurePath, InputImage] = {}
    for image in found:
        stem = image.relative.with_suffix("")
        other = first.setdefault(stem, image)
        if other is not image and stem in maps:
            raise StegoError(
                f"`{printable(other.path)}` and `{printable(image.path)}` have one label map between them\n\n"
                "hint: remove or rename one of the two images"
            )


def _pairing_notes(samples: Sequence[Sample], maps: _Labels, labels: Path) -> list[str]:
    """Say which images and label maps are without the other, if there are label maps at all."""
    used = {sample.label for sample in samples if sample.label}
    spare = [path for files in maps.values() for suffix, path in files.items() if suffix in LABEL_SUFFIXES]
    spare = sorted(path for path in spare if path not in used)
    notes = []
    if spare:
        notes.append(f"{len(spare)} label maps belong to no image, such as `{printable(spare[0])}`")
    if maps and len(used) < len(samples):
        notes.append(f"{len(samples) - len(used)} of {len(samples)} images have no label map in `{printable(labels)}`")
    return notes
