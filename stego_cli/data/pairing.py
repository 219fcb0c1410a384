"""Which files of a dataset belong together by name, and which ones are left over or lead nowhere."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from stego_cli.data.folders import Entry, FolderReader
from stego_cli.data.images import IMAGE_SUFFIXES
from stego_cli.data.label_maps import LABEL_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from stego_cli.data.dataset import Dataset, Sample


@dataclass(frozen=True)
class Pairing:
    """What the names of the files tell.

    Attributes:
        unlabelled: Images without label map, each with files that may have been meant as one.
        orphans: Label maps without image.
        same_stem: Images that differ in nothing but their suffix, and so share one label map and one output name.
        broken: Links to nothing.
        locked: Folders that cannot be looked into, with the reason.
    """

    unlabelled: tuple[tuple[Path, tuple[Path, ...]], ...]
    orphans: tuple[Path, ...]
    same_stem: tuple[tuple[str, ...], ...]
    broken: tuple[Path, ...]
    locked: tuple[tuple[Path, str], ...]


def pair_up(dataset: Dataset) -> Pairing:
    """Compare the images of a dataset with the label maps, by name, as its folders hold them now."""
    images, paired, labels = _folders(dataset)
    reader = FolderReader(exclude=[dataset.root / "cropped", *([labels] if labels else [])])
    image_files = reader.below(images)[1]
    label_files = reader.below(labels)[1] if labels and labels.is_dir() else []
    names = _Names(dataset.samples, paired, labels or paired)
    meant: dict[str, list[Path]] = defaultdict(list)  # files among the label maps, by what they share with an image
    for entry in label_files:
        if (key := names.label_key(entry.path)) is not None:
            meant[key].append(entry.path)
    known = {names.image_key(entry.path) for entry in image_files if names.is_image(entry.path)}
    known |= {names.image_key(sample.image) for sample in dataset.samples}
    bare = [sample.image for sample in dataset.samples if sample.label is None]
    spare = [path for key, paths in meant.items() if key not in known for path in paths if names.is_label(path)]
    return Pairing(
        unlabelled=tuple((path, tuple(meant.get(names.image_key(path), ()))) for path in bare),
        orphans=tuple(sorted(spare)),
        same_stem=_same_stem(dataset.samples),
        broken=tuple(sorted(path for path in _broken([*image_files, *label_files]) if names.is_either(path))),
        locked=tuple(sorted(reader.unreadable.items())),
    )


def _broken(entries: Iterable[Entry]) -> Iterator[Path]:
    """Yield links to nothing."""
    for entry in entries:
        if entry.is_link and not os.path.exists(entry.path):  # noqa: PTH110, `Path.exists` raises where it is locked
            yield entry.path


class _Names:
    """How image and label map of one pair are called, read off a pair that is there.

    Args:
        samples: The images of the dataset.
        images: Folder that the images lie below.
        labels: Folder that the label maps lie below.
    """

    def __init__(self, samples: Sequence[Sample], images: Path, labels: Path) -> None:
        self._images, self._labels = images, labels
        image, label = next(((sample.image, sample.label) for sample in samples if sample.label), (None, None))
        self._image_tail = self._label_tail = ""
        if image and label:
            # `aachen_1_leftImg8bit` and `aachen_1_gtFine_labelIds`: what follows the common part tells them apart.
            common = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(image.stem, label.stem, strict=False))))
            self._image_tail, self._label_tail = image.stem[common:], label.stem[common:]
        self._label_suffixes = {*LABEL_SUFFIXES, label.suffix.lower()} if label else set(LABEL_SUFFIXES)
        self._image_suffixes = IMAGE_SUFFIXES | {sample.image.suffix.lower() for sample in samples}

    def image_key(self, path: Path) -> str:
        """Return what an image has in common with its label map."""
        return _below(path, self._images).removesuffix(self._image_tail)

    def label_key(self, path: Path) -> str | None:
        """Return what a label map has in common with its image; None if it is not called as one."""
        stem = _below(path, self._labels)
        return stem.removesuffix(self._label_tail) if stem.endswith(self._label_tail) else None

    def is_image(self, path: Path) -> bool:
        """Tell an image by its suffix."""
        return path.suffix.lower() in self._image_suffixes

    def is_label(self, path: Path) -> bool:
        """Tell a label map by its suffix."""
        return path.suffix.lower() in self._label_suffixes

    def is_either(self, path: Path) -> bool:
        """Tell an image or a label map by its suffix."""
        return self.is_image(path) or self.is_label(path)


def _below(path: Path, folder: Path) -> str:
    """Return a path within a folder, without suffix; the bare stem for what lies elsewhere."""
    stem, start = os.path.splitext(path)[0], os.path.join(folder, "")  # noqa: PTH118, PTH122, three times as fast
    return stem.removeprefix(start) if stem.startswith(start) else os.path.basename(stem)  # noqa: PTH119


def _folders(dataset: Dataset) -> tuple[Path, Path, Path | None]:
    """Return the folders that all images, the labelled ones among them, and all label maps of a split lie below.

    Paths within the second and the third are the same but for the names' ends. In a plain folder they are there,
    whatever lies in them; elsewhere they are read off the files, and that of the label maps is None if there are none.
    """
    root, first = dataset.root, dataset.samples[0]
    label = next((sample.label for sample in dataset.samples if sample.label), None)
    layouts = (
        (root / "imgs" / dataset.split, root / "labels" / dataset.split),
        (root / "imgs", root / "labels"),
        (root, root / "labels"),
    )
    for images, labels in layouts:
        if images / first.name == first.image and (label is None or label.is_relative_to(labels)):
            return images, images, labels
    found = _common(sample.image.parent for sample in dataset.samples) or root
    paired = _common(sample.image.parent for sample in dataset.samples if sample.label) or found
    return found, paired, _common(sample.label.parent for sample in dataset.samples if sample.label)


def _common(folders: Iterable[Path]) -> Path | None:
    """Return the deepest folder that all of the given ones are or lie below."""
    distinct = set(folders)
    return Path(os.path.commonpath(distinct)) if distinct else None


def _same_stem(samples: Sequence[Sample]) -> tuple[tuple[str, ...], ...]:
    """Return the groups of images whose names differ in the suffix only."""
    groups: dict[PurePosixPath, list[str]] = defaultdict(list)
    for sample in samples:
        groups[PurePosixPath(sample.name).with_suffix("")].append(sample.name)
    return tuple(tuple(names) for names in groups.values() if len(names) > 1)
