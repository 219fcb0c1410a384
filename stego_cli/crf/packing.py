"""What every implementation of the permutohedral lattice agrees on: its scale, and how its points become numbers.

Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice" (Eurographics 2010), section 3.
A lattice point has d + 1 coordinates that sum to zero and leave the same remainder when divided by d + 1. Packed into
one whole number, its key, is that remainder and the quotients of all coordinates but the last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

GROUP = 4  # pydensecrf reads pixels in fours and puts the missing ones of the last four at feature zero
_KEY_BITS = 62
_EXACT = 2**20  # beyond it single precision does not place a pixel within its cell


@dataclass(frozen=True)
class Packing:
    """How lattice points of d features become keys.

    Attributes:
        scale: Shape (d,) float32, stretch of each feature that gives the blur a standard deviation of one.
        strides: Shape (d + 1,) int64, what a step of each coordinate adds to a key. The last coordinate follows from
            the others and has stride 0.
        lows: Shape (d + 1,) int64, the lowest value of each coordinate.
        cells: How many numbers a lattice of one image takes.
    """

    scale: NDArray[np.float32]
    strides: NDArray[np.int64]
    lows: NDArray[np.int64]
    cells: int

    def steps(self, direction: int) -> tuple[int, int]:
        """Return how keys change along a direction: for a remainder above 0, and for remainder 0, which wraps around.

        A step adds one to every coordinate and takes d + 1 from one of them.
        """
        corners = len(self.strides)
        along, every = int(self.strides[direction]), int(self.strides.sum())
        return corners * along - 1, corners * (along - every) + corners - 1


def pack(largest: Sequence[float], images: int = 1) -> Packing:
    """Return how to pack lattices whose features run from 0 to `largest`, for so many images.

    Two cells on either side leave room for neighbours.

    Raises:
        OverflowError: If there are more cells than can be counted.
    """
    size = len(largest)
    scale = np.array([1 / math.sqrt((i + 1) * (i + 2)) for i in range(size)], np.float32)
    scale *= np.float32(math.sqrt(2 / 3) * (size + 1))
    reach = np.asarray(largest, np.float64) * scale
    strides, lows = np.zeros(size + 1, np.int64), np.zeros(size + 1, np.int64)
    step = 1
    for index in range(size):
        above, below = reach[index:].sum(), index * reach[index - 1] if index else 0.0
        if not max(above, below) < _EXACT:
            raise OverflowError("too many cells")
        lows[index] = -math.ceil(below / (size + 1)) - 4
        strides[index] = step
        step *= math.ceil(above / (size + 1)) + 4 - int(lows[index]) + 1
    if step * (size + 1) * images >= 2**_KEY_BITS:
        raise OverflowError("too many cells")
    return Packing(scale, strides, lows, step)


def blur_gain(size: int) -> float:
    """Return what the blur in `size` features must be multiplied by to have unit gain.

    Example:
        >>> blur_gain(2)
        0.8
    """
    return 1 / (1 + 2.0**-size)
