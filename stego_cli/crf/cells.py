"""The inner loops that build a permutohedral lattice (Adams et al. 2010, section 3).

How a lattice point becomes a whole number, its key, is in `stego_cli.crf.packing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stego_cli.crf.jit import compiled
from stego_cli.crf.vectors import LANES, below, load, minus, nearest, plus, same, store, times

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: spreads neighbouring keys over the table


@compiled
def slots_for(entries: int) -> int:
    """Size of a hash table for so many entries: a power of two, at most half full."""
    slots = 16
    while slots < 2 * entries:
        slots *= 2
    return slots


@compiled
def slot_of(key: int, table: NDArray[np.int64]) -> int:
    """Where `key` is in `table`, or the free slot where it belongs."""
    mask = np.uint64(len(table) - 1)
    mixed = np.uint64(key) * MIX
    slot = (mixed ^ (mixed >> np.uint64(32))) & mask
    while table[slot] != -1 and table[slot] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot  # type: ignore[return-value]  # compiled code indexes faster without a sign


@compiled
def simplices_of(
    features: NDArray[np.float32], row: int, scale: NDArray[np.float32], corners: int, found: NDArray[np.float32]
) -> None:
    """Find the cells of the lattice around eight pixels.

    Args:
        features: Shape (d * rows, 8), feature after feature.
        row: Which eight.
        scale: Stretch of each feature.
        corners: d + 1.
        found: Shape (3 * corners, 8): coordinates of each cell's corner of remainder 0, the order of the coordinates
            within the cell, and how far from that corner the pixel lies, in cells.
    """
    rows = len(features) // (corners - 1)
    inverse, whole = same(np.float32(1.0) / np.float32(corners)), same(np.float32(corners))
    zero, one = same(np.float32(0.0)), same(np.float32(1.0))
    total = zero
    for j in range(corners - 1, 0, -1):
        part = times(load(features, (j - 1) * rows + row), same(scale[j - 1]))
        store(found, 2 * corners + j, minus(total, times(same(np.float32(j)), part)))
        total = plus(total, part)
    store(found, 2 * corners, total)
    level = zero
    for i in range(corners):
        cell = nearest(times(load(found, 2 * corners + i), inverse))
        store(found, i, cell)
        store(found, corners + i, zero)
        level = plus(level, cell)
    for i in range(corners - 1):
        rest = minus(load(found, 2 * corners + i), times(load(found, i), whole))
        for j in range(i + 1, corners):
            other = minus(load(found, 2 * corners + j), times(load(found, j), whole))
            ahead = below(rest, other)
            store(found, corners + i, plus(load(found, corners + i), ahead))
            store(found, corners + j, plus(load(found, corners + j), minus(one, ahead)))
    for i in range(corners):  # back onto the plane where the coordinates sum to zero
        rank = plus(load(found, corners + i), level)
        wrap = minus(below(rank, zero), below(same(np.float32(corners - 1)), rank))
        cell = plus(load(found, i), wrap)
        store(found, i, cell)
        store(found, corners + i, plus(rank, times(wrap, whole)))
        offset = minus(load(found, 2 * corners + i), times(cell, whole))
        store(found, 2 * corners + i, times(offset, inverse))


@compiled
def place(
    features: NDArray[np.float32],
    packing: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]],
    begin: int,
    end: int,
    points: NDArray[np.int32],
    weights: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Find the d + 1 lattice points around pixels `begin` to `end` and number them among themselves.

    Pixels beyond those of `points` are there only to bring their lattice points into being. `begin` is a multiple of
    eight; `packing` are scale, strides and lows.
    """
    scale, strides, lows = packing
    corners = len(strides)
    found = np.empty((3 * corners, LANES), np.float32)
    stride_of_rank, offset_of_rank = np.empty(corners, np.int64), np.empty(corners, np.float32)
    last, last_number = np.full(corners, -1, np.int64), np.zeros(corners, np.int32)
    slots = slots_for((end - begin) * corners)
    table, numbers = np.full(slots, -1, np.int64), np.empty(slots, np.int32)
    keys = np.empty((end - begin) * corners, np.int64)
    known = 0
    for pixel in range(begin, end):
        if pixel % LANES == 0:
            simplices_of(features, pixel // LANES, scale, corners, found)
        base = np.int64(0)
        for i in range(corners):
            base += strides[i] * (np.int64(found[i, pixel % LANES]) - lows[i])
            rank = np.int64(found[corners + i, pixel % LANES])
            stride_of_rank[rank] = strides[i]
            offset_of_rank[rank] = found[2 * corners + i, pixel % LANES]
        for corner in range(corners):
            if corner:
                base -= stride_of_rank[corners - corner]
            key = base * corners + corner
            if key != last[corner]:  # neighbouring pixels often share their cell
                slot = slot_of(key, table)
                if table[slot] == -1:
                    table[slot] = key
                    numbers[slot] = known
                    keys[known] = key
                    known += 1
                last[corner] = key
                last_number[corner] = numbers[slot]
            if pixel < len(points):
                points[pixel, corner] = last_number[corner]
                # Barycentric coordinates; those of the first corner go once around.
                following = offset_of_rank[corners - corner] if corner else offset_of_rank[0] - np.float32(1.0)
                weights[pixel, corner] = offset_of_rank[corners - 1 - corner] - following
    return keys[:known].copy()


@compiled
def join(
    strip_keys: NDArray[np.int64],
    table: NDArray[np.int64],
    numbers: NDArray[np.int32],
    keys: NDArray[np.int64],
    found: int,
    number: NDArray[np.int32],
) -> int:
    """Give the lattice points of one strip their numbers among all; return how many there are now."""
    for local in range(len(strip_keys)):
        slot = slot_of(strip_keys[local], table)
        if table[slot] == -1:
            table[slot] = strip_keys[local]
            numbers[slot] = found
            keys[found] = strip_keys[local]
            found += 1
        number[local] = numbers[slot]
    return found


@compiled
def renumber(points: NDArray[np.int32], number: NDArray[np.int32]) -> None:
    """Replace the numbers within a strip by those among all, in place."""
    for pixel in range(points.shape[0]):
        for corner in range(points.shape[1]):
            points[pixel, corner] = number[points[pixel, corner]]


@compiled
def neighbours(
    keys: NDArray[np.int64],
    table: NDArray[np.int64],
    numbers: NDArray[np.int32],
    corners: int,
    steps: tuple[int, int],
    before: NDArray[np.int32],
    after: NDArray[np.int32],
) -> None:
    """Look up the neighbours of every lattice point along one direction; where there is none stands their number.

    `steps` are what `Packing.steps` gives for the direction.
    """
    within, around = steps
    after[:] = len(keys)
    for point in range(len(keys)):
        key = keys[point]
        slot = slot_of(key + (around if key % corners == 0 else within), table)
        if table[slot] == -1:
            before[point] = len(keys)
        else:
            before[point] = numbers[slot]
            after[numbers[slot]] = point


@compiled
def lines_of(before: NDArray[np.int32], after: NDArray[np.int32]) -> NDArray[np.int32]:
    """String lattice points together that are neighbours along one direction; see `Lattice.lines`."""
    none = len(before)
    lines = np.empty(none + none // 2 + 2, np.int32)
    lines[0] = none
    used = 1
    for start in range(none):
        if before[start] == none and after[start] != none:
            point = np.int64(start)
            while point != none:
                lines[used] = point
                used += 1
                point = np.int64(after[point])
            lines[used] = none
            used += 1
    return lines[:used].copy()


@compiled
def splat_ones(points: NDArray[np.int32], weights: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Spread the number one of every pixel over a lattice of `size` points; two more values are zero and scrap."""
    values = np.zeros(size + 2, np.float32)
    for pixel in range(points.shape[0]):
        for corner in range(points.shape[1]):
            values[points[pixel, corner]] += weights[pixel, corner]
    return values


@compiled
def blur_lines(values: NDArray[np.float32], lines: NDArray[np.int32]) -> None:
    """Blur one number for each lattice point in place along one direction."""
    zero = len(values) - 2
    last, this = np.float32(0.0), np.float32(0.0)
    for at in range(len(lines) - 1):
        following = values[lines[at + 1]]
        point = lines[at]
        values[point + (point == zero)] = this + np.float32(0.5) * (last + following)
        last, this = this, following


@compiled
def normalise(
    points: NDArray[np.int32],
    weights: NDArray[np.float32],
    values: NDArray[np.float32],
    gain: np.float32,
    strength: np.float32,
    begin: int,
    end: int,
) -> None:
    """Divide weights by the square root of what the kernel sums to at each pixel, in place, for a run of pixels.

    `values` are ones spread and blurred, `gain` gives the blur unit gain, and filtering with the new weights at both
    ends has the given strength.
    """
    for pixel in range(begin, end):
        total = np.float32(0.0)
        for corner in range(points.shape[1]):
            total += values[points[pixel, corner]] * weights[pixel, corner]
        factor = np.sqrt(strength * gain / (total * gain + np.float32(1e-20)))
        for corner in range(points.shape[1]):
            weights[pixel, corner] *= factor
