"""Many images through a model as fast as the machine allows, in order, with little in memory.

On a CPU each image takes its whole way, from the network to the file, on one core, and as many images are under way as
there are cores: nothing waits for the slowest of several threads, and no core idles while another compresses a picture.
Measured on four cores against one image on all of them: the network 1.5 times as fast, the CRF 1.3 times. Where there
are fewer images than cores, or images so large that memory would not hold one for each core, several cores share one.

On an accelerator one thread keeps the device busy, batch after batch, while the cores do what is left to the host.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import torch

from stego_cli.engine.device import is_out_of_memory
from stego_cli.engine.halving import HalvingSegmenter
from stego_cli.engine.threads import Cores, executor, in_order
from stego_cli.errors import ImageError, StegoError
from stego_cli.segmenter import PASS_PIXELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from stego_cli.config.model import Probe
    from stego_cli.data.views import View
    from stego_cli.progress import Report
    from stego_cli.segmenter import Array, Labelled, Scored, Segmenter, Settings

T = TypeVar("T")
R = TypeVar("R")

# Working pixels that are under way on a CPU at once. Network, probes and CRF take up to 2.5 kB for each.
FLIGHT_PIXELS = 1_500_000


@dataclass(frozen=True)
class Seen(Generic[T]):
    """One image as the network sees it.

    Attributes:
        item: What the caller knows it by.
        working: The image at working size, (h, w, 3) uint8 RGB.
        view: How it got there.
    """

    item: T
    working: Array
    view: View


@dataclass(frozen=True)
class Segmented:
    """What became of one image.

    Attributes:
        answers: What each probe says.
        tile: Side in pixels of the windows it was seen in; None if it was seen whole.
        seconds: How long it was worked on.
    """

    answers: dict[Probe, Labelled]
    tile: int | None
    seconds: float


class Pipeline(Generic[T, R]):
    """Segments a stream of batches and finishes every image in the thread that has it at hand.

    Args:
        model: On its device.
        settings: How it segments.
        finish: Makes the result of an image, such as its files; called in threads. Gets an error in place of the
            answer for an image that does not fit into memory.
        report: Told when memory is short.
        cores: How many to use; None takes as many as PyTorch does.
    """

    def __init__(
        self,
        model: Segmenter,
        settings: Settings,
        finish: Callable[[Seen[T], Segmented | ImageError], R],
        report: Report,
        cores: int | None = None,
    ) -> None:
        self._model = model
        self._settings = settings
        self._finish = finish
        self._score = HalvingSegmenter(model, settings, report)
        self._cores = Cores(cores or torch.get_num_threads())

    def run(self, batches: Iterable[Sequence[Seen[T]]]) -> Iterator[R]:
        """Yield the result of every image, in order; batches are of equal working size.

        Raises:
            StegoError: If the model's scores of an image are no finite numbers: those of others would be noise, too.
            Exception: The first error of `finish` or of the model, in the order of the images. What has not begun is
                dropped then, as it is when the caller stops asking.
        """
        filled = (batch for batch in batches if batch)  # nothing is left of one in which nothing could be read
        return self._on_cores(filled) if self._model.device.type == "cpu" else self._beside_device(filled)

    def _on_cores(self, batches: Iterable[Sequence[Seen[T]]]) -> Iterator[R]:
        """Let every image, or every few small ones, take the whole way on a core or several."""

        def whole_way(task: tuple[Sequence[Seen[T]], int]) -> list[R]:
            images, share = task
            with self._cores.take(share):
                compute_on(share)
                begin = time.perf_counter()
                scored = self._score([image.working for image in images])
                each = (time.perf_counter() - begin) / len(images)
                return [self._answer(image, found, each) for image, found in zip(images, scored, strict=True)]

        pieces = chain.from_iterable(self._pieces(batch) for batch in batches)
        with threads(self._cores.count) as pool:
            tasks = shares_of_cores(pieces, self._cores.count)
            for results in in_order(tasks, whole_way, pool, 2 * self._cores.count):
                yield from results

    def _beside_device(self, batches: Iterable[Sequence[Seen[T]]]) -> Iterator[R]:
        """Keep the device busy from one thread and do the rest on the cores of the host, an image on each."""

        def score(images: Sequence[Seen[T]]) -> list[tuple[Seen[T], Scored | ImageError, float]]:
            begin = time.perf_counter()
            scored = self._score([image.working for image in images])
            each = (time.perf_counter() - begin) / len(images)
            return [(image, found, each) for image, found in zip(images, scored, strict=True)]

        def answer(task: tuple[Seen[T], Scored | ImageError, float]) -> R:
            compute_on(1)
            return self._answer(*task)

        with threads(self._cores.count) as pool, executor(1) as device:
            scored = chain.from_iterable(in_order(batches, score, device, 2))
            yield from in_order(scored, answer, pool, self._cores.count + 2)

    def _answer(self, image: Seen[T], scored: Scored | ImageError, seconds: float) -> R:
        """Turn scores into label maps, and these into the caller's result."""
        begin = time.perf_counter()
        found: Segmented | ImageError
        if isinstance(scored, ImageError):
            found = scored
        else:
            _refuse_noise(scored)
            try:
                answers = self._model.answer(scored, image.working, image.view, self._settings)
                found = Segmented(answers, scored.tile, seconds + time.perf_counter() - begin)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                height, width = image.view.size
                found = ImageError(f"needs more memory than there is at {height}x{width}; try a smaller --res")
        return self._finish(image, found)

    def _pieces(self, batch: Sequence[Seen[T]]) -> Iterator[Sequence[Seen[T]]]:
        """Cut a batch into what goes through the network at once."""
        height, width = batch[0].view.size
        passes = PASS_PIXELS // 2 if self._settings.mirror else PASS_PIXELS
        size = len(batch) if self._model.by_batch else max(passes // (height * width), 1)
        for start in range(0, len(batch), size):
            yield batch[start : start + size]


def _refuse_noise(scored: Scored) -> None:
    """Refuse scores that hold NaN or infinity, as of half precision that overflowed: a class would still be highest.

    Raises:
        StegoError: Names the probe.
    """
    for probe, maps in scored.maps.items():
        if not np.isfinite(maps).all():
            raise StegoError(
                f"the scores of the {probe} probe hold NaN or infinity, so no class can be told from another"
                "\n\nhint: run once with --precision fp32; if that does not help, the model file is damaged"
            )


def shares_of_cores(pieces: Iterable[Sequence[Seen[T]]], cores: int) -> Iterator[tuple[Sequence[Seen[T]], int]]:
    """Yield each piece with the number of cores that it gets.

    One, where there are as many pieces as cores and memory holds them all; otherwise the cores are divided among those
    that there are, or fit.
    """
    waiting = iter(pieces)
    while group := list(islice(waiting, cores)):
        for piece in group:
            height, width = piece[0].view.size
            fit = max(FLIGHT_PIXELS // (len(piece) * height * width), 1)
            yield piece, max(cores // min(len(group), fit), 1)


@contextmanager
def threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Open a pool in whose threads PyTorch's own number of threads may be changed; it is the old one afterwards."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, thread_name_prefix="stego-core")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)  # what threads that are started later begin with


def compute_on(cores: int) -> None:
    """Let PyTorch, and the CRF, use so many cores for what this thread computes from now on."""
    if torch.get_num_threads() != cores:
        torch.set_num_threads(cores)
