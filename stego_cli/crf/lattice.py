"""The permutohedral lattice: Gaussian filtering of scattered points in a few features, in linear time.

Written from Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice" (Eurographics
2010). `Lattice` says which lattice points each pixel touches and with what weight, in both directions, and where
every lattice point has its neighbours; the filtering itself is in `stego_cli.crf.kernels`.

The lattice is built strip by strip, so that the strips can be built on several threads: each numbers its own lattice
points by a small hash table, and one short serial pass brings the numbers together. The result does not depend on
the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stego_cli.crf import cells
from stego_cli.crf.packing import GROUP, blur_gain, pack
from stego_cli.crf.team import Team
from stego_cli.crf.vectors import LANES

if TYPE_CHECKING:
    from numpy.typing import NDArray

STRIP = 8192  # pixels; their hash table stays in the cache of one core
_MANY = 2**22  # lattice points, from which on memory counts more than time


@dataclass(frozen=True)
class Lattice:
    """Which lattice points each pixel touches, and the neighbours of every lattice point.

    With N pixels, d features and M lattice points; number M stands for a lattice point that does not exist and
    holds zero.

    Attributes:
        points: Shape (N, d + 1) int32, the lattice points around each pixel.
        weights: Shape (N, d + 1) float32, symmetric-normalised barycentric weights: filtering with them at both
            ends is `strength * D^-1/2 K D^-1/2`.
        size: M.
        lines: For each direction int32 numbers of lattice points, each next to its neighbours in that direction;
            M stands between any two that are no neighbours, and at both ends. A lattice point without neighbours,
            which blurring leaves as it is, is missing.
        ends: Shape (d + 2,) int64, where the lines of each direction begin and end.
    """

    points: NDArray[np.int32]
    weights: NDArray[np.float32]
    size: int
    lines: NDArray[np.int32]
    ends: NDArray[np.int64]

    @property
    def arrays(self) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32], NDArray[np.int64]]:
        """What the kernels read."""
        return self.points, self.weights, self.lines, self.ends

    def along(self, direction: int) -> NDArray[np.int32]:
        """Return the lines of one direction."""
        return self.lines[self.ends[direction] : self.ends[direction + 1]]

    @property
    def nbytes(self) -> int:
        """Memory it takes, in bytes."""
        return sum(int(array.nbytes) for array in self.arrays)


def build_lattice(features: NDArray[np.float32], count: int, strength: float, team: Team) -> Lattice:
    """Return the lattice on which points with `features` are filtered.

    Args:
        features: Shape (d, ceil(N / 8), 8), non-negative, in units of the kernel's reach; what fills the last eight
            is zero.
        count: N.
        strength: Of the kernel.
        team: Runs the parts.

    Raises:
        OverflowError: If the features spread over more cells than can be counted.
    """
    size = len(features)
    packing = pack(features.max(axis=(1, 2)).tolist())
    packed = (packing.scale, packing.strides, packing.lows)
    eights = features.reshape(-1, LANES)
    points = np.empty((count, size + 1), np.int32)
    weights = np.empty((count, size + 1), np.float32)
    carried = count + -count % GROUP

    def place(begin: int) -> NDArray[np.int64]:
        end = begin + STRIP if begin + STRIP < count else carried
        keys: NDArray[np.int64] = cells.place(eights, packed, begin, end, points, weights)
        return keys

    keys, table, numbers = _number(team.map(place, range(0, count, STRIP)), points, team)

    def string(direction: int) -> NDArray[np.int32]:
        before, after = np.empty(len(keys), np.int32), np.empty(len(keys), np.int32)
        cells.neighbours(keys, table, numbers, size + 1, packing.steps(direction), before, after)
        lines: NDArray[np.int32] = cells.lines_of(before, after)
        return lines

    with Team(1) as alone:
        lines = (team if len(keys) < _MANY else alone).map(string, range(size + 1))
    lattice = Lattice(points, weights, len(keys), *_flat(lines))
    _normalise(lattice, strength, team)
    return lattice


def _number(
    strips: list[NDArray[np.int64]], points: NDArray[np.int32], team: Team
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """Replace the numbers of lattice points within each strip by those among all, as the pixels meet them.

    Returns:
        The keys by number; the hash table, keys and numbers.
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
    team.map(
        lambda strip: cells.renumber(points[strip * STRIP : (strip + 1) * STRIP], known[strip]), range(len(strips))
    )
    return keys[:found].copy(), table, numbers


def _flat(lines: list[NDArray[np.int32]]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    return np.concatenate(lines), np.cumsum([0, *map(len, lines)], dtype=np.int64)


def _normalise(lattice: Lattice, strength: float, team: Team) -> None:
    """Turn plain weights into symmetric-normalised ones, in place."""
    gain, strong = np.float32(blur_gain(lattice.points.shape[1] - 1)), np.float32(strength)
    values = cells.splat_ones(lattice.points, lattice.weights, lattice.size)
    for direction in range(len(lattice.ends) - 1):
        cells.blur_lines(values, lattice.along(direction))

    def normalise(begin: int) -> None:
        end = min(begin + STRIP, len(lattice.points))
        cells.normalise(lattice.points, lattice.weights, values, gain, strong, begin, end)

    team.map(normalise, range(0, len(lattice.points), STRIP))
