"""`stego crop` from end to end: five crops of every image, in parallel, continued where an earlier run stopped."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from stego_cli.data.crops import CROPS_PER_IMAGE
from stego_cli.data.datasets.cropped import MANIFEST
from stego_cli.engine.crop.files import IMAGES, LABELS, folder_of
from stego_cli.engine.crop.plan import open_job, plan_crops
from stego_cli.engine.crop.record import CroppedImage, CropRecord, Journal, SkippedImage, SplitRecord
from stego_cli.engine.crop.workers import Cutter, cut_all, wait_for_workers
from stego_cli.engine.workplace import workplace
from stego_cli.errors import OutputError
from stego_cli.files import output_error, printable

if TYPE_CHECKING:
    from pathlib import Path

    from stego_cli.config.crops import CropsConfig
    from stego_cli.engine.crop.plan import CropJob, CropPlan, SplitPlan
    from stego_cli.progress import Report

_FULL = 0.98  # share of the free space that the estimate may take


@dataclass(frozen=True)
class CropCount:
    """Numbers of one split: its images, and its crops made now, kept from earlier runs, and still missing."""

    images: int
    made: int
    kept: int
    missing: int


@dataclass(frozen=True)
class CropResult:
    """What `stego crop` made, or would make.

    Attributes:
        out: The folder of the crops.
        settings: What decides about their content, by name.
        splits: Numbers by split.
        skipped: Images that could not be used, by split; their numbers stay free.
        bytes_needed: Estimated space for what is missing, before anything was made.
        bytes_free: Space that there was; None if it was not asked for, as nothing was missing.
        seconds: Wall time; None for a dry run.
    """

    out: Path
    settings: dict[str, Any]
    splits: dict[str, CropCount]
    skipped: dict[str, tuple[SkippedImage, ...]]
    bytes_needed: int = 0
    bytes_free: int | None = None
    seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "out": printable(self.out),
            **self.settings,
            "splits": {split: vars(count) for split, count in self.splits.items()},
            "skipped": [
                {"split": split, "index": one.index, "name": printable(one.name), "reason": printable(one.reason)}
                for split, images in self.skipped.items()
                for one in images
            ],
            "bytes_needed": self.bytes_needed,
            "bytes_free": self.bytes_free,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
        }


def estimate_crops(config: CropsConfig) -> CropResult:
    """Say what `make_crops` would do, and how much space it takes. Writes nothing.

    Raises:
        StegoError: As `make_crops`, but for a lack of space.
    """
    job = open_job(config)
    plan = plan_crops(job)
    counts = {
        name: CropCount(len(one.dataset), 0, CROPS_PER_IMAGE * len(one.kept), CROPS_PER_IMAGE * len(one.missing))
        for name, one in plan.splits.items()
    }
    return CropResult(job.out, job.settings, counts, {}, plan.bytes_needed(), plan.bytes_free())


def make_crops(config: CropsConfig, report: Report) -> CropResult:
    """Cut what is missing; an image that cannot be used is named and left out.

    Args:
        config: What to cut, how, and where to.
        report: Told progress, and which images were left out.

    Raises:
        StegoError: If the dataset or a split is not there, or has too many classes for crops.
        OutputError: If the folder holds other crops, is in use, cannot be written to, or is too small; what is finished
            stays, and the same command continues.
    """
    started = time.perf_counter()
    job = open_job(config)
    for note in dict.fromkeys(note for dataset in job.datasets.values() for note in dataset.notes):
        report.note(note)
    needed, free = 0, None
    with workplace(job.out):
        wait_for_workers(job.out)
        plan = plan_crops(job)
        skipped: dict[str, tuple[SkippedImage, ...]] = dict.fromkeys(plan.splits, ())
        if not plan.is_done:
            needed, free = plan.bytes_needed(), plan.bytes_free()
            _refuse_too_little(job.out, needed, free)
            skipped = _run(plan, report)
    counts = {name: _count(split, len(skipped[name])) for name, split in plan.splits.items()}
    return CropResult(job.out, job.settings, counts, skipped, needed, free, time.perf_counter() - started)


def _run(plan: CropPlan, report: Report) -> dict[str, tuple[SkippedImage, ...]]:
    """Cut what is missing, and write the record."""
    job = plan.job
    known = {name: SplitRecord(len(split.dataset), dict(split.kept)) for name, split in plan.splits.items()}
    record = CropRecord(job.settings, {**plan.others, **known})
    with Journal(job.out, record) as journal:
        _prepare(plan)
        for name, split in plan.splits.items():
            record.splits[name].skipped = _cut(job, split, journal, report)
    dataset = next(iter(job.datasets.values()))
    record.write(job.out, {"slug": dataset.slug, "root": printable(dataset.root)})
    return {name: tuple(record.splits[name].skipped) for name in plan.splits}


def _prepare(plan: CropPlan) -> None:
    """Make the folders, and remove what belongs to no image of the record. The journal speaks for the folder now."""
    path = out = plan.job.out
    try:
        if plan.record is None:
            (out / MANIFEST).unlink(missing_ok=True)
        for name, split in plan.splits.items():
            for kind in (IMAGES, LABELS) if split.dataset.is_labelled else (IMAGES,):
                path = folder_of(out, kind, name)
                path.mkdir(parents=True, exist_ok=True)
            for path in split.stray:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise output_error(path, error) from error


def _cut(job: CropJob, split: SplitPlan, journal: Journal, report: Report) -> list[SkippedImage]:
    """Cut what is missing of one split and put it on record; return, by number, what was left out."""
    dataset, skipped = split.dataset, []
    cutter = Cutter(job.rule, job.config.quality, job.out, replace(dataset, samples=()), dataset.is_labelled)
    images = [(index, dataset.samples[index]) for index in split.missing]
    answers = cut_all(cutter, images, job.config.workers)
    with closing(answers):
        for answer in report.track(answers, f"Cropping {dataset.split}", len(images)):
            if isinstance(answer, CroppedImage):
                journal.add(dataset.split, answer)
            else:
                report.warn(f"{printable(answer.name)} was skipped: {printable(answer.reason)}")
                skipped.append(answer)
    return sorted(skipped, key=lambda image: image.index)


def _refuse_too_little(out: Path, needed: int, free: int) -> None:
    if needed > _FULL * free:
        raise OutputError(
            f"the crops take about {needed / 1e6:.0f} MB, but there are only {free / 1e6:.0f} MB free at "
            f"`{printable(out)}`\n\nhint: free some space, or choose another place with --out"
        )


def _count(split: SplitPlan, skipped: int) -> CropCount:
    made = len(split.missing) - skipped
    numbers = (CROPS_PER_IMAGE * count for count in (made, len(split.kept), skipped))
    return CropCount(len(split.dataset), *numbers)
