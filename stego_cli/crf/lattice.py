"""The permutohedral lattice: Gaussian filtering of scattered points in a few features, in linear time.

Written from Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice" (Eurographics
2010). `Lattice` says which lattice points each pixel touches and with what weight, in both directions, and where
every lattice point has its neighbours; the filtering itself is in `stego_cli.crf.kernels`.

The lattice is built strip by strip, so that the strips can be built on several threads: each numbers its own lattice
points by a small hash table, and one short serial pass brings the numbers together. The result does not depend on
the number of threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from stego_cli.crf import cells

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from numpy.typing import NDArray

STRIP = 8192  # pixels; their hash table stays in the cache of one core
GROUP = 4  # pydensecrf reads pixels in fours and puts the missing ones of the last four at feature zero
_KEY_BITS = 62
_EXACT = 2**20  # beyond it single precision does not place a pixel within its cell


@dataclass(frozen=True)
class Lattice:
    """Which lattice points each pixel touches, and the neighbours of every lattice point.

    With N pixels, d features and M lattice points; number M stands for a lattice point that does not exist and
    holds zero.

    Attributes:
        points: Shape (N, d + 1) int32, the lattice points around each pixel.
        weights: Shape (N, d + 1) float32, symmetric-normalised barycentric weights: filtering with them at both
            ends is `D^-1/2 K D^-1/2`, up to the constant of the blur.
        before: Shape (d + 1, M) int32, the neighbour on one side along each direction.
        after: Shape (d + 1, M) int32, the neighbour on the other side.
    """

    points: NDArray[np.int32]
    weights: NDArray[np.float32]
    before: NDArray[np.int32]
    after: NDArray[np.int32]

    @property
    def size(self) -> int:
        """Number of lattice points."""
        return int(self.before.shape[1])

    @property
    def arrays(self) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
        """What the kernels read."""
        return self.points, self.weights, self.before, self.after

    @property
    def nbytes(self) -> int:
        """Memory it takes, in bytes."""
        return sum(int(array.nbytes) for array in self.arrays)


def build_lattice(features: NDArray[np.float32], pool: Executor, threads: int) -> Lattice:
    """Return the lattice on which points with `features` are filtered.

    Args:
        features: Shape (N, d), non-negative, in units of the kernel's reach.
        pool: Runs the strips.
        threads: How many of its threads to use.

    Raises:
        OverflowError: If the features spread over more cells than can be counted.
    """
    count, size = features.shape
    scale = _scale(size)
    strides, lows = _packing(features.max(axis=0).astype(np.float64), scale)
    missing = -count % GROUP
    features = np.concatenate([features, np.zeros((missing, size), np.float32)]) if missing else features
    points = np.empty((count, size + 1), np.int32)
    weights = np.empty((count, size + 1), np.float32)
    begins = range(0, count, STRIP)

    def place(begin: int) -> NDArray[np.int64]:
        end = min(begin + STRIP, count)
        carried = features[begin : end + missing if end == count else end]
        keys: NDArray[np.int64] = cells.place(carried, scale, strides, lows, points[begin:end], weights[begin:end])
        return keys

    strips = list(pool.map(place, begins))
    keys, table, numbers, known = _join(strips)

    def renumber(strip: int) -> None:
        begin = begins[strip]
        cells.renumber(points[begin : begin + STRIP], known[strip])

    list(pool.map(renumber, range(len(begins))))
    before = np.empty((size + 1, len(keys)), np.int32)
    after = np.full((size + 1, len(keys)), len(keys), np.int32)
    bounds = even_parts(len(keys), threads)
    list(pool.map(lambda part: cells.neighbours(keys, table, numbers, strides, part, before, after), bounds))
    lattice = Lattice(points, weights, before, after)
    _normalise(lattice)
    return lattice


def even_parts(count: int, parts: int) -> list[tuple[int, int]]:
    """Cut `count` things into at most `parts` runs of nearly equal length.

    Example:
        >>> even_parts(5, 2)
        [(0, 2), (2, 5)]
    """
    edges = [count * part // parts for part in range(parts + 1)]
    return [(begin, end) for begin, end in pairwise(edges) if end > begin]


def blur_gain(size: int) -> float:
    """Return what the blur in `size` features must be multiplied by to have unit gain.

    Example:
        >>> blur_gain(2)
        0.8
    """
    return 1 / (1 + 2.0**-size)


def _scale(size: int) -> NDArray[np.float32]:
    """Stretch of each feature that gives the blur a standard deviation of one (section 3.1 of the paper)."""
    spread = np.float32(math.sqrt(2 / 3) * (size + 1))
    return np.array([1 / math.sqrt((i + 1) * (i + 2)) for i in range(size)], dtype=np.float32) * spread


def _packing(largest: NDArray[np.float64], scale: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return stride and lowest cell of each lattice coordinate, so that one whole number names a lattice point.

    The last coordinate follows from the others and has stride 0. Two cells on either side leave room for neighbours.
    """
    size = len(largest)
    reach = largest * scale
    strides, lows = np.zeros(size + 1, np.int64), np.zeros(size + 1, np.int64)
    step = 1
    for index in range(size):
        above, below = reach[index:].sum(), index * reach[index - 1] if index else 0.0
        if not max(above, below) < _EXACT:
            raise OverflowError("too many cells")
        lows[index] = -math.ceil(below / (size + 1)) - 4
        strides[index] = step
        step *= math.ceil(above / (size + 1)) + 4 - int(lows[index]) + 1
    if step * (size + 1) >= 2**_KEY_BITS:
        raise OverflowError("too many cells")
    return strides, lows


def _join(
    strips: list[NDArray[np.int64]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], list[NDArray[np.int32]]]:
    """Number the lattice points of all strips together, in the order in which the pixels meet them.

    Returns:
        The keys by number; the hash table, keys and numbers; for each strip the numbers of its lattice points.
    """
    most = sum(map(len, strips))
    slots = cells.slots_for(most)
    table = np.full(slots, -1, np.int64)
    numbers = np.empty(slots, np.int32)
    keys = np.empty(most, np.int64)
    found = 0
    known = [np.empty(len(strip), np.int32) for strip in strips]
    for strip, number in zip(strips, known, strict=True):
        found = cells.join(strip, table, numbers, keys, found, number)
    return keys[:found], table, numbers, known


def _normalise(lattice: Lattice) -> None:
    """Turn plain weights into symmetric-normalised ones, in place."""
    size = lattice.points.shape[1] - 1
    sums = np.ones(len(lattice.points), np.float32)
    cells.filter_one(sums, lattice.points, lattice.weights, lattice.before, lattice.after)
    lattice.weights[...] *= 1 / np.sqrt(sums * np.float32(blur_gain(size)) + np.float32(1e-20))[:, None]


def waves_over(lattice: Lattice, pixels: int) -> NDArray[np.int64]:
    """Plan how splat, blur and slice follow each other through the image, `pixels` at a time.

    Lattice points are numbered as the pixels meet them, so what a stage needs lies close behind the one before when
    neighbours are close in number, as they are on a lattice of positions.

    Returns:
        Shape (waves + 1, d + 4): up to where each wave goes, of pixels splatted, lattice points cleared, lattice
        points blurred along each direction, and pixels sliced. The first row is zero.
    """
    count, corners = lattice.points.shape
    near = np.where(lattice.before < lattice.size, lattice.before, np.arange(lattice.size))
    reach = int(np.abs(near - np.arange(lattice.size)).max())  # the other side is the same distance
    ends = np.append(np.arange(pixels, count, pixels), count)
    waves = np.zeros((len(ends) + 1, corners + 3), np.int64)
    met = np.maximum.accumulate(lattice.points.max(axis=1))
    to_come = np.minimum.accumulate(lattice.points.min(axis=1)[::-1])[::-1]
    waves[1:, 0] = ends
    waves[1:, 1] = met[ends - 1] + 1
    complete = to_come[np.minimum(ends, count - 1)].astype(np.int64)
    for direction in range(corners):
        complete = np.maximum(complete - reach, 0)
        waves[1:, 2 + direction] = complete
    waves[1:, -1] = np.searchsorted(met, complete, side="left")
    waves[-1] = [count, *[lattice.size] * (corners + 1), count]
    return waves
