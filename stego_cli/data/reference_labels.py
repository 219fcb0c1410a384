"""Labels and masks exactly as the STEGO reference hands them to its training, quirks included.

Training under the `paper` protocol samples positions where a mask is true, and masks follow from labels in a way of
each dataset's own. Everything else reads labels through `LabelCode`, which says no class where there is none. The two
agree in every pixel that a metric counts, but for stored values that no published file holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stego_cli.data.label_codes import load_label_code
from stego_cli.data.labels import IGNORE_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from stego_cli.config.model import Rgb

    _Ids = NDArray[np.int64]

_UNLABELLED = 255
_COCO_FIRST_STUFF = 12  # the first coarse class that is stuff
_CITYSCAPES_FIRST = 7  # the first Cityscapes id that counts
_COCO3 = {23: 0, 22: 1, 21: 2}  # coarse class to class: sky, plant, ground


def _cocostuff27(stored: _Ids) -> _Ids:
    """Coarse classes; values that the table does not have (182 to 254) become class 0."""
    return np.where(
        stored == _UNLABELLED, IGNORE_LABEL, np.maximum(load_label_code("cocostuff27").class_ids(stored), 0)
    )


def _cocostuff15(stored: _Ids) -> _Ids:
    """Coarse classes from the first stuff class on: things are -12 to -1, unlabelled is -13."""
    return _cocostuff27(stored) - _COCO_FIRST_STUFF


def _cocostuff3(stored: _Ids) -> _Ids:
    coarse = _cocostuff27(stored)
    labels = np.full_like(coarse, IGNORE_LABEL)
    for coarse_id, class_id in _COCO3.items():
        labels[coarse == coarse_id] = class_id
    return labels


def _potsdam(stored: _Ids) -> _Ids:
    """Pairs of classes; other values than 0 to 5 and 255 become class 0."""
    return np.where(stored == _UNLABELLED, IGNORE_LABEL, np.maximum(load_label_code("potsdam").class_ids(stored), 0))


def _cityscapes(stored: _Ids) -> _Ids:
    """Ids from 7 on; 34 and above give classes beyond the 27, which metrics leave out."""
    return np.maximum(stored - _CITYSCAPES_FIRST, IGNORE_LABEL)


def _directory(stored: _Ids) -> _Ids:
    """Values as they are, with a leading axis that no other dataset has: (1, H, W)."""
    return stored[None]


_RULES: dict[str, Callable[[_Ids], _Ids]] = {
    "cocostuff27": _cocostuff27,
    "cocostuff15": _cocostuff15,
    "cocostuff3": _cocostuff3,
    "potsdam": _potsdam,
    "potsdamraw": _potsdam,
    "cityscapes": _cityscapes,
    "directory": _directory,
}


def reference_labels(name: str, stored: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return labels as the reference has them.

    Args:
        name: A dataset of the reference: a known name other than `voc2012`, or `directory` for a folder.
        stored: Values of a label file, 0 to 255, shape (H, W).

    Returns:
        Shape (H, W), or (1, H, W) for `directory`. Pixels without a class are not always -1.
    """
    return _RULES[name](stored)


def reference_missing_labels(size: tuple[int, int]) -> NDArray[np.int64]:
    """Return what potsdam, potsdamraw and directory datasets have in the place of a missing label file: -1 all over."""
    return np.full(size, IGNORE_LABEL, np.int64)


def reference_mask(name: str, labels: NDArray[np.int64], *, cropped: bool = False) -> NDArray[np.bool_]:
    """Return the mask that goes with labels; what it means differs from dataset to dataset.

    For COCO-Stuff it is true where a pixel has a class. For Potsdam and folders class 0 is left out as well. For
    Cityscapes and for crops of any dataset it is the other way round: true where a pixel has no class.

    Args:
        name: As for `reference_labels`.
        labels: What that returned, or class ids that were read from crops.
        cropped: Whether the labels come from crops.
    """
    mask: NDArray[np.bool_]
    if cropped or name == "cityscapes":
        mask = labels == IGNORE_LABEL
    elif name in {"potsdam", "potsdamraw", "directory"}:
        mask = labels > 0
    else:
        mask = labels >= 0
    return mask


def reference_colours(ids: NDArray[np.int64], table: tuple[Rgb, ...]) -> NDArray[np.uint8]:
    """Colour class ids (H, W) as the reference's figures do: -1 takes the last row of the table.

    Returns:
        Shape (H, W, 3).
    """
    colours: NDArray[np.uint8] = np.array(table, np.uint8)[ids]
    return colours
