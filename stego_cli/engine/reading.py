"""Images of a dataset as batches of equal working size, a few in memory at a time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from stego_cli.data import views
from stego_cli.engine.threads import executor, read_ahead
from stego_cli.errors import ImageError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from stego_cli.data.dataset import Dataset
    from stego_cli.data.views import View
    from stego_cli.progress import Report

    MakeView = Callable[[int, int], View]

# Images that wait for others of their working size have this many pixels at most; labels take 8 bytes for each.
WAITING_PIXELS = 64_000_000


@dataclass(frozen=True)
class WorkingImage:
    """One image of a dataset at the size that the backbone sees.

    Attributes:
        index: Its place in the dataset.
        name: What it is called in messages.
        view: How it was brought to working size, and how maps get back from it.
        pixels: Shape (h, w, 3), RGB.
        labels: Class ids at the image's own size, (H, W); None if it has no label map, an error if that is unusable.
    """

    index: int
    name: str
    view: View
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | ImageError | None


def working_batches(
    dataset: Dataset, view: MakeView, batch_size: int, workers: int, report: Report, doing: str
) -> Iterator[list[WorkingImage]]:
    """Yield the images in batches of equal working size, as soon as a batch is full; the rest at the end.

    A batch is given before it is full when too much waits, as in a dataset of a thousand sizes.

    Args:
        dataset: What to read.
        view: How an image of a height and width is brought to working size.
        batch_size: Most images in a batch.
        workers: Threads that read ahead; 0 reads in between.
        report: Shows progress under the words `doing`, and is warned of images that cannot be read; those are left out.
        doing: What this is for.
    """
    starts = range(0, len(dataset), batch_size)
    chunks = (list(range(start, min(start + batch_size, len(dataset)))) for start in starts)
    waiting = _Waiting(batch_size)
    with executor(workers) as pool:
        read = read_ahead(chunks, partial(_read, dataset, view), pool)
        answers = (answer for _, chunk in read for answer in chunk)
        for index, answer in enumerate(report.track(answers, doing, total=len(dataset))):
            if isinstance(answer, ImageError):
                report.warn(f"{printable(dataset.samples[index].name)} was skipped: {answer}")
            else:
                yield from waiting.add(answer)
        yield from waiting.rest()


class _Waiting:
    """Images that wait until there are enough of their working size for a batch."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._batches: dict[tuple[int, int], list[WorkingImage]] = defaultdict(list)
        self._pixels = 0

    def add(self, image: WorkingImage) -> Iterator[list[WorkingImage]]:
        """Take one more; yield its batch if it is full, and the fullest one if too much waits."""
        batch = self._batches[image.view.size]
        batch.append(image)
        self._pixels += image.view.input_height * image.view.input_width
        if len(batch) == self._batch_size:
            yield self._take(image.view.size)
        elif self._pixels > WAITING_PIXELS:
            yield self._take(max(self._batches, key=lambda size: len(self._batches[size])))

    def rest(self) -> Iterator[list[WorkingImage]]:
        """Yield what still waits."""
        yield from self._batches.values()

    def _take(self, size: tuple[int, int]) -> list[WorkingImage]:
        batch = self._batches.pop(size)
        self._pixels -= sum(image.view.input_height * image.view.input_width for image in batch)
        return batch


def _read(dataset: Dataset, make_view: MakeView, index: int) -> WorkingImage | ImageError:
    """Read one image with its labels; an error is returned, for the other images go on."""
    try:
        pixels = dataset.image(index)
        size = pixels.shape[0], pixels.shape[1]
        view = make_view(*size)
        working = views.apply(view, pixels)
        return WorkingImage(index, dataset.samples[index].name, view, working, _labels(dataset, index, size))
    except ImageError as error:
        return error
    except MemoryError:
        return ImageError("there is not enough memory to read it\n\nhint: use fewer --workers")


def _labels(dataset: Dataset, index: int, size: tuple[int, int]) -> NDArray[np.int64] | ImageError | None:
    try:
        return dataset.labels(index, size)
    except ImageError as error:
        return error
