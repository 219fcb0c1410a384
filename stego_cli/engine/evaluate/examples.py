"""The images of a report: scores of every image, and pictures of the best, the worst and some between."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stego_cli.engine.evaluate.counts import by_head
from stego_cli.engine.measure import measured
from stego_cli.files import atomic_write, printable, write_text
from stego_cli.report.label_pictures import jpeg, label_picture, png, shrunk

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from stego_cli.engine.evaluate.counts import Tally
    from stego_cli.engine.evaluate.plan import Job
    from stego_cli.engine.measure import Measured, Pass
    from stego_cli.metrics.scores import Scores
    from stego_cli.progress import Report

    ByImage = dict[str, dict[str, Scores]]

CSV_NAME = "images.csv"
# What a user would look at first: clusters before the linear probe, the sharpened answer before the raw one.
_LEADING = ("cluster_crf", "cluster", "linear_crf", "linear")


def write_examples(
    place: Path,
    work: Pass,
    job: Job,
    tally: Tally,
    assignments: Mapping[str, Tensor],
    count: int,
    report: Report,
) -> list[dict[str, Any]]:
    """Write `images.csv` and the pictures of some images into a folder.

    The few images shown go through the model once more: keeping all label maps until the clusters are matched would
    take memory that grows with the dataset.

    Args:
        place: The folder.
        work: How images were measured.
        job: What was measured.
        tally: What was counted.
        assignments: Class of each cluster, by head.
        count: How many images to show.
        report: Told about progress.

    Returns:
        For each image shown: its name, whether it is among the `best`, `worst` or `between`, its scores by head, and
        its pictures, by what they show, relative to `place`.

    Raises:
        OutputError: If something cannot be written.
    """
    extra = job.extra
    scores: ByImage = {
        name: {head: counts.scores(assignments.get(head), _extra_of(head, extra)) for head, counts in heads.items()}
        for name, heads in tally.images.items()
    }
    write_text(place / CSV_NAME, _table(tally, scores))
    leading = next(head for head in _LEADING if head in tally.counts)
    chosen = pick({name: heads[leading].accuracy for name, heads in scores.items()}, count)
    samples = tuple(sample for sample in job.dataset.samples if sample.name in chosen)
    numbers = {name: number for number, name in enumerate(chosen)}
    shown = [
        {
            "name": printable(image.name),
            "why": chosen[image.name],
            "number": numbers[image.name],
            "accuracy": {head: _or_none(each.accuracy) for head, each in scores[image.name].items()},
            "pictures": _draw(place, numbers[image.name], image, job, assignments),
        }
        for image in measured(work, replace(job.dataset, samples=samples), report, "Drawing examples")
    ]
    return sorted(shown, key=lambda example: int(example["number"]))


def pick(accuracies: Mapping[str, float], count: int) -> dict[str, str]:
    """Choose images to show: a third the best, a third the worst, the rest evenly between.

    Args:
        accuracies: By image; images without a number are not shown.
        count: How many.

    Returns:
        By image, best first: `best`, `between` or `worst`.

    Example:
        >>> pick({"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.6, "e": 0.4}, 3)
        {'b': 'best', 'c': 'between', 'a': 'worst'}
    """
    numbered = [name for name in accuracies if not math.isnan(accuracies[name])]
    ranked = sorted(numbered, key=lambda name: -accuracies[name])
    best = worst = min(count, len(ranked)) // 3
    if len(ranked) <= count:
        best = worst = len(ranked) // 2
    middle = ranked[best : len(ranked) - worst]
    wanted = min(count - best - worst, len(middle))
    between = [middle[(2 * place + 1) * len(middle) // (2 * wanted)] for place in range(wanted)]
    last = ranked[len(ranked) - worst :]
    return {
        **dict.fromkeys(ranked[:best], "best"),
        **dict.fromkeys(between, "between"),
        **dict.fromkeys(last, "worst"),
    }


def _extra_of(head: str, extra: Any) -> Any:
    """Return how extra clusters are treated; a linear probe has none."""
    return extra if head.startswith("cluster") else "errors"


def _table(tally: Tally, scores: ByImage) -> str:
    """Return the scores of every image as CSV; fractions, empty where there is no number."""
    heads = list(tally.counts)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "pixels", *(f"{head}_{measure}" for head in heads for measure in ("accuracy", "miou"))])
    for name, by_head_ in scores.items():
        values = [value for head in heads for value in (by_head_[head].accuracy, by_head_[head].miou)]
        pixels = tally.images[name][heads[-1]].total
        writer.writerow([printable(name), pixels, *("" if math.isnan(v) else f"{v:.6f}" for v in values)])
    return text.getvalue()


def _draw(place: Path, number: int, image: Measured, job: Job, assignments: Mapping[str, Tensor]) -> dict[str, str]:
    """Write the pictures of one image: itself, its labels, and what each head makes of it."""
    colours = job.classes.space.colours
    size = shrunk(image.labels.shape)
    files = {"image": (f"{number:03d}-image.jpg", jpeg(image.pixels, size))}
    maps = {"labels": image.labels}
    for head, said in by_head(image).items():
        classes = assignments.get(head)
        maps[head] = said if classes is None else np.asarray(classes)[np.clip(said, 0, len(classes) - 1)]
    for what, classes_ in maps.items():
        files[what] = (f"{number:03d}-{what}.png", png(label_picture(classes_, colours, size)))
    for name, content in files.values():
        with atomic_write(place / name) as file:
            file.write(content)
    return {what: name for what, (name, _) in files.items()}


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
