"""The images of one run: read, segmented in batches, written."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from stego_cli.data.images import read_image
from stego_cli.data.views import apply
from stego_cli.engine.outputs import Outputs, output_paths, write_outputs
from stego_cli.engine.pipeline import Pipeline, Seen, Segmented
from stego_cli.engine.plan import Job, Plan, input_key
from stego_cli.engine.threads import executor, read_ahead
from stego_cli.engine.workplace import is_name_too_long
from stego_cli.errors import ImageError, OutputError
from stego_cli.segmenter import Array, Segmenter, Settings, shares

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from stego_cli.config.model import LabelSpace, Probe
    from stego_cli.config.predict import PredictConfig
    from stego_cli.engine.ledger import Record
    from stego_cli.progress import Report


@dataclass(frozen=True)
class Decoded:
    """One image in memory: whole, and at working size."""

    pixels: Array
    working: Array
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """The parts of a run that do not change while it goes on."""

    config: PredictConfig
    model: Segmenter
    settings: Settings
    spaces: Mapping[Probe, LabelSpace]
    header: Mapping[str, Any]
    report: Report


def outputs_of(run: Run, name: str) -> Outputs:
    """Return where the files of one image lie, by probe and kind."""
    return output_paths(name, run.settings.probes, run.config.save)


def segment_images(run: Run, plan: Plan) -> Iterator[tuple[str, Record]]:
    """Segment what is to do and write it; yield each image's record when its files are on disk."""
    unread: deque[tuple[str, Record]] = deque()
    pipeline: Pipeline[tuple[Job, Decoded], tuple[str, Record]] = Pipeline(
        run.model, run.settings, partial(_write_or_give_up, run), run.report
    )
    with executor(run.config.workers) as pool:
        read = read_ahead(plan.batches(run.config.batch_size), partial(_decode, run.config.bands), pool)
        for record in pipeline.run(_readable(read, unread)):
            while unread:
                yield unread.popleft()
            yield record
    yield from unread


def _readable(
    batches: Iterable[tuple[Sequence[Job], Sequence[Decoded | ImageError]]], unread: deque[tuple[str, Record]]
) -> Iterator[list[Seen[tuple[Job, Decoded]]]]:
    """Yield batches of what could be read; the records of the rest go to `unread`."""
    for jobs, decoded in batches:
        batch = []
        for job, image in zip(jobs, decoded, strict=True):
            if isinstance(image, ImageError):
                unread.append(_give_up(job, image))
            else:
                batch.append(Seen((job, image), image.working, job.view))
        yield batch


def _decode(bands: tuple[int, int, int] | None, job: Job) -> Decoded | ImageError:
    """Read one image and bring it to working size; an error is returned, for the rest of the batch goes on."""
    try:
        image = read_image(job.image.path, bands)
        size = image.pixels.shape[:2]
        if size != (job.view.input_height, job.view.input_width):
            raise ImageError("has another size than its header says; the file changed, or is damaged")
        return Decoded(image.pixels, apply(job.view, image.pixels), image.notes)
    except ImageError as error:
        return error
    except MemoryError:
        return _too_little_memory(job)


def _too_little_memory(job: Job) -> ImageError:
    height, width = job.view.size
    return ImageError(f"there is not enough memory to work on it at {height}x{width}\n\nhint: try a smaller --res")


def _write_or_give_up(run: Run, image: Seen[tuple[Job, Decoded]], found: Segmented | ImageError) -> tuple[str, Record]:
    """Write one image's files; what is wrong with this image alone does not end the run."""
    job, decoded = image.item
    if isinstance(found, ImageError):
        return _give_up(job, found)
    try:
        return _write(run, job, decoded, found)
    except MemoryError:
        return _give_up(job, _too_little_memory(job))
    except OutputError as error:
        if not is_name_too_long(error):
            raise
        return _give_up(job, ImageError(str(error).partition("\n\n")[0]))


def _write(run: Run, job: Job, image: Decoded, found: Segmented) -> tuple[str, Record]:
    """Write one image's files and return its record."""
    started = time.perf_counter()
    outputs = outputs_of(run, job.name)
    write_outputs(run.config.out, outputs, image.pixels, found.answers, run.spaces)
    in_windows = found.tile is not None and found.tile != run.settings.tile
    notes = (
        (*image.notes, f"memory was short, so seen in windows of {found.tile} pixels") if in_windows else image.notes
    )
    return job.key, {
        "input": job.key,
        "name": job.name,
        "status": "done",
        "height": job.view.input_height,
        "width": job.view.input_width,
        "working_size": list(job.view.size),
        "notes": list(notes),
        "outputs": outputs,
        "shares": {
            probe: {name: round(share, 6) for name, share in shares(answer.counts, run.spaces[probe]).items()}
            for probe, answer in found.answers.items()
        },
        "seconds": round(found.seconds + time.perf_counter() - started, 4),
        "source": job.source,
    }


def _give_up(job: Job, error: ImageError) -> tuple[str, Record]:
    return job.key, failure(job.image.path, job.name, str(error))


def failure(path: Path, name: str, error: str) -> Record:
    """Return the record of an input that could not be segmented."""
    return {"input": input_key(path), "name": name, "status": "failed", "notes": [], "error": error}
