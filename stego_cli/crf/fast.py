"""The dense CRF on several cores: mean-field inference over two permutohedral lattices.

Written from Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials" (NIPS
2011). Equal to pydensecrf to rounding. Classes are kept in blocks of eight that lie side by side for each pixel;
each block passes through both lattices on one thread without waiting for the others.

Importing this module imports Numba.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import starmap
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np

from stego_cli.crf import kernels
from stego_cli.crf.base import LEAST_PROBABILITY, bilinear_neighbours, check_image, check_log_probs, too_many_cells
from stego_cli.crf.lattice import Lattice, build_lattice
from stego_cli.crf.plane import Plane, PlaneCache, positions
from stego_cli.crf.team import Team, even_parts, thread_count, thread_shares
from stego_cli.crf.vectors import LANES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stego_cli.config.crf import CrfParameters

_BUDGET = 1664 * 2**20  # bytes that a large image may take, stacks and results included, if it can do with that
_TOGETHER = 256 * 2**20  # bytes of stacks sharpened at the same time
_PARTS = 4  # runs of pixels for each thread, so that none waits long for the last
_LARGEST = 80.0  # power of e up to which no pixel's largest class needs to be taken off first

_PLANES = PlaneCache()


@dataclass(frozen=True)
class Field:
    """One stack on its way through the iterations: n classes in blocks of eight, N pixels.

    Attributes:
        logits: Log-probabilities, shape (ceil(n / 8), N, 8).
        beliefs: Likewise; probabilities up to a factor for each pixel.
        sums: Sum of the beliefs over each block, shape (ceil(n / 8), N).
        shares: That factor, shape (N,).
        classes: n.
    """

    logits: NDArray[np.float32]
    beliefs: NDArray[np.float32]
    sums: NDArray[np.float32]
    shares: NDArray[np.float32]
    classes: int

    def done(self) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
        """Return what the result is made from, without what is not needed any more."""
        return self.beliefs, self.shares, self.classes


@dataclass(frozen=True)
class FastCrf:
    """A `DenseCrf` that uses every core it may; the same result on any number of threads, bit by bit.

    Whoever calls `refine` in several threads shares the cores out, by telling PyTorch in each how many it may use.
    """

    parameters: CrfParameters

    def refine(self, image: NDArray[np.uint8], stacks: Sequence[NDArray[np.floating]]) -> list[NDArray[np.float32]]:
        """Sharpen every stack; see `DenseCrf.refine`.

        Raises:
            StegoError: Also if the image is too large, or a reach too small, for the cells to be counted.
        """
        return self._refine(image, stacks, thread_count())

    def refine_batch(
        self, images: Sequence[NDArray[np.uint8]], stacks: Sequence[Sequence[NDArray[np.floating]]]
    ) -> list[list[NDArray[np.float32]]]:
        """Sharpen the stacks of several images; see `DenseCrf.refine_batch`."""
        fit = min(starmap(_fit_together, zip(images, stacks, strict=True)), default=1)
        threads = thread_count()
        at_once = min(fit, threads)
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(self._refine, images, stacks, thread_shares(len(images), at_once, threads)))

    def _refine(
        self, image: NDArray[np.uint8], stacks: Sequence[NDArray[np.floating]], threads: int
    ) -> list[NDArray[np.float32]]:
        """Sharpen every stack on so many threads."""
        check_image(image)
        for stack in stacks:
            check_log_probs(stack)
        height, width = image.shape[:2]
        known = self.parameters
        with Team(threads) as team:
            try:
                plane = _PLANES.get(height, width, known.gaussian_xy, known.gaussian_weight, team)
                colours = build_lattice(
                    _positions_and_colours(image, known), height * width, known.bilateral_weight, team
                )
            except OverflowError:
                raise too_many_cells(height, width, known) from None
            several = [stack for stack in stacks if len(stack) > 1]
            at_once = max(1, len(several)) if _nbytes(image, several) <= _TOGETHER else 1
            spare = _BUDGET - _held(image, stacks, at_once) - plane.nbytes - colours.nbytes
            inference = Inference(plane, colours, team, known.iterations, spare)
            sharp: list[NDArray[np.float32]] = []
            for first in range(0, len(several), at_once):
                sharp += inference.sharpen(several[first : first + at_once], (height, width))
        certain = np.ones((1, height, width), np.float32)
        return [sharp.pop(0) if len(stack) > 1 else certain.copy() for stack in stacks]


@dataclass(frozen=True)
class Inference:
    """Mean-field inference on one image.

    Attributes:
        plane: The lattice on positions.
        colours: The lattice on positions and colours.
        team: Does the work.
        iterations: How many.
        spare: Bytes for the values on the lattices, of all threads together.
    """

    plane: Plane
    colours: Lattice
    team: Team
    iterations: int
    spare: int

    def sharpen(self, stacks: Sequence[NDArray[np.floating]], size: tuple[int, int]) -> list[NDArray[np.float32]]:
        """Sharpen stacks side by side: (n, h, w) each to (n, H, W)."""
        fields = [self._begin(stack, *size) for stack in stacks]
        if self._iterate(fields, finish=True) > _LARGEST:
            fields = [self._begin(stack, *size) for stack in stacks]
            self._iterate(fields, finish=False)
        return [self._maps(*fields.pop(0).done()).reshape(-1, *size) for _ in stacks]

    def _begin(self, stack: NDArray[np.floating], height: int, width: int) -> Field:
        """Bring logits to size and turn them into log-probabilities kept off minus infinity."""
        maps = np.ascontiguousarray(stack, dtype=np.float32)
        down, across = bilinear_neighbours(maps.shape[1], height), bilinear_neighbours(maps.shape[2], width)
        count, blocks = height * width, -(-len(maps) // LANES)
        logits, beliefs = (np.empty((blocks, count, LANES), np.float32) for _ in range(2))
        field = Field(logits, beliefs, np.empty((blocks, count), np.float32), np.empty(count, np.float32), len(maps))
        flat, into = logits.reshape(-1, LANES), beliefs.reshape(-1, LANES)
        rows = even_parts(height, _PARTS * self.team.threads)
        self.team.map(lambda part: kernels.blocks_of(maps, down, across, flat, *part), rows)
        limits = _limits(len(maps))
        self.team.map(
            lambda part: kernels.log_softmax(flat, into, count, limits, field.sums, *part), self._parts(count)
        )
        return field

    def _iterate(self, fields: Sequence[Field], *, finish: bool) -> float:
        """Run all iterations; return the largest sum of logit and messages.

        Args:
            fields: Changed in place.
            finish: Take powers of e as the sums come, which is right as long as they are not too large.
        """
        blocks = [(field, block) for field in fields for block in range(len(field.logits))]
        scratch: SimpleQueue[NDArray[np.float32]] = SimpleQueue()
        for room in self._rooms(min(self.team.threads, len(blocks))):
            scratch.put(room)
        near, far = self.plane.arrays, self.colours.arrays

        def exchange(task: tuple[Field, int]) -> float:
            field, block = task
            room = scratch.get()
            try:
                totals = field.shares, field.sums[block]
                return float(
                    kernels.exchange(field.beliefs[block], field.logits[block], totals, near, far, room, finish)
                )
            finally:
                scratch.put(room)

        top = 0.0
        for _ in range(self.iterations):
            self._share(fields)
            top = max(top, *self.team.map(exchange, blocks))
            if finish and top > _LARGEST:
                return top
            if not finish:
                for field in fields:
                    self._settle(field)
        self._share(fields)
        return top

    def _share(self, fields: Sequence[Field]) -> None:
        self.team.map(lambda field: kernels.shares_of(field.sums, field.shares), fields)

    def _settle(self, field: Field) -> None:
        """Turn sums of logits and messages into beliefs."""
        flat, count = field.beliefs.reshape(-1, LANES), len(field.shares)
        self.team.map(lambda part: kernels.softmax(flat, count, field.sums, *part), self._parts(count))

    def _maps(self, beliefs: NDArray[np.float32], shares: NDArray[np.float32], classes: int) -> NDArray[np.float32]:
        """Return the probabilities, shape (n, N)."""
        result = np.empty((classes, len(shares)), np.float32)
        self.team.map(lambda part: kernels.maps_of(beliefs, shares, result, *part), self._parts(len(shares)))
        return result

    def _rooms(self, wanted: int) -> list[NDArray[np.float32]]:
        """Room for the values on both lattices for each block under way; fewer when the lattices are large."""
        rows = 2 * (self.plane.size + 1) + self.colours.size + 2
        most = max(1, self.spare // (rows * LANES * 4))
        rooms: list[NDArray[np.float32]] = []
        for _ in range(min(wanted, most)):
            try:
                rooms.append(_room(rows))
            except MemoryError:
                if not rooms:
                    raise
        return rooms

    def _parts(self, count: int) -> list[tuple[int, int]]:
        return even_parts(count, _PARTS * self.team.threads)


def _room(rows: int) -> NDArray[np.float32]:
    return np.empty((rows, LANES), np.float32)


def _limits(classes: int) -> NDArray[np.float32]:
    """Return the lowest, then the highest log-probability of each class, as `kernels.log_softmax` reads them."""
    limits = np.full((2, -(-classes // LANES) * LANES), kernels.PADDING, np.float32)
    limits[0, :classes] = np.log(LEAST_PROBABILITY)
    limits[1, :classes] = 0.0
    return limits.reshape(-1, LANES)


def _nbytes(image: NDArray[np.uint8], stacks: Sequence[NDArray[np.floating]]) -> int:
    """Memory of logits and beliefs of all stacks together, in bytes."""
    blocks = sum(-(-len(stack) // LANES) for stack in stacks)
    return int(image.shape[0] * image.shape[1] * blocks * LANES * 4 * 2)


def _held(image: NDArray[np.uint8], stacks: Sequence[NDArray[np.floating]], at_once: int) -> int:
    """Memory that is taken while the iterations run, but for the lattices, in bytes."""
    results = image.shape[0] * image.shape[1] * 4 * sum(map(len, stacks))
    largest = max((_nbytes(image, [stack]) for stack in stacks), default=0)
    return int(sum(stack.nbytes for stack in stacks) + results + at_once * largest)


def _fit_together(image: NDArray[np.uint8], stacks: Sequence[NDArray[np.floating]]) -> int:
    """How many such images may be under way at once."""
    return max(1, 2 * _TOGETHER // max(1, _nbytes(image, stacks)))


def _positions_and_colours(image: NDArray[np.uint8], known: CrfParameters) -> NDArray[np.float32]:
    """Positions and colours in units of their reaches, shape (5, ceil(H * W / 8), 8)."""
    height, width = image.shape[:2]
    features = positions(height, width, known.bilateral_xy, 5)
    for channel in range(3):
        pixels = features[2 + channel].reshape(-1)[: height * width].reshape(height, width)
        level = image[:, :, 2 - channel]  # blue first, as in the reference: the order decides ties on the lattice
        np.divide(level, np.float32(known.bilateral_rgb), out=pixels, dtype=np.float32)
    return features
