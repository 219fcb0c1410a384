"""What a training step looks at: which images, which neighbours, their labels and masks, in the features' square."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from stego_cli.data import views
from stego_cli.data.labels import IGNORE_LABEL
from stego_cli.errors import ImageError, StegoError
from stego_cli.features.memory import fits_in_memory
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stego_cli.config.words import LoaderCrop
    from stego_cli.data.dataset import Dataset
    from stego_cli.neighbors.index import NeighborIndex
    from stego_cli.progress import Report

    Numbers = NDArray[np.int64]

# Streams of their own, beside those of `methods.stego.draws`.
ORDER_STREAM, NEIGHBOR_STREAM = 100, 101
MOST_UINT8_CLASSES = 255
IGNORED_VALUE = 255  # in label maps of one byte, by custom


@dataclass(frozen=True, eq=False)  # comparing arrays has no single answer
class Sampler:
    """Which images a step looks at: a pure function of seed and step, so that a resumed run sees the same ones.

    Every epoch goes through the usable images in a new order; what does not fill a last batch is left out, as the
    next order brings it back.

    Attributes:
        usable: Numbers of the images that can be read, shape (n,).
        neighbors: Neighbours of every image of the dataset, nearest first, -1 where there is none, shape (N, k).
        batch_size: Images of a step, at most n.
    """

    usable: Numbers
    neighbors: Numbers
    batch_size: int

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= len(self.usable):
            raise ValueError(f"batches of {self.batch_size} out of {len(self.usable)} images")

    def images(self, seed: int, step: int) -> Numbers:
        """Return the numbers of the images of a step, shape (batch_size,), all different."""
        epoch, place = divmod(step, len(self.usable) // self.batch_size)
        order = _order(seed, epoch, len(self.usable))
        chosen: Numbers = self.usable[order[place * self.batch_size : (place + 1) * self.batch_size]]
        return chosen

    def partners(self, seed: int, step: int, images: Numbers) -> Numbers:
        """Return a neighbour of each image, one as likely as the other; an image without any is its own."""
        chances = _random(seed, step, NEIGHBOR_STREAM).random(len(images))
        rows = self.neighbors[images]
        counts = (rows >= 0).sum(1)
        columns = np.minimum((chances * counts).astype(np.int64), np.maximum(counts - 1, 0))
        if not rows.shape[1]:
            return images
        return np.where(counts > 0, rows[np.arange(len(rows)), columns], images)


def make_sampler(count: int, index: NeighborIndex | None, failed: Sequence[int], used: int, batch: int) -> Sampler:
    """Return the sampler of a dataset.

    Args:
        count: Images of the dataset.
        index: Their neighbours; None for none.
        failed: Images that cannot be used.
        used: How many of the neighbours are.
        batch: Images of a step; fewer are taken where there are fewer.

    Raises:
        StegoError: If no image can be used.
    """
    valid = np.ones(count, bool) if index is None else index.valid.copy()
    valid[list(failed)] = False
    usable = np.flatnonzero(valid)
    if not len(usable):
        raise StegoError("no image could be used\n\nhint: see the messages above, or give another folder")
    neighbors = np.full((count, 0 if index is None else used), -1, np.int64)
    if index is not None:
        for image in usable:
            others = index.others(int(image))
            others = others[valid[others]][:used]
            neighbors[image, : len(others)] = others
    return Sampler(usable, neighbors, min(batch, len(usable)))


def _random(seed: int, number: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, number), spawn_key=(stream,))))


@lru_cache(maxsize=4)  # steps of one epoch, and of the next, share an order
def _order(seed: int, epoch: int, count: int) -> Numbers:
    return _random(seed, epoch, ORDER_STREAM).permutation(count)


@dataclass(frozen=True)
class Square:
    """How an image becomes the square that the backbone sees."""

    side: int
    crop: LoaderCrop
    antialias: bool

    def view(self, height: int, width: int) -> views.View:
        """Return the view of an image of this size."""
        return views.square_view(height, width, self.side, self.crop, antialias=self.antialias)


class Kept(ABC):
    """Something for each pixel of training images, in the square of the features, kept in memory if all of it fits.

    Args:
        dataset: The images.
        square: How they become squares; what belongs to them always by the nearest pixel.
        dtype: Type of the values.
        report: Told about files that cannot be used, once each.
    """

    def __init__(self, dataset: Dataset, square: Square, dtype: np.dtype[Any], report: Report) -> None:
        self._dataset, self._square, self._dtype, self._report = dataset, square, dtype, report
        shape = (len(dataset), square.side, square.side)
        fits = fits_in_memory(int(np.prod(shape)) * dtype.itemsize)
        self._kept = np.empty(shape, dtype) if fits else None  # pages are taken as they are filled
        self._known = np.zeros(len(dataset), bool)

    def read(self, images: Numbers) -> NDArray[Any]:
        """Return the values for images, shape (n, side, side)."""
        return np.stack([self._one(int(image)) for image in images])

    @abstractmethod
    def _from_file(self, image: int) -> NDArray[Any]:
        """Return the values for one image, shape (side, side)."""

    def _one(self, image: int) -> NDArray[Any]:
        if self._kept is not None and self._known[image]:
            values: NDArray[Any] = self._kept[image]
            return values
        values = self._from_file(image)
        if self._kept is not None:
            self._kept[image] = values
            self._known[image] = True  # last: another thread may be looking
        return values

    def _seen(
        self, image: int, read: Callable[[int, tuple[int, int]], NDArray[Any] | None], otherwise: str
    ) -> NDArray[Any] | None:
        """Return what is read of one image, in the square; None if there is nothing, or if it cannot be used."""
        try:
            size = self._dataset.size(image)
            values = read(image, size)
        except ImageError as error:
            self._report.warn(f"{printable(self._dataset.samples[image].name)} counts as {otherwise}: {error}")
            return None
        return None if values is None else views.apply_to_labels(self._square.view(*size), values)

    def _all(self, value: int) -> NDArray[Any]:
        return np.full((self._square.side, self._square.side), value, self._dtype)


class LabelMaps(Kept):
    """Labels of training images; 255, or -1 in wider types, where nothing counts.

    Args:
        dataset: The images.
        square: How they become squares.
        classes: Labels from 0 to one less count, the others do not.
        report: Told about label maps that cannot be used, once each.
    """

    def __init__(self, dataset: Dataset, square: Square, classes: int, report: Report) -> None:
        super().__init__(dataset, square, np.dtype(np.uint8 if classes <= MOST_UINT8_CLASSES else np.int32), report)
        self._classes = classes
        self._ignored = MOST_UINT8_CLASSES if self._dtype == np.uint8 else IGNORE_LABEL
        self._told = False  # of labels beyond the classes

    def _from_file(self, image: int) -> NDArray[Any]:
        if self._dataset.samples[image].label is None:
            return self._all(self._ignored)
        ids = self._seen(image, self._dataset.labels, "unlabelled")
        if ids is None:
            return self._all(self._ignored)
        self._tell_of_others(image, int(np.max(ids, where=ids != IGNORED_VALUE, initial=IGNORE_LABEL)))
        return np.where((ids >= 0) & (ids < self._classes), ids, self._ignored).astype(self._dtype)

    def _tell_of_others(self, image: int, highest: int) -> None:
        """Say once that some labels do not count: with too few classes, scores look better than they are."""
        if highest < self._classes or self._told:
            return
        self._told = True
        self._report.note(
            f"{printable(self._dataset.samples[image].name)} has label {highest}, but there are {self._classes} "
            f"classes: labels from {self._classes} on do not count, here and in scores"
        )


class SalienceMasks(Kept):
    """Masks of what stands out in training images; all false for an image without one.

    Args:
        dataset: The images.
        square: How they become squares.
        report: Told about masks that cannot be used, and how many images have none.
    """

    def __init__(self, dataset: Dataset, square: Square, report: Report) -> None:
        super().__init__(dataset, square, np.dtype(np.bool_), report)
        if lacking := sum(sample.salience is None for sample in dataset.samples):
            report.note(f"{lacking} of {len(dataset)} images have no salience mask; their positions are drawn evenly")

    def _from_file(self, image: int) -> NDArray[Any]:
        if self._dataset.samples[image].salience is None:
            return self._all(0)
        mask = self._seen(image, self._dataset.salience, "without salience")
        return self._all(0) if mask is None else mask


def read_squares(dataset: Dataset, square: Square, images: Numbers) -> NDArray[np.uint8]:
    """Read images as the squares that the backbone sees, shape (n, side, side, 3).

    Raises:
        ImageError: If one cannot be read; names it.
    """
    squares = []
    for image in images:
        pixels = dataset.image(int(image))
        squares.append(views.apply(square.view(pixels.shape[0], pixels.shape[1]), pixels))
    return np.stack(squares)
