"""The inner loops of mean-field inference: messages through both lattices, softmax, and the way in and out.

Every kernel works on what it is given alone, so several may run on threads at once. Sums run in a fixed order: the
same inputs give the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from stego_cli.crf.jit import compiled
from stego_cli.crf.vectors import (
    LANES,
    across,
    exponential,
    kept,
    larger,
    largest,
    load,
    minus,
    plus,
    same,
    store,
    times,
    times_plus,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    NearArrays: TypeAlias = tuple[
        NDArray[np.int32], NDArray[np.float32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]
    ]
    FarArrays: TypeAlias = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32], NDArray[np.int64]]
    Neighbours: TypeAlias = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]

PADDING = np.float32(-60.0)  # log-probability of the classes that fill the last block: next to nothing, yet normal
_ABSENT = np.float32(-1e30)  # logit of those classes, and the least of any
_CHUNK = 256  # pixels whose classes fit the fastest cache


@compiled
def splat_far(
    block: NDArray[np.float32],
    shares: NDArray[np.float32],
    points: NDArray[np.int32],
    weights: NDArray[np.float32],
    values: NDArray[np.float32],
) -> None:
    """Add every pixel, times its share, to the six lattice points around it."""
    for pixel in range(len(block)):
        row = times(load(block, pixel), same(shares[pixel]))
        for corner in range(6):  # a number that the compiler knows makes this loop vanish
            point = points[pixel, corner]
            store(values, point, times_plus(row, same(weights[pixel, corner]), load(values, point)))


@compiled
def splat_near(
    block: NDArray[np.float32],
    shares: NDArray[np.float32],
    points: NDArray[np.int32],
    weights: NDArray[np.float32],
    begin: int,
    end: int,
    values: NDArray[np.float32],
) -> None:
    """Add pixels `begin` to `end`, times their shares, to the three lattice points around each."""
    for pixel in range(begin, end):
        row = times(load(block, pixel), same(shares[pixel]))
        for corner in range(3):
            point = points[pixel, corner]
            store(values, point, times_plus(row, same(weights[pixel, corner]), load(values, point)))


@compiled
def blur(
    values: NDArray[np.float32],
    before: NDArray[np.int32],
    after: NDArray[np.int32],
    begin: int,
    end: int,
    result: NDArray[np.float32],
) -> None:
    """Blur lattice points `begin` to `end` along one direction."""
    half = same(np.float32(0.5))
    for point in range(begin, end):
        both = plus(load(values, before[point]), load(values, after[point]))
        store(result, point, times_plus(half, both, load(values, point)))


@compiled
def blur_lines(values: NDArray[np.float32], lines: NDArray[np.int32]) -> None:
    """Blur in place along one direction; see `Lattice.lines`. The last two rows of `values` are zero and scrap."""
    zero = len(values) - 2
    half = same(np.float32(0.5))
    last, this = same(np.float32(0.0)), same(np.float32(0.0))
    for at in range(len(lines) - 1):
        following = load(values, lines[at + 1])
        point = lines[at]
        store(values, point + (point == zero), times_plus(half, plus(last, following), this))
        last, this = this, following


@compiled
def exchange(
    block: NDArray[np.float32],
    logits: NDArray[np.float32],
    totals: tuple[NDArray[np.float32], NDArray[np.float32]],
    near: NearArrays,
    far: FarArrays,
    scratch: NDArray[np.float32],
    finish: bool,
) -> np.float32:
    """Replace a block of beliefs by those after one more iteration, up to the division by their sum.

    The far kernel is spread over its lattice as a whole. The near one goes through the image in waves, each stage
    a little behind the one before, so that its values are still in the cache; see `waves_over`.

    Args:
        block: Beliefs, shape (N, 8); replaced by e to the power of logits plus messages, or without
            `finish` by the sum of logits and messages itself.
        logits: Shape (N, 8).
        totals: For each pixel what its beliefs are multiplied by so that they sum to 1 over all classes; and where the
            sum of its new beliefs over this block goes.
        near: Points, weights, neighbours on both sides and waves of the lattice on positions.
        far: Points, weights, lines and their ends of the other lattice.
        scratch: Room for the values on the lattices.
        finish: Take the exponential.

    Returns:
        The largest sum of logit and messages: far below 87, or the exponential was not what it should be.
    """
    shares, sums = totals
    points, weights, lines, ends = far
    close, close_weights, before, after, waves = near
    size = before.shape[1]
    first, second, values = scratch[: size + 1], scratch[size + 1 : 2 * size + 2], scratch[2 * size + 2 :]
    values[:] = 0
    splat_far(block, shares, points, weights, values)
    for direction in range(len(ends) - 1):
        blur_lines(values, lines[ends[direction] : ends[direction + 1]])
    first[size] = 0
    second[size] = 0
    top = same(_ABSENT)
    for wave in range(1, len(waves)):
        last, this = waves[wave - 1], waves[wave]
        first[last[1] : this[1]] = 0
        splat_near(block, shares, close, close_weights, last[0], this[0], first)
        blur(first, before[0], after[0], last[2], this[2], second)
        blur(second, before[1], after[1], last[3], this[3], first)
        blur(first, before[2], after[2], last[4], this[4], second)
        for pixel in range(last[5], this[5]):
            total = load(logits, pixel)
            for corner in range(3):
                total = times_plus(load(second, close[pixel, corner]), same(close_weights[pixel, corner]), total)
            for corner in range(6):
                total = times_plus(load(values, points[pixel, corner]), same(weights[pixel, corner]), total)
            top = larger(top, total)
            if finish:
                total = exponential(total)
                sums[pixel] = across(total)
            store(block, pixel, total)
    highest: np.float32 = largest(top)
    return highest


@compiled
def shares_of(sums: NDArray[np.float32], shares: NDArray[np.float32]) -> None:
    """Set `shares` to one over the sum of `sums`, shape (blocks, N), over the blocks."""
    for pixel in range(sums.shape[1]):
        total = sums[0, pixel]
        for block in range(1, sums.shape[0]):
            total += sums[block, pixel]
        shares[pixel] = np.float32(1.0) / total


@compiled
def softmax(blocks: NDArray[np.float32], count: int, sums: NDArray[np.float32], begin: int, end: int) -> None:
    """Replace a run of pixels by e to the power of their distance from the largest of all classes."""
    number = len(blocks) // count
    for pixel in range(begin, end):
        top = load(blocks, pixel)
        for block in range(1, number):
            top = larger(top, load(blocks, block * count + pixel))
        top = same(largest(top))
        for block in range(number):
            value = exponential(minus(load(blocks, block * count + pixel), top))
            store(blocks, block * count + pixel, value)
            sums[block, pixel] = across(value)


@compiled
def blocks_of(
    maps: NDArray[np.float32], down: Neighbours, across_: Neighbours, blocks: NDArray[np.float32], begin: int, end: int
) -> None:
    """Resize maps (n, h, w) and lay rows `begin` to `end` into blocks (number of blocks * H * W, 8), padded.

    `down` and `across_` are what `bilinear_neighbours` gives for the two sides.
    """
    above, below, lower = down
    left, right, further = across_
    width = len(left)
    count = len(above) * width
    row = np.empty((maps.shape[2], LANES), np.float32)
    for block in range(len(blocks) // count):
        row[:] = _ABSENT
        for y in range(begin, end):
            for k in range(block * LANES, min(block * LANES + LANES, len(maps))):
                high, low, weight = maps[k, above[y]], maps[k, below[y]], lower[y]
                for x in range(maps.shape[2]):
                    row[x, k % LANES] = high[x] * (np.float32(1.0) - weight) + low[x] * weight
            at = block * count + y * width
            for x in range(width):
                share = same(further[x])
                start = times(load(row, left[x]), minus(same(np.float32(1.0)), share))
                value = times_plus(load(row, right[x]), share, start)
                store(blocks, at + x, larger(value, same(_ABSENT)))


@compiled
def log_softmax(
    logits: NDArray[np.float32],
    blocks: NDArray[np.float32],
    count: int,
    limits: NDArray[np.float32],
    sums: NDArray[np.float32],
    begin: int,
    end: int,
) -> None:
    """Turn logits into log-probabilities, in place; `blocks` become probabilities, which sum to `sums`.

    `limits` are the lowest and then the highest log-probability of each class, shape (2 * number of blocks, 8).
    """
    number = len(logits) // count
    for pixel in range(begin, end):
        top = load(logits, pixel)
        for block in range(1, number):
            top = larger(top, load(logits, block * count + pixel))
        peak = largest(top)
        total = same(np.float32(0.0))
        for block in range(number):
            total = plus(total, exponential(minus(load(logits, block * count + pixel), same(peak))))
        shift = same(peak + np.log(across(total)))
        for block in range(number):
            value = load(logits, block * count + pixel)
            highest = load(limits, number + block)
            value = larger(kept(minus(value, shift), highest, highest), load(limits, block))
            store(logits, block * count + pixel, value)
            value = exponential(value)
            store(blocks, block * count + pixel, value)
            sums[block, pixel] = across(value)


@compiled
def maps_of(
    blocks: NDArray[np.float32], shares: NDArray[np.float32], maps: NDArray[np.float32], begin: int, end: int
) -> None:
    """Turn blocks (number of blocks, N, 8), times the pixels' shares, into maps (n, N) for a run of pixels."""
    for start in range(begin, end, _CHUNK):
        stop = min(start + _CHUNK, end)
        for k in range(len(maps)):
            block = blocks[k // LANES]
            for pixel in range(start, stop):
                maps[k, pixel] = block[pixel, k % LANES] * shares[pixel]
