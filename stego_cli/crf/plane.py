"""The lattice on positions alone: it depends on the size of the image only, so it is kept from image to image.

Importing this module imports Numba.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from stego_cli.crf.lattice import Lattice, build_lattice
from stego_cli.crf.vectors import LANES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stego_cli.crf.team import Team

Key: TypeAlias = tuple[int, int, float, float]

_WAVE = 2048  # pixels


@dataclass(frozen=True)
class Plane:
    """The lattice on positions and the order in which to pass through it.

    Attributes:
        points: See `Lattice`.
        weights: See `Lattice`.
        before: Shape (3, M) int32, the neighbour on one side along each direction; M for none.
        after: Shape (3, M) int32, the neighbour on the other side.
        waves: See `waves_over`.
    """

    points: NDArray[np.int32]
    weights: NDArray[np.float32]
    before: NDArray[np.int32]
    after: NDArray[np.int32]
    waves: NDArray[np.int64]

    @property
    def size(self) -> int:
        """Number of lattice points."""
        return int(self.before.shape[1])

    @property
    def arrays(
        self,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        """What the kernels read."""
        return self.points, self.weights, self.before, self.after, self.waves

    @property
    def nbytes(self) -> int:
        """Memory it takes, in bytes."""
        return sum(int(array.nbytes) for array in self.arrays)


class PlaneCache:
    """Keeps the planes last used, up to a number of them and of bytes; safe to share between threads."""

    def __init__(self, planes: int = 4, nbytes: int = 256 * 2**20) -> None:
        self._most = planes
        self._nbytes = nbytes
        self._planes: OrderedDict[Key, Plane] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._planes)

    @property
    def nbytes(self) -> int:
        """Memory that the planes take, in bytes."""
        return sum(plane.nbytes for plane in self._planes.values())

    def get(self, height: int, width: int, reach: float, strength: float, team: Team) -> Plane:
        """Return the plane for an image of this size and a kernel, built if it is not at hand."""
        key = (height, width, reach, strength)
        with self._lock:
            plane = self._planes.get(key)
            if plane is None:
                plane = self._planes[key] = build_plane(height, width, reach, strength, team)
            self._planes.move_to_end(key)
            while len(self) > self._most or (self._planes and self.nbytes > self._nbytes):
                self._planes.popitem(last=False)
        return plane


def build_plane(height: int, width: int, reach: float, strength: float, team: Team) -> Plane:
    """Return the plane for an image of this size.

    Raises:
        OverflowError: If the image spreads over more cells than can be counted.
    """
    lattice = build_lattice(positions(height, width, reach, 2), height * width, strength, team)
    before, after = (
        np.stack(side) for side in zip(*(_sides(lattice, direction) for direction in range(3)), strict=True)
    )
    return Plane(lattice.points, lattice.weights, before, after, waves_over(lattice, before, _WAVE))


def positions(height: int, width: int, reach: float, features: int) -> NDArray[np.float32]:
    """Return columns and rows of the pixels in units of `reach`, in eights, with room for more features.

    Returns:
        Shape (features, ceil(H * W / 8), 8); all but the first two features, and what fills the last eight, is zero.
    """
    table = np.zeros((features, -(-height * width // LANES), LANES), np.float32)
    for feature, along in ((0, np.arange(width)), (1, np.arange(height)[:, None])):
        pixels = table[feature].reshape(-1)[: height * width].reshape(height, width)
        np.divide(along, np.float32(reach), out=pixels, dtype=np.float32, casting="unsafe")
    return table


def _sides(lattice: Lattice, direction: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the neighbours of every lattice point along one direction."""
    lines, size = lattice.along(direction), lattice.size
    before, after = (np.full(size + 1, size, np.int32) for _ in range(2))
    before[lines[1:]] = lines[:-1]
    after[lines[:-1]] = lines[1:]
    return before[:size], after[:size]


def waves_over(lattice: Lattice, before: NDArray[np.int32], pixels: int) -> NDArray[np.int64]:
    """Plan how splat, blur and slice follow each other through the image, `pixels` at a time.

    Lattice points are numbered as the pixels meet them, so what a stage needs lies close behind the one before when
    neighbours are close in number, as they are on a lattice of positions.

    Returns:
        Shape (waves + 1, d + 4): up to where each wave goes, of pixels splatted, lattice points cleared, lattice
        points blurred along each direction, and pixels sliced. The first row is zero.
    """
    count, corners = lattice.points.shape
    near = np.where(before < lattice.size, before, np.arange(lattice.size))
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
