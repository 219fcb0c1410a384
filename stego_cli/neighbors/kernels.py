"""Inner loops of the search: which similarities of a tile belong into somebody's list of the nearest.

A list holds similarities in decreasing order, beside them the ids; equal similarities are ordered by id. This order
is total, so a list does not depend on the order in which candidates come, nor on the number of threads.

Importing this module imports Numba.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_STRETCH = 32  # this many similarities are compared at once before any is looked at alone


def _compiled(*, fastmath: set[str] | bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function when it is first called and keep it on disk; it runs without Python's lock."""

    def compiled(function: Callable[..., Any]) -> Any:
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # Numba finds no folder to write to: compile anew in every process
            return numba.njit(**options)(function)

    return compiled


@_compiled(fastmath={"reassoc"})  # so that the sum is taken in several lanes
def similarity(one: NDArray[np.float32], other: NDArray[np.float32]) -> np.float32:
    """Return the inner product, summed in float64 and rounded once: the same in whatever tile a pair is met."""
    total = 0.0
    for channel in range(one.shape[0]):
        total += np.float64(one[channel]) * np.float64(other[channel])
    return np.float32(total)


@_compiled()
def similarities_to_self(vectors: NDArray[np.float32], found: NDArray[np.float32]) -> None:
    """Write the inner product of every vector with itself."""
    for row in range(vectors.shape[0]):
        found[row] = similarity(vectors[row], vectors[row])


@_compiled()
def insert(values: NDArray[np.float32], ids: NDArray[np.int64], value: np.float32, other: int) -> None:
    """Put one candidate at its place in a list, if it has one there; the last entry drops out."""
    place = values.shape[0] - 1
    if value < values[place] or (value == values[place] and other > ids[place]):
        return
    while place > 0 and (values[place - 1] < value or (values[place - 1] == value and ids[place - 1] > other)):
        values[place] = values[place - 1]
        ids[place] = ids[place - 1]
        place -= 1
    values[place] = value
    ids[place] = other


@_compiled()
def update_rows(
    tile: NDArray[np.float32],
    vectors: NDArray[np.float32],
    owners: NDArray[np.int64],
    first: int,
    slack: np.float32,
    lists: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> None:
    """Offer the columns of a tile to the lists of its rows.

    Args:
        tile: Rounded similarities, shape (R, S).
        vectors: All vectors, shape (N, C).
        owners: Which vector each row is, shape (R,); it is never its own neighbour.
        first: Which vector the first column is; the others follow.
        slack: How far the tile's values may be from the similarities proper.
        lists: The rows' similarities and ids, shape (R, m) each, changed in place.
    """
    values, ids = lists
    last = values.shape[1] - 1
    for row in range(tile.shape[0]):
        level = values[row, last] - slack
        line = tile[row]
        for begin in range(0, tile.shape[1], _STRETCH):
            end = min(begin + _STRETCH, tile.shape[1])
            hits = 0
            for column in range(begin, end):
                hits += line[column] >= level
            if hits == 0:
                continue
            for column in range(begin, end):
                other = first + column
                if line[column] >= level and other != owners[row]:
                    insert(values[row], ids[row], similarity(vectors[owners[row]], vectors[other]), other)
                    level = values[row, last] - slack


@_compiled()
def update_columns(
    tile: NDArray[np.float32],
    vectors: NDArray[np.float32],
    corner: tuple[int, int],
    slack: np.float32,
    lists: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> None:
    """Offer the rows of a tile to the lists of its columns; rows and columns are different vectors.

    Args:
        tile: Rounded similarities, shape (R, S).
        vectors: All vectors, shape (N, C).
        corner: Which vectors the first row and the first column are.
        slack: How far the tile's values may be from the similarities proper.
        lists: The columns' similarities and ids, shape (S, m) each, changed in place.
    """
    values, ids = lists
    last = values.shape[1] - 1
    levels = values[:, last] - slack
    for row in range(tile.shape[0]):
        line = tile[row]
        other = corner[0] + row
        for begin in range(0, tile.shape[1], _STRETCH):
            end = min(begin + _STRETCH, tile.shape[1])
            hits = 0
            for column in range(begin, end):
                hits += line[column] >= levels[column]
            if hits == 0:
                continue
            for column in range(begin, end):
                if line[column] >= levels[column]:
                    found = similarity(vectors[corner[1] + column], vectors[other])
                    insert(values[column], ids[column], found, other)
                    levels[column] = values[column, last] - slack


@_compiled()
def rank(
    candidates: NDArray[np.int64],
    vectors: NDArray[np.float32],
    owners: NDArray[np.int64],
    values: NDArray[np.float32],
    ids: NDArray[np.int64],
) -> None:
    """Offer candidates (R, c) that somebody else found to the lists of their rows; -1 stands for none."""
    for row in range(candidates.shape[0]):
        for place in range(candidates.shape[1]):
            other = candidates[row, place]
            if other >= 0 and other != owners[row]:
                insert(values[row], ids[row], similarity(vectors[owners[row]], vectors[other]), other)
