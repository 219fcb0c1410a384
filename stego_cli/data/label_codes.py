"""How the numbers stored in label files become class ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stego_cli.data.labels import IGNORE_LABEL, stored_values

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class LabelCode:
    """How stored values are read.

    Attributes:
        table: Class id of each value from 0 on, `IGNORE_LABEL` for values that are no class; None leaves every value
            as it is. Values beyond the table are no class.
        added: What was added to every value when the file was written, taken away before anything else; 1 in crops,
            where 0 stands for "no class".
    """

    table: tuple[int, ...] | None = None
    added: int = 0

    def class_ids(self, stored: NDArray[np.int64]) -> NDArray[np.int64]:
        """Map stored values (H, W) to class ids (H, W); what is below 0 or no class becomes `IGNORE_LABEL`.

        Example:
            >>> LabelCode(table=(1, IGNORE_LABEL, 0)).class_ids(np.array([[0, 1, 2, 255]]))
            array([[ 1, -1,  0, -1]])
        """
        values = stored - self.added if self.added else stored
        if self.table is None:
            return np.maximum(values, IGNORE_LABEL)
        table = np.array([*self.table, IGNORE_LABEL], np.int64)
        inside = (values >= 0) & (values < len(self.table))
        ids: NDArray[np.int64] = table[np.where(inside, values, len(self.table))]
        return ids


UNCHANGED = LabelCode()


def load_label_code(name: str) -> LabelCode:
    """Return how the published label files of a label space that comes with the package are read.

    Raises:
        ConfigError: If there is none of that name; suggests the nearest.

    Example:
        >>> load_label_code("potsdam").table
        (0, 1, 2, 2, 0, 1)
    """
    values = stored_values(name)
    table = [IGNORE_LABEL] * (max(max(stored) for stored in values) + 1)
    for class_id, stored in enumerate(values):
        for value in stored:
            table[value] = class_id
    return LabelCode(tuple(table))


def identity_code(classes: int | None, added: int = 0) -> LabelCode:
    """Return the code of files that hold class ids themselves.

    Args:
        classes: How many classes there are: ids beyond are to be ignored; None if nobody has said.
        added: As in `LabelCode`.
    """
    return LabelCode(None if classes is None else tuple(range(classes)), added)
