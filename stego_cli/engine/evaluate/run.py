"""`stego eval` from end to end: models and labelled images become scores, and a report if one is asked for."""

from __future__ import annotations

import math
import platform
import time
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stego_cli import __version__
from stego_cli.backbones.base import check_image_size
from stego_cli.checkpoints.describe import load_any
from stego_cli.engine.device import autocast_dtype, choose_device
from stego_cli.engine.evaluate.counts import MANY_TO_ONE, count_all, score_all
from stego_cli.engine.evaluate.examples import write_examples
from stego_cli.engine.evaluate.names import save_names
from stego_cli.engine.evaluate.plan import Job, make_jobs, target_of
from stego_cli.engine.evaluate.store import (
    PAGE_NAME,
    Entry,
    finished,
    public,
    refuse_foreign,
    report_folder,
    save_entries,
)
from stego_cli.engine.measure import Pass
from stego_cli.engine.ranks import Ranks, open_ranks
from stego_cli.files import check_writable, printable, write_text
from stego_cli.progress import Silence
from stego_cli.report.eval_report import eval_page
from stego_cli.segmenter import Segmenter, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stego_cli.config.evaluate import EvalConfig
    from stego_cli.engine.evaluate.counts import Tally
    from stego_cli.metrics.scores import Scores
    from stego_cli.progress import Report

HEADS = ("cluster", "linear", "cluster_crf", "linear_crf")
_PACKAGES = ("torch", "timm", "numpy", "scipy")


@dataclass(frozen=True)
class EvalResult:
    """What `stego eval` found.

    Attributes:
        entries: One for each model and split, in the order asked for; see `eval_store.Entry`.
        is_first: Whether this process speaks for all that share the work.
        page: The report, if one was written.
        named: The model file that the names of clusters were written into, if any.
        planned: Under a dry run, a line for each thing that would be done; there are no entries then.
    """

    entries: tuple[Entry, ...]
    is_first: bool = True
    page: Path | None = None
    named: Path | None = None
    planned: tuple[str, ...] | None = None

    @property
    def skipped(self) -> list[str]:
        """A line for each image that could not be measured."""
        return [line for entry in self.entries for line in entry["skipped"]]

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints; scores are fractions."""
        if self.planned is not None:
            return {"planned": list(self.planned)}
        return {
            "results": [public(entry) for entry in self.entries],
            "report": printable(self.page) if self.page else None,
            "named": printable(self.named) if self.named else None,
        }


def evaluate_models(config: EvalConfig, report: Report, *, dry_run: bool = False) -> EvalResult:
    """Measure models on labelled images; images that cannot be read are named in the result and skipped.

    Started by torchrun, the processes share the images, and the first one gives the result.

    Args:
        config: Which models, which images, and how.
        report: Told about choices and progress.
        dry_run: Find out what would be done, write nothing.

    Raises:
        StegoError: If models, images and settings do not go together. What a report has is kept, and the same command
            continues.
    """
    with open_ranks() as ranks:
        listener: Report = report if ranks.is_first else Silence()
        jobs = make_jobs(config, listener)
        target = target_of(config, jobs[0])
        if config.report and not config.overwrite:
            refuse_foreign(config.report)
        # As the first process sees it: it may be writing already when the others look.
        found = ranks.gather(finished(config.report) if config.report else {})[0]
        if dry_run:
            return EvalResult((), ranks.is_first, planned=_planned(config, jobs, found))
        if target is not None:
            check_writable(target.parent)
        places = [job.folder for job in jobs]
        with report_folder(config.report, places) if config.report and ranks.is_first else nullcontext():
            entries = _measure_all(config, jobs, found, listener, ranks)
            page = _write_page(config.report, entries) if config.report and ranks.is_first else None
        if target is not None and ranks.is_first:
            _save_names(config, jobs[0], entries[0], target, listener)
    return EvalResult(tuple(entries), ranks.is_first, page, target)


def _planned(config: EvalConfig, jobs: list[Job], found: Mapping[str, Entry]) -> tuple[str, ...]:
    """Say what would be done."""
    lines = []
    for job in jobs:
        labelled = sum(sample.label is not None for sample in job.dataset.samples)
        what = "finished: " if job.fingerprint in found and not config.overwrite else "would measure "
        lines.append(
            f"{what}{job.choice.name} on {labelled} images of {printable(job.dataset.name)}, {job.dataset.split}: "
            f"{' and '.join(job.probes)} probe, {job.model.num_clusters} clusters, {len(job.classes.space)} classes, "
            f"protocol {config.protocol}{', with and without CRF' if config.crf else ''}"
        )
        lines += [f"note: {note}" for note in job.notes]
    return tuple(lines)


def _measure_all(
    config: EvalConfig, jobs: list[Job], found: Mapping[str, Entry], report: Report, ranks: Ranks
) -> list[Entry]:
    """Measure what is not finished; each result is on disk before the next is begun."""
    entries: list[Entry] = []
    for job in jobs:
        for note in job.notes:
            report.note(f"{job.choice.name}: {note}")
        if job.fingerprint in found and not config.overwrite:
            report.note(f"{job.choice.name} on {job.dataset.split}: kept from an earlier run (--overwrite repeats it)")
            entries.append(found[job.fingerprint])
            continue
        entries.append(_measure(config, job, report, ranks))
        if config.report and ranks.is_first:
            save_entries(config.report, entries, found)
    if config.report and ranks.is_first:
        save_entries(config.report, entries, found)
    return entries


def _measure(config: EvalConfig, job: Job, report: Report, ranks: Ranks) -> Entry:
    """Measure one model on one split."""
    started = time.perf_counter()
    work = _pass(config, job, ranks)
    tally = count_all(work, job.dataset, report, ranks)
    scores, assignments = score_all(tally, job.extra, overcluster=config.overcluster)
    entry = _entry(config, job, tally, scores)
    entry["cluster_to_class"] = {head: classes.tolist() for head, classes in assignments.items()}
    if config.report and ranks.is_first:
        place = config.report / job.folder
        entry["examples"] = write_examples(place, work, job, tally, assignments, config.examples, report)
    entry["seconds"] = round(time.perf_counter() - started, 3)
    return entry


def _pass(config: EvalConfig, job: Job, ranks: Ranks) -> Pass:
    """Load the model and settle how it is run.

    Raises:
        StegoError: If the model, the device and the settings do not go together.
    """
    device = choose_device(ranks.device(config.device))
    model = Segmenter.from_checkpoint(load_any(job.choice.path), device)
    settings = Settings(
        probes=job.probes,
        protocol=config.protocol,
        mirror=config.mirror,
        resolution=config.resolution,
        autocast=autocast_dtype(config.precision, device, exact=config.protocol == "paper", also_cpu=True),
    )
    if settings.protocol == "paper":  # crops to whole patches or not at all; the native protocol rounds
        check_image_size(model.resolution(settings), model.resolution(settings), model.backbone.patch_size)
    crf = config.crf_parameters if config.crf else None
    return Pass(model, settings, len(job.classes.space), config.batch_size, config.workers, crf)


def _entry(config: EvalConfig, job: Job, tally: Tally, scores: Mapping[str, Scores]) -> Entry:
    """Return the result as plain values; scores are fractions."""
    names = job.classes.space.names
    heads = {head: scores[head].as_json(names) if head in scores else None for head in HEADS}
    return {
        "checkpoint": printable(job.choice.name),
        "dataset": printable(job.dataset.name),
        "split": job.dataset.split,
        "protocol": config.protocol,
        "images": len(tally.images),
        **heads,
        **{head: each.as_json(names) for head, each in scores.items() if head not in HEADS},
        "clusters": job.model.num_clusters,
        "classes": len(names),
        "extra": job.extra,
        "seconds": 0.0,
        "skipped": tally.skipped,
        "notes": list(job.notes),
        "config": _plain(config.model_dump()),
        "versions": {"stego": __version__, "python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
        "weights": {
            "fingerprint": job.facts["fingerprint"],
            "backbone_sha256": job.model.about.backbone_sha256,
            "seed": job.model.about.seed,
        },
        "fingerprint": job.fingerprint,
        "folder": job.folder,
        "examples": [],
        "model": job.facts,
        "label_space": job.classes.space.model_dump(mode="json"),
        "confusion": {head: counts.tolist() for head, counts in tally.counts.items()},
    }


def _plain(value: Any) -> Any:
    """Return settings as JSON knows them; paths may hold bytes that are no text."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return printable(value) if isinstance(value, str | Path) else value


def _write_page(folder: Path, entries: list[Entry]) -> Path:
    """Write the page that shows all results."""
    write_text(folder / PAGE_NAME, eval_page(folder, entries))
    return folder / PAGE_NAME


def _save_names(config: EvalConfig, job: Job, entry: Entry, target: Path, report: Report) -> None:
    """Write the classes that were found for the clusters into a model file."""
    found = entry["cluster_to_class"]["cluster" + (MANY_TO_ONE if config.names == "majority" else "")]
    where = f"{entry['dataset']}/{entry['split']} {entry['protocol']}"
    scores = {
        f"{where} {head.replace('_', ' ')} {measure}": round(entry[head][measure], 6)
        for head in HEADS
        if entry[head]
        for measure in ("miou", "accuracy")
        if entry[head][measure] is not None and math.isfinite(entry[head][measure])
    }
    save_names(job.choice.path, target, job.classes.space, found, scores, report)
