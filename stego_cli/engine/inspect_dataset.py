"""Looking through a dataset before anything long starts: pairs, sizes, labels, damage, and what to do next."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stego_cli.data.datasets.build import available_splits, open_dataset
from stego_cli.data.findings import Finding, Survey, find, find_shared, merged
from stego_cli.data.histogram import histogram
from stego_cli.data.pairing import pair_up
from stego_cli.data.survey import Depth, Look, Tally, coarse_to_fine, look, spread
from stego_cli.engine.threads import executor, read_ahead
from stego_cli.errors import StegoError
from stego_cli.files import as_typed, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stego_cli.config.inspect import InspectConfig
    from stego_cli.data.dataset import Dataset
    from stego_cli.data.survey import Kind
    from stego_cli.progress import Report

MOST_HEADERS = 4000
MOST_MAPS = 64
MOST_SECONDS = 15.0
"""Bounds of a quick look, for each split: headers of images, label maps that are counted, time for all of it."""

_BATCH = 32

Task = tuple[int, Depth]


@dataclass(frozen=True)
class Inspection:
    """What is known about a dataset.

    Attributes:
        config: What was asked for.
        surveys: One for each split that could be opened.
        findings: What there is to say, problems first.
        next_steps: What to do now, in order.
    """

    config: InspectConfig
    surveys: tuple[Survey, ...]
    findings: tuple[Finding, ...]
    next_steps: tuple[str, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Return what should be mended first."""
        return tuple(finding for finding in self.findings if finding.severity == "problem")

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values; lists are complete."""
        first = self.surveys[0].dataset
        return {
            "dataset": printable(first.name),
            "root": printable(first.root),
            "label_space": first.label_space.name if first.label_space else None,
            "full": self.config.full,
            "splits": {survey.dataset.split: _split_json(survey) for survey in self.surveys},
            "findings": [finding.to_json() for finding in self.findings],
            "next": list(self.next_steps),
        }


def inspect_dataset(config: InspectConfig, report: Report, clock: Callable[[], float] = time.monotonic) -> Inspection:
    """Look through the splits of a dataset.

    Args:
        config: Which dataset, which splits, how closely.
        report: Told how far it is.
        clock: Returns seconds; replaced in tests.

    Raises:
        StegoError: If there is no such dataset, or no split of it can be opened.
    """
    datasets, unusable = _opened(config)
    surveys = tuple(_survey(dataset, config, report, clock) for dataset in datasets)
    found = [*unusable, *find_shared(surveys)]
    found += [finding for survey in surveys for finding in find(survey, config.resolution)]
    findings = tuple(merged(found))
    return Inspection(config, surveys, findings, next_steps(config, surveys, findings))


def _opened(config: InspectConfig) -> tuple[list[Dataset], list[Finding]]:
    """Open the splits; one that was not asked for by name and has nothing in it is a finding beside the others.

    Raises:
        StegoError: If a split that was asked for, or all of them, cannot be opened.
    """
    datasets, unusable = [], []
    errors = []
    for split in config.split or _separate(available_splits(config)):
        try:
            datasets.append(open_dataset(config, split))
        except StegoError as error:
            message, _, hint = str(error).partition("\n\nhint: ")
            unusable.append(Finding("problem", "unusable-split", split, message, (), hint))
            errors.append(error)
    if errors and (config.split or not datasets):
        raise errors[0]
    return datasets, unusable


def _separate(splits: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out splits such as `train+val` that are others put together."""
    return tuple(split for split in splits if "+" not in split or not set(split.split("+")) <= set(splits))


def _survey(dataset: Dataset, config: InspectConfig, report: Report, clock: Callable[[], float]) -> Survey:
    """Look through one split."""
    tally = Tally()
    until = None if config.full else clock() + MOST_SECONDS
    doing = f"{'decoding' if config.full else 'looking at'} {dataset.split}"

    def see(task: Task) -> Look:
        return look(dataset, *task)

    tasks = full_tasks(dataset) if config.full else quick_tasks(dataset)
    # Headers are read four times as fast by one thread as by four, which wait for each other more than for the disk.
    with executor(config.workers if config.full else 0) as pool:
        looks = (seen for _, batch in read_ahead(_batches(tasks, until, clock), see, pool) for seen in batch)
        for seen in report.track(looks, doing, total=len(tasks)):
            tally.add(seen)
        if not config.full:  # what reading does to images of a kind shows in one of them
            examples = [(kind.example, Depth(pixels=True)) for kind in tally.kinds.values()]
            for task in examples:
                tally.add_pixels(see(task))
    return Survey(dataset, pair_up(dataset), tally, histogram(dataset, tally.values, config.classes))


def full_tasks(dataset: Dataset) -> list[Task]:
    """Return a close look at everything."""
    return [(index, Depth(pixels=True, values=True, digest=True)) for index in range(len(dataset))]


def quick_tasks(dataset: Dataset) -> list[Task]:
    """Return a look at headers, and at the values of some label maps, in an order in which one may stop anywhere."""
    labelled = [index for index, sample in enumerate(dataset.samples) if sample.label]
    counted = [labelled[place] for place in spread(len(labelled), MOST_MAPS)]
    rest = sorted(set(spread(len(dataset), MOST_HEADERS)) - set(counted))
    return [
        *((index, Depth(values=True)) for index in coarse_to_fine(counted)),
        *((index, Depth()) for index in coarse_to_fine(rest)),
    ]


def _batches(tasks: list[Task], until: float | None, clock: Callable[[], float]) -> Iterator[list[Task]]:
    """Yield the tasks in groups, until the time is up; the first group always."""
    for start in range(0, len(tasks), _BATCH):
        if start and until is not None and clock() > until:
            return
        yield tasks[start : start + _BATCH]


def next_steps(config: InspectConfig, surveys: tuple[Survey, ...], findings: tuple[Finding, ...]) -> tuple[str, ...]:
    """Say what to do now: mend, look closer, or go on to crops, neighbours and models."""
    name = as_typed(config.dataset)
    if config.data_dir:
        name += f" --data-dir {as_typed(config.data_dir)}"
    problems = sum(finding.severity == "problem" for finding in findings)
    if problems:
        what = "the problem" if problems == 1 else f"the {problems} problems"
        return (f"mend {what} above, then look again: `stego info dataset {name} --full`",)
    steps = []
    if not config.full:
        steps.append(f"`stego info dataset {name} --full` decodes every file, which a quick look does not")
    first = surveys[0]
    plain_folder = first.dataset.label_space is None and config.classes is None
    if plain_folder and first.dataset.is_labelled:
        count = len(first.histogram.classes)
        steps.append(f"say how many classes count: `--classes {count}` for the ids 0 to {count - 1}, if that is all")
    crop = config.crop is None and min(first.tally.size_at(0.5)) >= config.resolution
    if crop:
        steps.append(f"`stego crop {name} --five` cuts five crops out of each image, in which small things show better")
    suffix = " --crop five" if crop else f" --crop {config.crop}" if config.crop else ""
    steps.append(f"`stego knn build {name}{suffix}` finds the neighbours that training needs")
    if not first.dataset.is_labelled:
        steps.append(f"`stego fit {name} --classes N` makes a model of the images as they are, without training")
    return tuple(steps)


def _split_json(survey: Survey) -> dict[str, Any]:
    """Return what was counted in one split."""
    tally, meaning = survey.tally, survey.histogram
    places = {"min": 0.0, "median": 0.5, "max": 1.0}
    return {
        "images": len(survey.dataset),
        "labelled": sum(sample.label is not None for sample in survey.dataset.samples),
        "looked_at": {"headers": tally.headers, "decoded": tally.decoded, "label_maps": tally.maps},
        "sizes": {
            "kinds": len(tally.sizes),
            **{name: list(tally.size_at(share)) if tally.sizes else None for name, share in places.items()},
        },
        "formats": [_kind_json(name, kind) for name, kind in tally.kinds.items()],
        "classes": [
            {"id": index, "name": name, "pixels": meaning.classes[index], "share": meaning.share(index)}
            for index, name in enumerate(meaning.names)
        ],
        "pixels": meaning.pixels,
        "ignored_share": meaning.ignored_share,
        "ignored_values": {str(value): count.pixels for value, count in meaning.ignored.items()},
        "stray_values": {str(value): count.pixels for value, count in meaning.stray.items()},
    }


def _kind_json(name: str, kind: Kind) -> dict[str, Any]:
    return {"kind": name, "images": kind.images, "notes": list(kind.notes)}
