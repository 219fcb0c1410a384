"""The inner loops that build a permutohedral lattice (Adams et al. 2010, section 3).

A lattice point has d + 1 coordinates that sum to zero and leave the same remainder when divided by d + 1. Packed into
one whole number, its key, is that remainder and the quotients of all coordinates but the last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stego_cli.crf.jit import compiled

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
def simplex_of(
    feature: NDArray[np.float32],
    scale: NDArray[np.float32],
    elevated: NDArray[np.float32],
    cell: NDArray[np.int64],
    rank: NDArray[np.int64],
) -> None:
    """Find the cell of the lattice around one point: its remainder-0 corner and the order of the coordinates."""
    size = len(feature)
    corners = size + 1
    inverse = np.float32(1.0) / np.float32(corners)
    total = np.float32(0.0)
    for j in range(size, 0, -1):
        part = feature[j - 1] * scale[j - 1]
        elevated[j] = total - np.float32(j) * part
        total += part
    elevated[0] = total
    level = 0
    for i in range(corners):
        cell[i] = np.int64(np.rint(elevated[i] * inverse))
        level += cell[i]
        rank[i] = 0
    for i in range(size):
        rest = elevated[i] - np.float32(cell[i] * corners)
        for j in range(i + 1, corners):
            if rest < elevated[j] - np.float32(cell[j] * corners):
                rank[i] += 1
            else:
                rank[j] += 1
    for i in range(corners):  # back onto the plane where the coordinates sum to zero
        rank[i] += level
        wrap = 1 if rank[i] < 0 else (-1 if rank[i] > size else 0)
        rank[i] += wrap * corners
        cell[i] += wrap


@compiled
def shares_of(
    elevated: NDArray[np.float32], cell: NDArray[np.int64], rank: NDArray[np.int64], share: NDArray[np.float32]
) -> None:
    """Barycentric coordinates of a point among the corners of its cell; `share` has one place to spare."""
    corners = len(elevated)
    inverse = np.float32(1.0) / np.float32(corners)
    share[:] = 0
    for i in range(corners):
        offset = (elevated[i] - np.float32(cell[i] * corners)) * inverse
        share[corners - 1 - rank[i]] += offset
        share[corners - rank[i]] -= offset
    share[0] += np.float32(1.0) + share[corners]


@compiled
def place(
    features: NDArray[np.float32],
    scale: NDArray[np.float32],
    strides: NDArray[np.int64],
    lows: NDArray[np.int64],
    points: NDArray[np.int32],
    weights: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Find the d + 1 lattice points around every pixel of a strip and number them within the strip.

    Rows of `features` beyond those of `points` are there only to bring their lattice points into being.
    """
    corners = features.shape[1] + 1
    elevated, share = np.empty(corners, np.float32), np.empty(corners + 1, np.float32)
    cell, rank, stride_of_rank = np.empty(corners, np.int64), np.empty(corners, np.int64), np.empty(corners, np.int64)
    slots = slots_for(len(features) * corners)
    table, numbers = np.full(slots, -1, np.int64), np.empty(slots, np.int32)
    keys = np.empty(len(features) * corners, np.int64)
    found = 0
    for pixel in range(len(features)):
        simplex_of(features[pixel], scale, elevated, cell, rank)
        shares_of(elevated, cell, rank, share)
        base = np.int64(0)
        for i in range(corners):
            base += strides[i] * (cell[i] - lows[i])
            stride_of_rank[rank[i]] = strides[i]
        for corner in range(corners):
            if corner:
                base -= stride_of_rank[corners - corner]
            key = base * corners + corner
            slot = slot_of(key, table)
            if table[slot] == -1:
                table[slot] = key
                numbers[slot] = found
                keys[found] = key
                found += 1
            if pixel < len(points):
                points[pixel, corner] = numbers[slot]
                weights[pixel, corner] = share[corner]
    return keys[:found].copy()


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
    strides: NDArray[np.int64],
    part: tuple[int, int],
    before: NDArray[np.int32],
    after: NDArray[np.int32],
) -> None:
    """Look up the neighbours of a run of lattice points along every direction.

    A step adds one to every coordinate and takes d + 1 from one of them; in packed form that is a constant which
    depends only on whether the remainder wraps around.
    """
    corners = len(strides)
    every = np.int64(0)
    for i in range(corners):
        every += strides[i]
    for direction in range(corners):
        within = -1 + corners * strides[direction]
        around = corners - 1 + corners * (strides[direction] - every)
        for point in range(part[0], part[1]):
            key = keys[point]
            slot = slot_of(key + (around if key % corners == 0 else within), table)
            if table[slot] == -1:
                before[direction, point] = len(keys)
            else:
                before[direction, point] = numbers[slot]
                after[direction, numbers[slot]] = point


@compiled
def filter_one(
    values: NDArray[np.float32],
    points: NDArray[np.int32],
    weights: NDArray[np.float32],
    before: NDArray[np.int32],
    after: NDArray[np.int32],
) -> None:
    """Filter one number for each pixel, in place, without the gain of the blur."""
    size = before.shape[1]
    now, then = np.zeros(size + 1, np.float32), np.zeros(size + 1, np.float32)
    for pixel in range(points.shape[0]):
        for corner in range(points.shape[1]):
            now[points[pixel, corner]] += values[pixel] * weights[pixel, corner]
    for direction in range(before.shape[0]):
        for point in range(size):
            both = now[before[direction, point]] + now[after[direction, point]]
            then[point] = now[point] + np.float32(0.5) * both
        now, then = then, now
    for pixel in range(points.shape[0]):
        total = np.float32(0.0)
        for corner in range(points.shape[1]):
            total += now[points[pixel, corner]] * weights[pixel, corner]
        values[pixel] = total
