"""Segment images into a folder of masks, overlays and a gallery."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from stego_cli.catalog.models import choose_model
from stego_cli.checkpoints.describe import load_any
from stego_cli.data.images import read_image
from stego_cli.data.inputs import collect_inputs
from stego_cli.data.output_names import assign_names
from stego_cli.data.views import apply
from stego_cli.engine.content import model_facts, run_content, settings_facts, spaces_facts
from stego_cli.engine.device import autocast_dtype, choose_device
from stego_cli.engine.halving import HalvingSegmenter
from stego_cli.engine.ledger import Ledger, Record
from stego_cli.engine.outputs import Outputs, are_sound, output_paths, write_outputs
from stego_cli.engine.plan import Job, Plan, input_key, make_plan
from stego_cli.engine.threads import executor, read_ahead, write_behind
from stego_cli.errors import ImageError, StegoError
from stego_cli.files import output_error, printable
from stego_cli.report.gallery import write_gallery
from stego_cli.segmenter import Array, Labelled, Segmenter, Settings, shares

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from stego_cli.catalog.models import ModelChoice
    from stego_cli.config.model import LabelSpace, Probe
    from stego_cli.config.predict import PredictConfig
    from stego_cli.data.inputs import Collected
    from stego_cli.progress import Report


@dataclass(frozen=True)
class PredictResult:
    """What a run did.

    Attributes:
        out: The output folder.
        content: What `predictions.json` holds.
        gallery: The page with all pictures, if one was written.
        planned: Under a dry run, the images that would be segmented; nothing was written then.
    """

    out: Path
    content: dict[str, Any]
    gallery: Path | None = None
    planned: list[str] | None = None

    @property
    def failed(self) -> list[tuple[str, str]]:
        """Each input that was skipped, with the reason."""
        return [(record["input"], record["error"]) for record in self.content["images"] if record["status"] == "failed"]

    @property
    def done(self) -> int:
        """Images segmented in this run."""
        return int(self.content["summary"]["done"])

    @property
    def skipped(self) -> int:
        """Images of this run that an earlier run had finished."""
        return int(self.content["summary"]["skipped"])

    @property
    def seconds(self) -> float:
        """Wall time of the run."""
        return float(self.content["summary"]["seconds"])

    def to_json(self) -> dict[str, Any]:
        """Return the content of `predictions.json`."""
        return self.content


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


def predict_folder(
    config: PredictConfig, paths: Sequence[str | Path], report: Report, *, dry_run: bool = False
) -> PredictResult:
    """Segment files, folders and globs; images that cannot be read are named in the result and skipped.

    Args:
        config: How, and where to.
        paths: What to segment.
        report: Told about choices and progress.
        dry_run: Find out what would be done, write nothing.

    Returns:
        What was done. Masks have exactly the size of their image.

    Raises:
        StegoError: If the whole run cannot go on. Finished images are kept, and the same command continues.
    """
    started = time.perf_counter()
    found = collect_inputs(paths, exclude=[config.out])
    if not dry_run:
        _prepare(config.out)
    run = start_run(config, choose_model(config.model), report)
    ledger = Ledger(config.out, _fingerprint(run), overwrite=config.overwrite, report=report)
    plan = _plan(run, ledger, found)
    asked = [input_key(path) for path in found.paths]
    if dry_run:
        content = _content(run, ledger, asked, plan, started)
        return PredictResult(config.out, content, planned=[printable(job.image.path) for job in plan.jobs])
    ledger.forget(job.key for job in plan.jobs)
    with ledger:
        for entry in found.skipped:
            ledger.add(input_key(entry.path), _failure(entry.path, "", entry.reason))
        for image, name, error in plan.failed:
            ledger.add(input_key(image.path), _failure(image.path, name, error))
        try:
            for key, record in report.track(_segment(run, plan), "Segmenting images", total=len(plan.jobs)):
                ledger.add(key, record)
        finally:
            # After Ctrl-C or an error, too, the record says what is finished.
            content = _content(run, ledger, asked, plan, started)
            ledger.finish(content)
    return PredictResult(config.out, content, write_gallery(config.out, content) if "html" in config.save else None)


def start_run(config: PredictConfig, choice: ModelChoice, report: Report) -> Run:
    """Load the model and settle everything that a run needs to know.

    Raises:
        StegoError: If the model, the device and the settings do not go together.
    """
    report.note(f"model: {choice.name} ({choice.why})")
    device = choose_device(config.device)
    model = Segmenter.from_checkpoint(load_any(choice.path), device)
    probes: tuple[Probe, ...] = ("cluster", "linear") if config.probe == "both" else (config.probe,)
    if "linear" in probes and model.linear_probe is None:
        raise StegoError(f"`{choice.name}` has no linear probe\n\nhint: use --probe cluster")
    settings = Settings(
        probes=probes,
        protocol=config.protocol,
        mirror=config.mirror,
        resolution=config.resolution,
        crf=config.crf_parameters if config.crf else None,
        autocast=autocast_dtype(config.precision, device, exact=config.protocol == "paper"),
    )
    spaces = {probe: model.label_space(probe) for probe in probes}
    header = {
        "model": model_facts(choice, model.config),
        "settings": settings_facts(config, settings, model.resolution(settings)),
        "label_spaces": spaces_facts(spaces),
    }
    return Run(config, model, settings, spaces, header, report)


def _prepare(out: Path) -> None:
    """Make the output folder and see that it can be written to, before anything long starts."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".stego-can-write"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise output_error(out, error) from error


def _fingerprint(run: Run) -> dict[str, Any]:
    """Return what masks depend on; results of another fingerprint are never mixed in."""
    return {"model": run.header["model"]["fingerprint"], **run.header["settings"]}


def _outputs(run: Run, name: str) -> Outputs:
    return output_paths(name, run.settings.probes, run.config.save)


def _plan(run: Run, ledger: Ledger, found: Collected) -> Plan:
    """Sort the inputs into done, to do, and unreadable."""
    names = assign_names(found.images, taken=ledger.names())

    def is_done(key: str, source: dict[str, int]) -> bool:
        record = ledger.records.get(key)
        return (
            record is not None
            and record["source"] == source
            and are_sound(run.config.out, _outputs(run, record["name"]), record["height"], record["width"])
        )

    # A header takes a fraction of a millisecond, a mask to check a few, so a large folder shows its progress here.
    return make_plan(
        run.report.track(found.images, "Looking at images", total=len(found.images)),
        names,
        partial(run.model.view, settings=run.settings),
        is_done,
    )


def _segment(run: Run, plan: Plan) -> Iterator[tuple[str, Record]]:
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
            partial(_write, run, job, image, answer, seconds)
            for (job, image), answer in zip(good, answers, strict=True)
            if not isinstance(answer, ImageError)
        ),
    ]


def _write(run: Run, job: Job, image: Decoded, answers: Mapping[Probe, Labelled], seconds: float) -> tuple[str, Record]:
    """Write one image's files and return its record."""
    started = time.perf_counter()
    outputs = _outputs(run, job.name)
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
    return job.key, _failure(job.image.path, job.name, str(error))


def _failure(path: Path, name: str, error: str) -> Record:
    """Return the record of an input that could not be segmented."""
    return {"input": input_key(path), "name": name, "status": "failed", "notes": [], "error": error}


def _content(run: Run, ledger: Ledger, asked: Sequence[str], plan: Plan, started: float) -> dict[str, Any]:
    """Return the whole record: what was asked for in its order, then what earlier runs left here."""
    earlier, wanted = set(plan.done), set(asked)
    records = [
        ledger.records[key] | ({"status": "skipped"} if key in earlier else {})
        for key in asked
        if key in ledger.records
    ]
    kept = [record | {"status": "kept"} for key, record in ledger.records.items() if key not in wanted]
    remaining = len(asked) - len(records)
    return run_content(run.header, [*records, *kept], time.perf_counter() - started, remaining)
