"""A dataset that is simply a folder: images, in splits if there are any, and label maps beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from stego_cli.data.inputs import collect_inputs
from stego_cli.errors import ImageError, StegoError
from stego_cli.files import printable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_LABEL_MODES = {"1", "L", "P", "I", "I;16", "I;16B", "I;16L"}


@dataclass(frozen=True)
class LabelledImage:
    """One image of a dataset.

    Attributes:
        path: The image file.
        label_path: Its label map, or None if it has none.
    """

    path: Path
    label_path: Path | None = None


def has_split(root: Path, split: str) -> bool:
    """Say whether a dataset has images set apart under the name of a split."""
    return (root / "imgs" / split).is_dir()


def folder_split(root: Path, split: str) -> list[LabelledImage]:
    """Return the images of one split in the order of their names, each with its label map if there is one.

    Images are in `imgs/<split>/` and label maps, PNG of the same name, in `labels/<split>/`. For the split `train`, a
    dataset without splits is taken whole: what is in `imgs/`, or in a folder of nothing but images.

    Raises:
        StegoError: If there is no such folder, or no image in it.
    """
    if not root.is_dir():
        raise StegoError(f"no folder `{printable(root)}`\n\nhint: give a folder of images, or one that holds `imgs/`")
    images, labels = root / "imgs" / split, root / "labels" / split
    if not images.is_dir() and split == "train":
        if has_split(root, "val"):
            raise StegoError(
                f"`{printable(root)}` has `imgs/val` but no `imgs/train`\n\n"
                "hint: put the images to learn from into `imgs/train`, or all images into `imgs`"
            )
        images, labels = (root / "imgs", root / "labels") if (root / "imgs").is_dir() else (root, root / "labels")
    if not images.is_dir():
        raise StegoError(
            f"no folder `{printable(images)}`\n\nhint: a dataset with splits has its images in `imgs/{split}/`"
        )
    found = collect_inputs([images], exclude=[labels]).images
    return [
        LabelledImage(image.path, _existing(labels / image.relative.with_suffix(".png")))
        for image in sorted(found, key=lambda image: image.relative)
    ]


def read_label_map(path: Path) -> NDArray[np.int64]:
    """Read a label map: one class id per pixel, the stored number itself (for palette images the palette index).

    Returns:
        Shape (H, W).

    Raises:
        ImageError: If the file cannot be read or holds colours instead of numbers.
    """
    try:
        with Image.open(path) as image:
            mode, values = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"label map `{printable(path)}` cannot be read: {error}") from error
    if mode not in _LABEL_MODES:
        raise ImageError(
            f"label map `{printable(path)}` holds {mode} colours, not class ids\n\n"
            "hint: save it with one channel whose values are the class ids"
        )
    return _as_ids(values)


def _as_ids(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return any integer or Boolean array as int64."""
    return values.astype(np.int64)


def _existing(path: Path) -> Path | None:
    """Return the path if there is a file."""
    return path if path.is_file() else None
