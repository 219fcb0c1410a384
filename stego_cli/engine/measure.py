"""How good a model is on labelled images: its predictions counted against them, and scored."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch

from stego_cli.crf.build import build_crf
from stego_cli.data import views
from stego_cli.engine.pipeline import Pipeline, Seen, Segmented
from stego_cli.engine.reading import WorkingImage, working_batches
from stego_cli.errors import ImageError
from stego_cli.files import printable
from stego_cli.metrics.confusion import ConfusionMatrix
from stego_cli.metrics.matching import match_clusters
from stego_cli.metrics.scores import Scores, score

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from stego_cli.config.crf import CrfParameters
    from stego_cli.config.model import Probe
    from stego_cli.config.words import Protocol
    from stego_cli.crf.base import DenseCrf
    from stego_cli.data.dataset import Dataset
    from stego_cli.metrics.confusion import Extra
    from stego_cli.progress import Report
    from stego_cli.segmenter import Array, Labelled, Segmenter, Settings

    Labels = tuple[str, Array]  # name of the image, and what its label map says


_ONE_ON_THE_DEVICE = Lock()  # the CRF of an accelerator fills it with one image


@dataclass(frozen=True)
class Pass:
    """What is measured how.

    Attributes:
        model: On its device.
        settings: How it predicts.
        classes: How many classes the labels have.
        batch_size: Images that go through the backbone together.
        workers: Threads that read ahead.
        also_crf: Give the answers after this CRF beside those without; backbone and probes still run once.
    """

    model: Segmenter
    settings: Settings
    classes: int
    batch_size: int
    workers: int = 0
    also_crf: CrfParameters | None = None


@dataclass(frozen=True)
class Measured:
    """What a model says of one image, beside what the image's labels say.

    Attributes:
        name: The image.
        pixels: At working size, (h, w, 3) uint8.
        labels: Class ids, (H, W), at the size at which the protocol compares.
        said: Cluster or class ids of the same size, by probe.
        sharpened: The same after the CRF; empty if none was asked for.
    """

    name: str
    pixels: Array
    labels: Array
    said: dict[Probe, Array]
    sharpened: dict[Probe, Array]


def evaluate(
    model: Segmenter,
    dataset: Dataset,
    settings: Settings,
    batch_size: int,
    report: Report,
    *,
    workers: int = 0,
    classes: int | None = None,
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
        classes: How many classes the labels have; None means those of the model.

    Returns:
        Counts for each probe of the settings; rows are clusters for `cluster` and classes for `linear`. Labels that
        are no class do not count.
    """
    columns = classes or len(model.config.label_space)
    extra: Extra = "reference" if settings.protocol == "paper" else "errors"
    counts = {probe: ConfusionMatrix(rows_of(model, probe), columns, extra=extra) for probe in settings.probes}
    work = Pass(model, settings, columns, batch_size, workers)
    for image in measured(work, dataset, report):
        for probe, said in image.said.items():
            counts[probe].update(torch.from_numpy(said), torch.from_numpy(image.labels))
    return counts


def measured(work: Pass, dataset: Dataset, report: Report, doing: str = "Measuring") -> Iterator[Measured]:
    """Yield what a model says of every labelled image; see `evaluate` for how.

    Args:
        work: The model, and how it is run.
        dataset: The images; those without a label map are left out.
        report: Told about progress and about images that could not be measured.
        doing: What the progress is called.
    """
    model = work.model.without_names()
    crf = build_crf(work.also_crf, model.device) if work.also_crf else None
    labelled = replace(dataset, samples=tuple(sample for sample in dataset.samples if sample.label is not None))
    make_view = partial(model.view, settings=work.settings)
    pipeline: Pipeline[Labels, Measured | str] = Pipeline(
        model, work.settings, partial(_measured, model, work.settings, crf), report
    )
    batches = working_batches(labelled, make_view, work.batch_size, work.workers, report, doing)
    for found in pipeline.run(list(_usable(batch, report)) for batch in batches):
        if isinstance(found, Measured):
            yield found
        else:
            report.warn(found)


def _measured(
    model: Segmenter, settings: Settings, crf: DenseCrf | None, image: Seen[Labels], found: Segmented | ImageError
) -> Measured | str:
    """Return what is said of one image beside its labels; or a line if it could not be measured."""
    name, labels = image.item
    if isinstance(found, ImageError):
        return f"{printable(name)} was not measured: {found}"
    try:
        return Measured(
            name,
            image.working,
            views.apply_to_labels(image.view, labels) if settings.protocol == "paper" else labels,
            {probe: _compared(said, settings.protocol) for probe, said in found.answers.items()},
            _sharpened(model, image, found.answers, settings, crf) if crf else {},
        )
    except MemoryError:
        height, width = image.view.size
        return f"{printable(name)} was not measured: there is not enough memory to sharpen it at {height}x{width}"


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


def rows_of(model: Segmenter, probe: Probe) -> int:
    """Return how many values a probe's answers can have: clusters, or classes of the model."""
    return model.config.num_clusters if probe == "cluster" else len(model.config.label_space)


def _usable(batch: Sequence[WorkingImage], report: Report) -> Iterator[Seen[Labels]]:
    """Yield the images with their labels; warn of those whose label map cannot be used."""
    for image in batch:
        if isinstance(image.labels, np.ndarray):
            yield Seen((image.name, image.labels), image.pixels, image.view)
        else:
            report.warn(f"{printable(image.name)} was not measured: {image.labels}")


def _compared(said: Labelled, protocol: Protocol) -> Array:
    """Return an answer at the size at which the protocol compares."""
    return said.scores.argmax(0) if protocol == "paper" else said.label_map


def _sharpened(
    model: Segmenter, image: Seen[Labels], answer: Mapping[Probe, Labelled], settings: Settings, crf: DenseCrf
) -> dict[Probe, Array]:
    """Return the answers after the CRF, of all probes at once, which share what depends on the image alone."""
    with nullcontext() if model.device.type == "cpu" else _ONE_ON_THE_DEVICE:
        refined = crf.refine(model.seen_by_crf(image.working, settings), [said.scores for said in answer.values()])
    if settings.protocol == "paper":
        return {probe: maps.argmax(0) for probe, maps in zip(answer, refined, strict=True)}
    return {probe: views.restore_labels(image.view, maps)[0] for probe, maps in zip(answer, refined, strict=True)}
