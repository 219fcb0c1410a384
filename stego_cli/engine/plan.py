"""What a prediction run has to do: which images are done, which cannot be read, which go together in a batch."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stego_cli.data.images import image_size
from stego_cli.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from stego_cli.data.inputs import InputImage
    from stego_cli.data.views import View

# Whole photographs of a batch are in memory at once; this many pixels take 200 MB per batch that is under way.
BATCH_PIXELS = 64_000_000


@dataclass(frozen=True)
class Job:
    """One image to segment: where it is, what its outputs are called, how it is brought to working size."""

    image: InputImage
    name: str
    view: View
    source: dict[str, int]

    @property
    def key(self) -> str:
        """The input's absolute path, as the ledger knows it."""
        return input_key(self.image.path)


@dataclass(frozen=True)
class Plan:
    """The work of a run, in the order in which it is done."""

    jobs: tuple[Job, ...]
    done: tuple[str, ...]
    failed: tuple[tuple[InputImage, str, str], ...]

    def batches(self, batch_size: int) -> Iterator[list[Job]]:
        """Yield the jobs in batches of equal working size, of at most `batch_size` images and `BATCH_PIXELS` pixels."""
        by_size: dict[tuple[int, int], list[Job]] = defaultdict(list)
        for job in self.jobs:
            by_size[job.view.size].append(job)
        for jobs in by_size.values():
            yield from _split(jobs, batch_size)


def input_key(path: Path) -> str:
    """Return the name under which the ledger keeps an input."""
    return str(path.absolute())


def source_of(path: Path) -> dict[str, int]:
    """Return what tells that a file has changed: its size and its time of change.

    Raises:
        ImageError: If the system does not tell.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror}") from error
    return {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def make_plan(
    images: Iterable[InputImage],
    names: Mapping[Path, str],
    view: Callable[[int, int], View],
    is_done: Callable[[str, dict[str, int]], bool],
) -> Plan:
    """Sort the inputs into done, to do, and unreadable.

    Args:
        images: The inputs.
        names: Output name of each, by path.
        view: How an image of a height and width is brought to working size.
        is_done: Whether an input (key, source) has sound outputs from an earlier run.
    """
    jobs: list[Job] = []
    done: list[str] = []
    failed: list[tuple[InputImage, str, str]] = []
    for image in images:
        try:
            source = source_of(image.path)
            if is_done(input_key(image.path), source):
                done.append(input_key(image.path))
                continue
            jobs.append(Job(image, names[image.path], view(*image_size(image.path)), source))
        except ImageError as error:
            failed.append((image, names[image.path], str(error)))
    return Plan(tuple(jobs), tuple(done), tuple(failed))


def _split(jobs: Sequence[Job], batch_size: int) -> Iterator[list[Job]]:
    """Cut a run of jobs where a batch is full by count or by pixels."""
    batch: list[Job] = []
    pixels = 0
    for job in jobs:
        size = job.view.input_height * job.view.input_width
        if batch and (len(batch) == batch_size or pixels + size > BATCH_PIXELS):
            yield batch
            batch, pixels = [], 0
        batch.append(job)
        pixels += size
    if batch:
        yield batch
