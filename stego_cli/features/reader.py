"""How records are read, wherever they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stego_cli.features.fingerprint import Fingerprint

Records: TypeAlias = NDArray[np.floating[Any]]
Numbers: TypeAlias = "Sequence[int] | NDArray[np.integer[Any]]"


class FeatureReader(Protocol):
    """Records of the images of a dataset split, by their number in the split. Reading is safe in threads."""

    @property
    def fingerprint(self) -> Fingerprint:
        """What the records were made from."""
        ...

    @property
    def failed(self) -> tuple[int, ...]:
        """Images that could not be read; their records are NaN."""
        ...

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def __getitem__(self, index: int) -> Records:
        """Return one record, a copy; negative numbers count from the end.

        Raises:
            IndexError: If there is no such image.
            StegoError: If it cannot be read.
        """
        ...

    def read(self, indices: Numbers, out: Records | None = None) -> Records:
        """Return the records of some images in the order asked for, shape (n, *record), a copy; some may be the same.

        Args:
            indices: Numbers of images.
            out: Memory to read into and return, of just this shape and type; memory that is used again, pinned or not,
                spares the system from clearing as much anew for every batch.

        Raises:
            IndexError: If there is no such image.
            StegoError: If they cannot be read.
        """
        ...


@dataclass(frozen=True, eq=False)  # comparing arrays has no single answer
class InMemory:
    """Records held in memory; for threads of one process, since each process it is sent to gets a copy of all.

    Attributes:
        fingerprint: What the records were made from.
        failed: Images that could not be read.
        records: All of them, shape (count, *record).
    """

    fingerprint: Fingerprint
    failed: tuple[int, ...]
    records: Records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Records:
        record: Records = self.read([index])[0]
        return record

    def read(self, indices: Numbers, out: Records | None = None) -> Records:
        """Return a copy of some records, see `FeatureReader`."""
        numbers = whole_numbers(indices, len(self))
        out = memory_for(numbers, self.fingerprint, out)
        np.take(self.records, numbers, axis=0, out=out, mode="clip")  # any other mode would copy everything twice
        return out


def whole_numbers(indices: Numbers, count: int) -> NDArray[np.int64]:
    """Return image numbers from 0 on as an array (n,); negative ones are counted from the end.

    Raises:
        IndexError: If one is outside of [-count, count).
    """
    numbers = np.asarray(indices, np.int64).reshape(-1)
    if wrong := numbers[(numbers < -count) | (numbers >= count)].tolist():
        raise IndexError(f"there is no record {wrong[0]}; there are {count}")
    return np.where(numbers < 0, numbers + count, numbers)


def memory_for(numbers: NDArray[np.int64], fingerprint: Fingerprint, out: Records | None) -> Records:
    """Return memory for as many records as there are numbers: `out` if it is given, else new.

    Raises:
        ValueError: If `out` has another shape or type, or does not lie in one piece.
    """
    shape, dtype = (len(numbers), *fingerprint.shape), np.dtype(fingerprint.dtype)
    if out is None:
        return np.empty(shape, dtype)
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous:
        raise ValueError(f"records of {shape} {dtype} do not fit into {out.shape} {out.dtype}, or it is in pieces")
    return out


def bytes_of(records: Records) -> NDArray[np.uint8]:
    """Return the memory of records (n, *record) as bytes (n, bytes of a record)."""
    if not records.size:
        return np.empty((len(records), 0), np.uint8)
    return records.reshape(len(records), -1).view(np.uint8)
