"""One model over one labelled split: everything counted in one pass, alone or shared between processes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from stego_cli.engine.listener import Listener
from stego_cli.engine.measure import Measured, Pass, measured, rows_of
from stego_cli.engine.ranks import Ranks
from stego_cli.errors import StegoError
from stego_cli.files import printable
from stego_cli.metrics.matching import majority_classes, match_clusters
from stego_cli.metrics.per_image import ImageCounts, count_image, counted
from stego_cli.metrics.scores import Scores, score

if TYPE_CHECKING:
    from torch import Tensor

    from stego_cli.data.dataset import Dataset
    from stego_cli.metrics.confusion import Extra
    from stego_cli.progress import Report
    from stego_cli.segmenter import Array

MANY_TO_ONE = "_many_to_one"
"""Ends the names of scores for which several clusters may share a class."""


@dataclass
class Tally:
    """Counts of everything that was predicted.

    Attributes:
        counts: By head (`cluster`, `linear`, `cluster_crf`, `linear_crf`): shape (rows, classes).
        images: By image, in the order of the dataset, and head.
        skipped: A line for each image that could not be measured.
    """

    counts: dict[str, Tensor]
    images: dict[str, dict[str, ImageCounts]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def by_head(image: Measured) -> dict[str, Array]:
    """Return all answers of one image, by head.

    A head is a probe with or without the CRF; heads without come first.
    """
    heads: dict[str, Array] = dict(image.said.items())
    return heads | {f"{probe}_crf": said for probe, said in image.sharpened.items()}


def count_all(work: Pass, dataset: Dataset, report: Report, ranks: Ranks | None = None) -> Tally:
    """Count what a model says of every labelled image of a split.

    Args:
        work: Model and settings.
        dataset: The split; images without labels are left out.
        report: Told about progress and about what could not be measured.
        ranks: The processes that share the images; each gets the whole result.

    Raises:
        StegoError: If there was nothing to count.
    """
    ranks = ranks or Ranks()
    labelled = [sample for sample in dataset.samples if sample.label is not None]
    listener = Listener(report)
    share = replace(dataset, samples=tuple(ranks.share(labelled)))
    probes = work.settings.probes
    heads = [*probes, *(f"{probe}_crf" for probe in probes if work.also_crf)]
    rows = {head: rows_of(work.model, "cluster" if head.startswith("cluster") else "linear") for head in heads}
    tally = Tally({head: torch.zeros(rows[head], work.classes, dtype=torch.int64) for head in heads})
    for image in measured(work, share, listener):
        counts = {
            head: count_image(said, image.labels, rows[head], work.classes) for head, said in by_head(image).items()
        }
        tally.images[image.name] = counts
        for head, each in counts.items():
            tally.counts[head] += each.dense()
    tally.skipped = listener.skipped
    whole = _merged(tally, [sample.name for sample in labelled], ranks)
    for line in whole.skipped:
        if line not in tally.skipped:  # another process has said it where nobody listens
            report.warn(line)
    _check(whole, dataset, work.classes)
    return whole


def score_all(tally: Tally, extra: Extra, *, overcluster: bool) -> tuple[dict[str, Scores], dict[str, Tensor]]:
    """Turn counts into scores.

    Args:
        tally: The counts.
        extra: What becomes of pixels in clusters beyond the number of classes.
        overcluster: Score clusters many-to-one, too, under names that end with `MANY_TO_ONE`.

    Returns:
        Scores by head, and the class of each cluster by head, for heads of the cluster probe.
    """
    scores: dict[str, Scores] = {}
    assignments: dict[str, Tensor] = {}
    for head, counts in tally.counts.items():
        if not head.startswith("cluster"):
            scores[head] = score(counts)
            continue
        kept = counted(counts, extra)
        assignments[head] = match_clusters(kept)
        scores[head] = score(kept, assignments[head], extra=extra)
        if overcluster:
            assignments[head + MANY_TO_ONE] = majority_classes(counts)
            scores[head + MANY_TO_ONE] = score(counts, assignments[head + MANY_TO_ONE])
    return scores, assignments


def _merged(tally: Tally, order: list[str], ranks: Ranks) -> Tally:
    """Put the parts of all processes together: counts summed, images in the order of the dataset."""
    images: dict[str, dict[str, ImageCounts]] = {}
    skipped: list[str] = []
    for part, lines in ranks.gather((tally.images, tally.skipped)):
        images.update(part)
        skipped += lines
    counts = {head: ranks.sum(each) for head, each in tally.counts.items()}
    return Tally(counts, {name: images[name] for name in order if name in images}, skipped)


def _check(tally: Tally, dataset: Dataset, classes: int) -> None:
    """Refuse to give scores that are made of nothing."""
    where = f"{printable(dataset.name)}, {dataset.split}"
    if not tally.images:
        raise StegoError(
            f"none of the images of {where} could be measured; the first: {tally.skipped[0]}"
            if tally.skipped
            else f"there is no labelled image in {where}"
        )
    if not any(bool(counts.any()) for counts in tally.counts.values()):
        raise StegoError(
            f"no pixel of the labels of {where} is one of {classes} classes\n\n"
            f"hint: class ids count from 0 to {classes - 1}, others are ignored; --classes or --label-space say which "
            "there are"
        )
