"""The inner loops of mean-field inference: messages through both lattices, softmax, and the way in and out.

Every kernel works on what it is given alone, so several may run on threads at once. Sums run in a fixed order: the
same inputs give the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from stego_cli.crf.jit import compiled
from stego_cli.crf.vectors import across as sum_across
from stego_cli.crf.vectors import exponential, kept, larger, largest, load, minus, plus, same, store, times

if TYPE_CHECKING:
    from numpy.typing import NDArray

    LatticeArrays: TypeAlias = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]
    Neighbours: TypeAlias = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]


@compiled
def splat(
    block: NDArray[np.float32],
    points: NDArray[np.int32],
    weights: NDArray[np.float32],
    begin: int,
    end: int,
    values: NDArray[np.float32],
) -> None:
    """Add pixels `begin` to `end` to the lattice points around them."""
    for pixel in range(begin, end):
        row = load(block, pixel)
        for corner in range(points.shape[1]):
            point = points[pixel, corner]
            store(values, point, plus(load(values, point), times(row, same(weights[pixel, corner]))))


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
        store(result, point, plus(load(values, point), times(half, both)))


@compiled
def message(
    block: NDArray[np.float32],
    near: LatticeArrays,
    far: LatticeArrays,
    near_gain: np.float32,
    far_gain: np.float32,
    waves: NDArray[np.int64],
    scratch: NDArray[np.float32],
) -> None:
    """Replace a block of probabilities, shape (N, 8), by its message from both kernels.

    The far kernel is spread over its lattice as a whole. The near one goes through the image in waves, each stage
    a little behind the one before, so that its values are still in the cache; see `waves_over`.
    """
    points, weights, before, after = far
    size = before.shape[1]
    now, then = scratch[: size + 1], scratch[size + 1 : 2 * size + 2]
    now[:] = 0
    then[size] = 0
    splat(block, points, weights, 0, len(block), now)
    for direction in range(before.shape[0]):
        blur(now, before[direction], after[direction], 0, size, then)
        now, then = then, now
    close, close_weights, before, after = near
    size = before.shape[1]
    first, second = scratch[-2 * size - 2 : -size - 1], scratch[-size - 1 :]
    first[size] = 0
    second[size] = 0
    for wave in range(1, len(waves)):
        last, this = waves[wave - 1], waves[wave]
        first[last[1] : this[1]] = 0
        splat(block, close, close_weights, last[0], this[0], first)
        blur(first, before[0], after[0], last[2], this[2], second)
        blur(second, before[1], after[1], last[3], this[3], first)
        blur(first, before[2], after[2], last[4], this[4], second)
        for pixel in range(last[5], this[5]):
            total = times(load(second, close[pixel, 0]), same(close_weights[pixel, 0] * near_gain))
            for corner in range(1, 3):
                part = same(close_weights[pixel, corner] * near_gain)
                total = plus(total, times(load(second, close[pixel, corner]), part))
            for corner in range(6):
                part = same(weights[pixel, corner] * far_gain)
                total = plus(total, times(load(now, points[pixel, corner]), part))
            store(block, pixel, total)


@compiled
def softmax(
    logits: NDArray[np.float32], blocks: NDArray[np.float32], count: int, begin: int, end: int, add: bool
) -> None:
    """Set `blocks` to the softmax over classes of `logits`, plus `blocks` itself if `add`, for a run of pixels.

    Both have shape (number of blocks * N, 8), block after block; what pads the last block has logits of -1e30.
    """
    number = len(blocks) // count
    row = np.empty((number, 8), np.float32)
    for pixel in range(begin, end):
        top = same(np.float32(-np.inf))
        for b in range(number):
            at = b * count + pixel
            value = load(logits, at)
            if add:
                value = plus(value, load(blocks, at))
            store(row, b, value)
            top = larger(top, value)
        top = same(largest(top))
        total = same(np.float32(0.0))
        for b in range(number):
            value = exponential(minus(load(row, b), top))
            store(row, b, value)
            total = plus(total, value)
        inverse = same(np.float32(1.0) / sum_across(total))
        for b in range(number):
            store(blocks, b * count + pixel, times(load(row, b), inverse))


@compiled
def blocks_of(
    maps: NDArray[np.float32], down: Neighbours, across: Neighbours, blocks: NDArray[np.float32], begin: int, end: int
) -> None:
    """Resize maps (n, h, w) and lay rows `begin` to `end` into blocks (number of blocks, H * W, 8), padded with -1e30.

    `down` and `across` are what `bilinear_neighbours` gives for the two sides.
    """
    above, below, lower = down
    left, right, further = across
    one = np.float32(1.0)
    for k in range(blocks.shape[0] * 8):
        b, c = k // 8, k % 8
        pixel = begin * len(left)
        for y in range(begin, end):
            for x in range(len(left)):
                value = np.float32(-1e30)
                if k < len(maps):
                    high, low = maps[k, above[y]], maps[k, below[y]]
                    first = high[left[x]] * (one - lower[y]) + low[left[x]] * lower[y]
                    second = high[right[x]] * (one - lower[y]) + low[right[x]] * lower[y]
                    value = first * (one - further[x]) + second * further[x]
                blocks[b, pixel, c] = value
                pixel += 1


@compiled
def log_softmax(blocks: NDArray[np.float32], count: int, least: np.float32, begin: int, end: int) -> None:
    """Turn logits into log-probabilities of at least `least`, in place; padding becomes -1e30 again."""
    number = len(blocks) // count
    padding = same(np.float32(-1e29))
    for pixel in range(begin, end):
        top = load(blocks, pixel)
        for b in range(1, number):
            top = larger(top, load(blocks, b * count + pixel))
        peak = largest(top)
        total = same(np.float32(0.0))
        for b in range(number):
            total = plus(total, exponential(minus(load(blocks, b * count + pixel), same(peak))))
        shift = same(peak + np.log(sum_across(total)))
        for b in range(number):
            value = load(blocks, b * count + pixel)
            store(blocks, b * count + pixel, kept(value, padding, larger(minus(value, shift), same(least))))


@compiled
def maps_of(blocks: NDArray[np.float32], maps: NDArray[np.float32], begin: int, end: int) -> None:
    """Turn blocks back into maps (n, N)."""
    for k in range(len(maps)):
        for pixel in range(begin, end):
            maps[k, pixel] = blocks[k // 8, pixel, k % 8]
