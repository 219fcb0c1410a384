"""Segment images into a folder of masks, overlays and a gallery."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from stego_cli.backbones.base import check_image_size
from stego_cli.backbones.windows import whole_patches
from stego_cli.catalog.models import choose_model
from stego_cli.checkpoints.describe import load_any
from stego_cli.data.inputs import collect_inputs
from stego_cli.data.output_names import assign_names
from stego_cli.engine.compiled import compile_backbone
from stego_cli.engine.content import model_facts, run_content, settings_facts, spaces_facts
from stego_cli.engine.device import autocast_dtype, choose_device
from stego_cli.engine.ledger import Ledger
from stego_cli.engine.outputs import are_sound
from stego_cli.engine.plan import Plan, input_key, make_plan
from stego_cli.engine.segmenting import Run, failure, outputs_of, segment_images
from stego_cli.engine.workplace import refuse_to_replace, result_folders, workplace
from stego_cli.errors import StegoError
from stego_cli.files import printable
from stego_cli.report.gallery import GALLERY_NAME, write_gallery
from stego_cli.segmenter import Segmenter, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from stego_cli.catalog.models import ModelChoice
    from stego_cli.config.model import Probe
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
    found = collect_inputs(paths, exclude=[config.out, *result_folders(config.out)])
    with nullcontext() if dry_run else workplace(config.out):
        run = start_run(config, choose_model(config.model), report)
        return _work(run, found, started, dry_run=dry_run)


def _work(run: Run, found: Collected, started: float, *, dry_run: bool) -> PredictResult:
    """Do what is to do, and keep the record of it."""
    config, report = run.config, run.report
    ledger = Ledger(config.out, _fingerprint(run), overwrite=config.overwrite, report=report)
    plan = _plan(run, ledger, found)
    if not config.overwrite:
        refuse_to_replace(config.out, _files(run, plan))
    asked = [input_key(path) for path in found.paths]
    if dry_run:
        content = _content(run, ledger, asked, plan, started)
        return PredictResult(config.out, content, planned=[printable(job.image.path) for job in plan.jobs])
    ledger.forget(job.key for job in plan.jobs)
    with ledger:
        for entry in found.skipped:
            ledger.add(input_key(entry.path), failure(entry.path, "", entry.reason))
        for image, name, error in plan.failed:
            ledger.add(input_key(image.path), failure(image.path, name, error))
        try:
            for key, record in report.track(segment_images(run, plan), "Segmenting images", total=len(plan.jobs)):
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
        autocast=autocast_dtype(config.precision, device, exact=config.protocol == "paper", also_cpu=True),
        tile=whole_patches(config.tile, model.backbone.patch_size) if config.tile else None,
    )
    if settings.protocol == "paper":  # crops to whole patches or not at all; the native protocol rounds
        check_image_size(model.resolution(settings), model.resolution(settings), model.backbone.patch_size)
    if config.compile == "on":
        compile_backbone(model, report)
    spaces = {probe: model.label_space(probe) for probe in probes}
    header = {
        "model": model_facts(choice, model.config),
        "settings": settings_facts(config, settings, model.resolution(settings)),
        "label_spaces": spaces_facts(spaces),
    }
    return Run(config, model, settings, spaces, header, report)


def _fingerprint(run: Run) -> dict[str, Any]:
    """Return what masks depend on; results of another fingerprint are never mixed in."""
    return {"model": run.header["model"]["fingerprint"], **run.header["settings"]}


def _files(run: Run, plan: Plan) -> Iterator[str]:
    """Yield every file that a plan will write, relative to the output folder."""
    if "html" in run.config.save:
        yield GALLERY_NAME
    for job in plan.jobs:
        for files in outputs_of(run, job.name).values():
            yield from files.values()


def _plan(run: Run, ledger: Ledger, found: Collected) -> Plan:
    """Sort the inputs into done, to do, and unreadable."""
    names = assign_names(found.images, taken=ledger.names())

    def is_done(key: str, source: dict[str, int]) -> bool:
        record = ledger.records.get(key)
        return (
            record is not None
            and record["source"] == source
            and are_sound(run.config.out, outputs_of(run, record["name"]), record["height"], record["width"])
        )

    # A header takes a fraction of a millisecond, a mask to check a few, so a large folder shows its progress here.
    return make_plan(
        run.report.track(found.images, "Looking at images", total=len(found.images)),
        names,
        partial(run.model.view, settings=run.settings),
        is_done,
    )


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
