"""How good a model is on labelled images: its predictions counted against them, and scored."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from stego_cli.data import views
from stego_cli.engine.halving import HalvingSegmenter
from stego_cli.engine.reading import WorkingImage, working_batches
from stego_cli.errors import ImageError
from stego_cli.files import printable
from stego_cli.metrics.confusion import ConfusionMatrix
from stego_cli.metrics.matching import match_clusters
from stego_cli.metrics.scores import Scores, score

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from stego_cli.config.model import Probe
    from stego_cli.config.words import Protocol
    from stego_cli.data.dataset import Dataset
    from stego_cli.progress import Report
    from stego_cli.segmenter import Array, Labelled, Segmenter, Settings


def evaluate(
    model: Segmenter, dataset: Dataset, settings: Settings, batch_size: int, report: Report, *, workers: int = 0
) -> dict[Probe, ConfusionMatrix]:
    """Count what a model says against the labels of all images that have any, exactly as it predicts.

    Under `native` label maps are compared at the images' own size. Under `paper` they are compared as in the STEGO
    reference: at working size, with the labels brought there by the nearest pixel, and with pixels of clusters beyond
    the number of classes left out.

    Args:
        model: The model; names that its clusters have are not used.
        dataset: The images; those without a label map are left out.
        settings: How it predicts.
        batch_size: Images that go through the backbone together.
        report: Told about progress and about images that could not be measured.
        workers: Threads that read ahead.

    Returns:
        Counts for each probe of the settings; rows are clusters for `cluster` and classes for `linear`. Labels that
        are no class of the model do not count.
    """
    counts = {probe: _nothing_counted(model, probe, settings.protocol) for probe in settings.probes}
    segment = HalvingSegmenter(model.without_names(), settings, report)
    labelled = replace(dataset, samples=tuple(sample for sample in dataset.samples if sample.label is not None))
    make_view = partial(model.view, settings=settings)
    for batch in working_batches(labelled, make_view, batch_size, workers, report, "Measuring"):
        usable = list(_usable(batch, report))
        answers = segment([image.pixels for image, _ in usable], [image.view for image, _ in usable])
        for (image, labels), answer in zip(usable, answers, strict=True):
            if isinstance(answer, ImageError):
                report.warn(f"{printable(image.name)} was not measured: {answer}")
                continue
            for probe, said in answer.items():
                counts[probe].update(*map(torch.from_numpy, _compared(said, image, labels, settings.protocol)))
    return counts


def score_probes(
    counts: Mapping[Probe, ConfusionMatrix], cluster_to_class: Tensor | Sequence[int] | None = None
) -> dict[str, Scores]:
    """Turn counts into scores.

    Args:
        counts: Result of `evaluate`.
        cluster_to_class: Names of the clusters that were found elsewhere, if any: class of each cluster, or -1.

    Returns:
        `cluster` (matched to the labels of the measured images: the usual protocol), `cluster_named` (with the given
        names, so what a user sees), `linear`; those for which there are counts and names.
    """
    scores: dict[str, Scores] = {}
    if "cluster" in counts:
        found, extra = counts["cluster"].counts, counts["cluster"].extra
        scores["cluster"] = score(found, match_clusters(found), extra=extra)
        if cluster_to_class is not None:
            scores["cluster_named"] = score(found, torch.as_tensor(cluster_to_class), extra=extra)
    if "linear" in counts:
        scores["linear"] = score(counts["linear"].counts)
    return scores


def _nothing_counted(model: Segmenter, probe: Probe, protocol: Protocol) -> ConfusionMatrix:
    classes = len(model.config.label_space)
    rows = model.config.num_clusters if probe == "cluster" else classes
    return ConfusionMatrix(rows, classes, extra="reference" if protocol == "paper" else "errors")


def _usable(batch: Sequence[WorkingImage], report: Report) -> Iterator[tuple[WorkingImage, Array]]:
    """Yield the images with their labels; warn of those whose label map cannot be used."""
    for image in batch:
        if isinstance(image.labels, np.ndarray):
            yield image, image.labels
        else:
            report.warn(f"{printable(image.name)} was not measured: {image.labels}")


def _compared(said: Labelled, image: WorkingImage, labels: Array, protocol: Protocol) -> tuple[Array, Array]:
    """Return predictions and labels at the size at which the protocol compares them."""
    if protocol == "paper":
        return said.scores.argmax(0), views.apply_to_labels(image.view, labels)
    return said.label_map, labels
