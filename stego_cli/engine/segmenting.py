"""The images of one run: read, segmented in batches, written."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from stego_cli.data.images import read_image
from stego_cli.data.views import apply
from stego_cli.engine.halving import HalvingSegmenter
from stego_cli.engine.outputs import Outputs, output_paths, write_outputs
from stego_cli.engine.plan import Job, Plan, input_key
from stego_cli.engine.threads import executor, read_ahead, write_behind
from stego_cli.engine.workplace import is_name_too_long
from stego_cli.errors import ImageError, OutputError
from stego_cli.segmenter import Array, Labelled, Segmenter, Settings, shares

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
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
    segment = HalvingSegmenter(run.model, run.settings, run.report)
    with executor(run.config.workers) as pool:
        batches = read_ahead(plan.batches(run.config.batch_size), partial(_decode, run.config.bands), pool)
        groups = (_tasks(run, segment, jobs, decoded) for jobs, decoded in batches)
        yield from write_behind(groups, pool)


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


def _tasks(
    run: Run, segment: HalvingSegmenter, jobs: Sequence[Job], decoded: Sequence[Decoded | ImageError]
) -> list[Callable[[], tuple[str, Record]]]:
    """Segment one batch and return what remains to do for each of its images: writing, which threads can do."""
    started = time.perf_counter()
    good = [(job, image) for job, image in zip(jobs, decoded, strict=True) if isinstance(image, Decoded)]
    answers = segment([image.working for _, image in good], [job.view for job, _ in good])
    seconds = (time.perf_counter() - started) / max(len(good), 1)
    bad = [(job, image) for job, image in zip(jobs, decoded, strict=True) if isinstance(image, ImageError)]
    bad += [(job, answer) for (job, _), answer in zip(good, answers, strict=True) if isinstance(answer, ImageError)]
    return [
        *(partial(_give_up, job, error) for job, error in bad),
        *(
            partial(_write_or_give_up, run, job, image, answer, seconds)
            for (job, image), answer in zip(good, answers, strict=True)
            if not isinstance(answer, ImageError)
        ),
    ]


def _write_or_give_up(
    run: Run, job: Job, image: Decoded, answers: Mapping[Probe, Labelled], seconds: float
) -> tuple[str, Record]:
    """Write one image's files; what is wrong with this image alone does not end the run."""
    try:
        return _write(run, job, image, answers, seconds)
    except MemoryError:
        return _give_up(job, _too_little_memory(job))
    except OutputError as error:
        if not is_name_too_long(error):
            raise
        return _give_up(job, ImageError(str(error).partition("\n\n")[0]))


def _write(run: Run, job: Job, image: Decoded, answers: Mapping[Probe, Labelled], seconds: float) -> tuple[str, Record]:
    """Write one image's files and return its record."""
    started = time.perf_counter()
    outputs = outputs_of(run, job.name)
    write_outputs(run.config.out, outputs, image.pixels, answers, run.spaces)
    return job.key, {
        "input": job.key,
        "name": job.name,
        "status": "done",
        "height": job.view.input_height,
        "width": job.view.input_width,
        "working_size": list(job.view.size),
        "notes": list(image.notes),
        "outputs": outputs,
        "shares": {
            probe: {name: round(share, 6) for name, share in shares(answer.counts, run.spaces[probe]).items()}
            for probe, answer in answers.items()
        },
        "seconds": round(seconds + time.perf_counter() - started, 4),
        "source": job.source,
    }


def _give_up(job: Job, error: ImageError) -> tuple[str, Record]:
    return job.key, failure(job.image.path, job.name, str(error))


def failure(path: Path, name: str, error: str) -> Record:
    """Return the record of an input that could not be segmented."""
    return {"input": input_key(path), "name": name, "status": "failed", "notes": [], "error": error}
