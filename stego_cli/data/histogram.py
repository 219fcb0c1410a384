"""What the values in label maps mean: classes, values that are no class on purpose, and values out of place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stego_cli.data.label_codes import LabelCode, identity_code
from stego_cli.data.labels import IGNORE_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stego_cli.data.dataset import Dataset
    from stego_cli.data.survey import ValueCount

NO_CLASS = frozenset({-1, 255, 65535})
"""Stored values that mean "no class" wherever people make label maps."""

MOST_CLASSES = 1000
"""Where nobody has said how many classes there are, larger values are not taken for class ids."""


@dataclass(frozen=True)
class Histogram:
    """The pixels of the label maps of a split, by what their values mean.

    Attributes:
        names: Names of the classes, by id.
        classes: Pixels of each class, by id; as long as `names`.
        ignored: Stored values that are no class by the rules of the dataset or by custom.
        stray: Stored values that should not be there.
        unlabelled: The value among `ignored` that was taken for "unlabelled" since it follows the last class.
        is_plain: Whether stored values are class ids themselves, without a table between them.
    """

    names: tuple[str, ...]
    classes: tuple[int, ...]
    ignored: Mapping[int, ValueCount]
    stray: Mapping[int, ValueCount]
    unlabelled: int | None = None
    is_plain: bool = True

    @property
    def labelled(self) -> int:
        """Return the number of pixels that have a class."""
        return sum(self.classes)

    @property
    def pixels(self) -> int:
        """Return the number of all pixels."""
        return self.labelled + sum(count.pixels for count in (*self.ignored.values(), *self.stray.values()))

    @property
    def ignored_share(self) -> float:
        """Return the fraction of all pixels that have no class; 0 if there are no pixels."""
        return 1 - self.labelled / self.pixels if self.pixels else 0.0

    def share(self, class_id: int) -> float:
        """Return the fraction of the labelled pixels that a class has; 0 if there are none."""
        return self.classes[class_id] / self.labelled if self.labelled else 0.0


def histogram(dataset: Dataset, values: Mapping[int, ValueCount], classes: int | None = None) -> Histogram:
    """Sort stored label values into classes, ignored values and stray ones.

    Args:
        dataset: Says what stored values mean, and what the classes are called.
        values: What was found.
        classes: How many classes count; None for those of the label space or, without one, of the values found.
    """
    names = dataset.label_space.names if dataset.label_space else ()
    known = classes or len(names) or None
    code = dataset.code
    plain = code.table is None or code.table == tuple(range(len(code.table)))
    if plain and classes:
        code = identity_code(classes, code.added)
    sums: dict[int, int] = {}
    ignored: dict[int, ValueCount] = {}
    stray: dict[int, ValueCount] = {}
    for value, count in sorted(values.items()):
        class_id = _class_of(value, code, known)
        if class_id is None:
            stray[value] = count
        elif class_id == IGNORE_LABEL:
            ignored[value] = count
        else:
            sums[class_id] = sums.get(class_id, 0) + count.pixels
    # CamVid and others write "unlabelled" as one more class. Without class 0 they may as well count from 1, and where
    # the next value occurs, too, there are just more classes.
    after = known + code.added if known else -1
    unlabelled = after if after in stray and after + 1 not in stray and 0 in sums else None
    if unlabelled is not None:
        ignored[unlabelled] = stray.pop(unlabelled)
    total = known or max(sums, default=-1) + 1
    return Histogram(
        tuple(names[index] if index < len(names) else f"class {index}" for index in range(total)),
        tuple(sums.get(index, 0) for index in range(total)),
        ignored,
        stray,
        unlabelled,
        is_plain=plain,
    )


def _class_of(value: int, code: LabelCode, known: int | None) -> int | None:
    """Return the class of a stored value, `IGNORE_LABEL` if it is meant to have none, None if it is out of place."""
    class_id = int(code.class_ids(np.array([[value]]))[0, 0])
    meant = value - code.added
    by_custom = meant < 0 or bool({value, meant} & NO_CLASS)
    if 0 <= class_id < (known or MOST_CLASSES) and not (by_custom and known is None):
        return class_id
    in_table = code.table is not None and meant < len(code.table) and class_id == IGNORE_LABEL
    return IGNORE_LABEL if by_custom or in_table else None
