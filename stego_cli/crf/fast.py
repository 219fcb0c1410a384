"""The dense CRF on several cores: mean-field inference over two permutohedral lattices.

Written from Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials" (NIPS
2011). Equal to pydensecrf to rounding. Classes are kept in blocks of eight that lie side by side for each pixel;
each block passes through both lattices on one thread without waiting for the others.

Importing this module imports Numba.
"""

from __future__ import annotations

import os
import sys
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from stego_cli.crf import kernels
from stego_cli.crf.base import LEAST_PROBABILITY, bilinear_neighbours, check_image, check_log_probs
from stego_cli.crf.lattice import Lattice, blur_gain, build_lattice, even_parts, waves_over
from stego_cli.crf.vectors import LANES
from stego_cli.errors import StegoError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stego_cli.config.crf import CrfParameters

_WAVE = 2048  # pixels
_SCRATCH = 512 * 2**20  # bytes for the values on the lattices, of all threads together
_PARTS = 4  # runs of pixels for each thread, so that none waits long for the last


def thread_count() -> int:
    """Return how many threads to use: as PyTorch where it is loaded, else `OMP_NUM_THREADS`, else one per core."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Plane:
    """The lattice on positions alone and the order in which to pass through it; depends on the image's size only."""

    lattice: Lattice
    waves: NDArray[np.int64]


class PlaneCache:
    """Keeps the planes of the sizes last used, up to a number of sizes and bytes; safe to share between threads."""

    def __init__(self, sizes: int = 4, nbytes: int = 256 * 2**20) -> None:
        self._sizes = sizes
        self._nbytes = nbytes
        self._planes: OrderedDict[tuple[int, int, float], Plane] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._planes)

    @property
    def nbytes(self) -> int:
        """Memory that the planes take, in bytes."""
        return sum(plane.lattice.nbytes for plane in self._planes.values())

    def get(self, height: int, width: int, reach: float, team: Team) -> Plane:
        """Return the plane for an image of this size, built if it is not at hand."""
        key = (height, width, reach)
        with self._lock:
            plane = self._planes.get(key)
            if plane is None:
                lattice = build_lattice(_positions(height, width, reach), team.pool, team.threads)
                plane = self._planes[key] = Plane(lattice, waves_over(lattice, _WAVE))
            self._planes.move_to_end(key)
            while len(self) > self._sizes or (self._planes and self.nbytes > self._nbytes):
                self._planes.popitem(last=False)
        return plane


@dataclass(frozen=True)
class Team:
    """Threads that share one image."""

    pool: ThreadPoolExecutor
    threads: int


_PLANES = PlaneCache()


@dataclass(frozen=True)
class FastCrf:
    """A `DenseCrf` that uses every core it may; the same result on any number of threads, bit by bit."""

    parameters: CrfParameters

    def refine(self, image: NDArray[np.uint8], stacks: Sequence[NDArray[np.floating]]) -> list[NDArray[np.float32]]:
        """Sharpen every stack; see `DenseCrf.refine`.

        Raises:
            StegoError: Also if the image is too large, or a reach too small, for the cells to be counted.
        """
        check_image(image)
        for stack in stacks:
            check_log_probs(stack)
        height, width = image.shape[:2]
        known = self.parameters
        threads = thread_count()
        with ThreadPoolExecutor(threads) as pool:
            team = Team(pool, threads)
            try:
                plane = _PLANES.get(height, width, known.gaussian_xy, team)
                colours = build_lattice(_positions_and_colours(image, known), pool, threads)
            except OverflowError:
                raise StegoError(
                    f"an image of {height}x{width} (height x width) with reaches of {known.gaussian_xy:g} and "
                    f"{known.bilateral_xy:g} pixels and {known.bilateral_rgb:g} levels needs more cells than the CRF "
                    "can count\n\nhint: use a smaller image or larger reaches"
                ) from None
            return [self._sharpen(stack, (height, width), plane, colours, team) for stack in stacks]

    def _sharpen(
        self, stack: NDArray[np.floating], size: tuple[int, int], plane: Plane, colours: Lattice, team: Team
    ) -> NDArray[np.float32]:
        """Run mean-field inference for one stack."""
        height, width = size
        if len(stack) == 1:
            return np.ones((1, height, width), np.float32)
        count = height * width
        logits = _log_probabilities(stack, height, width, team)
        beliefs = np.empty_like(logits)
        flat_logits, flat_beliefs = logits.reshape(-1, LANES), beliefs.reshape(-1, LANES)
        parts = even_parts(count, _PARTS * team.threads)

        def settle(part: tuple[int, int], *, add: bool = True) -> None:
            kernels.softmax(flat_logits, flat_beliefs, count, *part, add)

        scratch: SimpleQueue[NDArray[np.float32]] = SimpleQueue()
        for room in _rooms(plane.lattice, colours, min(team.threads, len(beliefs))):
            scratch.put(room)
        gains = self._gains()

        def pass_on(block: NDArray[np.float32]) -> None:
            room = scratch.get()
            try:
                kernels.message(block, plane.lattice.arrays, colours.arrays, *gains, plane.waves, room)
            finally:
                scratch.put(room)

        list(team.pool.map(lambda part: settle(part, add=False), parts))
        for _ in range(self.parameters.iterations):
            list(team.pool.map(pass_on, beliefs))
            list(team.pool.map(settle, parts))
        result = np.empty((len(stack), count), np.float32)
        list(team.pool.map(lambda part: kernels.maps_of(beliefs, result, *part), parts))
        return result.reshape(-1, height, width)

    def _gains(self) -> tuple[np.float32, np.float32]:
        """What each kernel's message is multiplied by: its strength, and what gives the blur unit gain."""
        near = self.parameters.gaussian_weight * blur_gain(2)
        return np.float32(near), np.float32(self.parameters.bilateral_weight * blur_gain(5))


def _log_probabilities(stack: NDArray[np.floating], height: int, width: int, team: Team) -> NDArray[np.float32]:
    """Resized log-probabilities, kept off minus infinity, in blocks: (n, h, w) -> (ceil(n / 8), H * W, 8)."""
    maps = np.ascontiguousarray(stack, dtype=np.float32)
    down, across = bilinear_neighbours(maps.shape[1], height), bilinear_neighbours(maps.shape[2], width)
    blocks = np.empty((-(-len(maps) // LANES), height * width, LANES), np.float32)
    rows = even_parts(height, _PARTS * team.threads)
    list(team.pool.map(lambda part: kernels.blocks_of(maps, down, across, blocks, *part), rows))
    flat, least = blocks.reshape(-1, LANES), np.float32(np.log(LEAST_PROBABILITY))
    parts = even_parts(height * width, _PARTS * team.threads)
    list(team.pool.map(lambda part: kernels.log_softmax(flat, height * width, least, *part), parts))
    return blocks


def _rooms(near: Lattice, far: Lattice, wanted: int) -> list[NDArray[np.float32]]:
    """Room for the values on both lattices, twice, for each block under way; fewer when the lattices are large."""
    rows = 2 * (near.size + 1 + far.size + 1)
    most = max(1, _SCRATCH // (rows * LANES * 4))
    return [np.empty((rows, LANES), np.float32) for _ in range(min(wanted, most))]


def _positions(height: int, width: int, reach: float) -> NDArray[np.float32]:
    """Columns and rows of the pixels in units of `reach`, shape (H * W, 2)."""
    features = np.empty((height, width, 2), np.float32)
    features[:, :, 0] = np.arange(width, dtype=np.float32) / np.float32(reach)
    features[:, :, 1] = (np.arange(height, dtype=np.float32) / np.float32(reach))[:, None]
    return features.reshape(-1, 2)


def _positions_and_colours(image: NDArray[np.uint8], known: CrfParameters) -> NDArray[np.float32]:
    """Positions and colours in units of their reaches, shape (H * W, 5)."""
    height, width = image.shape[:2]
    features = np.empty((height * width, 5), np.float32)
    features[:, :2] = _positions(height, width, known.bilateral_xy)
    bgr = image[:, :, ::-1].reshape(-1, 3)  # the order of the reference, which decides ties on the lattice
    np.divide(bgr, np.float32(known.bilateral_rgb), out=features[:, 2:])
    return features
