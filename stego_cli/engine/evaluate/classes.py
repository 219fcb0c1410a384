"""Which classes the labels of a dataset speak of, and whether a model's linear probe speaks of the same."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from stego_cli.data.colours import MOST_COLOURS
from stego_cli.data.labels import anonymous_label_space, available_label_spaces
from stego_cli.engine.threads import executor, read_ahead
from stego_cli.errors import ImageError, StegoError
from stego_cli.files import printable

if TYPE_CHECKING:
    from stego_cli.config.evaluate import EvalConfig
    from stego_cli.config.model import LabelSpace, ModelConfig
    from stego_cli.data.dataset import Dataset
    from stego_cli.progress import Report

_NO_CLASS = 255  # what "no class" is stored as where nobody has said how label maps are to be read


@dataclass(frozen=True)
class Classes:
    """The classes that predictions are compared with.

    Attributes:
        space: Their names and colours.
        are_the_models: Whether they are the model's own, so that its linear probe can be scored.
        notes: What a reader of the scores should know.
    """

    space: LabelSpace
    are_the_models: bool
    notes: tuple[str, ...] = ()


@dataclass
class LabelsFound:
    """How many classes label maps hold, looked up once for each dataset; only where nobody has said.

    Attributes:
        workers: Threads that read.
        report: Shows progress.
    """

    workers: int
    report: Report
    _known: dict[tuple[str, str], int] = field(default_factory=dict)

    def count(self, dataset: Dataset) -> int:
        """Return the highest class id plus one; 255 stands for "no class", as nearly everywhere.

        Raises:
            StegoError: If there is no class, or ids are so high that they must mean something else.
        """
        key = (dataset.slug, dataset.split)
        if key not in self._known:
            self._known[key] = _highest(dataset, self.workers, self.report) + 1
        return self._known[key]


def classes_of(dataset: Dataset, model: ModelConfig, config: EvalConfig, found: LabelsFound) -> Classes:
    """Find out which classes a dataset has.

    What is known of the dataset comes first; then, if the model was made from this dataset, what the model knows of
    it; then what the user says; then what the label maps hold.

    Raises:
        StegoError: If the label maps hold no classes; `config.probe` asks for the linear probe alone, and its classes
            are not those of the dataset (names both numbers).
    """
    classes = _known_classes(dataset, model, config)
    if classes is None:
        space = anonymous_label_space(found.count(dataset), "class")
        note = f"{len(space)} classes, counted in the label maps (--classes or --label-space say otherwise)"
        classes = Classes(space, are_the_models=False, notes=(note,))
    if model.has_linear_probe and not classes.are_the_models and config.probe != "cluster":
        classes = Classes(classes.space, False, (*classes.notes, _mismatch(dataset, model, classes.space)))
    if config.probe == "linear" and not (model.has_linear_probe and classes.are_the_models):
        why = _mismatch(dataset, model, classes.space) if model.has_linear_probe else "the model has no linear probe"
        raise StegoError(f"{why}\n\nhint: use --probe cluster: clusters are matched to any classes")
    return classes


def _known_classes(dataset: Dataset, model: ModelConfig, config: EvalConfig) -> Classes | None:
    """Return the classes that somebody has said, if anybody has."""
    own = model.label_space
    knows_labels = model.has_linear_probe or model.cluster_to_class is not None
    space, wanted = dataset.label_space, config.classes
    if space is not None:
        unused = f"{len(space)} classes of the label space `{space.name}`; --classes {wanted} is for others"
        notes = (unused,) if wanted not in {None, len(space)} else ()
        return Classes(space, own.names == space.names, notes)
    if knows_labels and _is_made_from(model, dataset) and wanted in {None, len(own)}:
        return Classes(own, True, (f"{len(own)} classes, those of the model, which was made from this dataset",))
    if wanted is None:
        return None
    if knows_labels and wanted == len(own):
        return Classes(own, True, (f"label maps are read as the model's {wanted} classes, by number",))
    return Classes(anonymous_label_space(wanted, "class"), are_the_models=False)


def _is_made_from(model: ModelConfig, dataset: Dataset) -> bool:
    """Say whether a model names this dataset as its own: as `stego fit` does, or with split and number of images."""
    return re.fullmatch(re.escape(dataset.name) + r"(, [^,]*: \d+ images)?", model.about.trained_on) is not None


def _mismatch(dataset: Dataset, model: ModelConfig, space: LabelSpace) -> str:
    """Say why the linear probe cannot be scored."""
    own = model.label_space
    return (
        f"the linear probe knows {len(own)} classes (`{printable(own.name)}`), and {printable(dataset.name)} has "
        f"{len(space)} others (`{printable(space.name)}`), so it is not scored"
        + (
            f"; if they are the same, add --classes {len(own)}"
            if dataset.label_space is None and own.name not in available_label_spaces()
            else f"; if they are the same, add --label-space {own.name}"
            if dataset.label_space is None
            else ""
        )
    )


def _highest(dataset: Dataset, workers: int, report: Report) -> int:
    labelled = [index for index, sample in enumerate(dataset.samples) if sample.label is not None]
    with executor(workers) as pool:
        read = read_ahead(
            [labelled[start : start + 16] for start in range(0, len(labelled), 16)], partial(_top, dataset), pool
        )
        tops = (top for _, batch in read for top in batch)
        highest = max(report.track(tops, "Looking at label maps", total=len(labelled)), default=-1)
    if highest < 0:
        raise StegoError(
            f"the label maps of {printable(dataset.name)}, {dataset.split}, hold no class\n\n"
            "hint: a pixel's value is the number of its class, from 0; 255 stands for no class"
        )
    if highest >= MOST_COLOURS:
        raise StegoError(
            f"the label maps of {printable(dataset.name)}, {dataset.split}, hold values up to {highest}, too high for "
            "class ids\n\nhint: say how many classes there are with --classes; values beyond do not count"
        )
    return highest


def _top(dataset: Dataset, index: int) -> int:
    """Return the highest class id in a label map, -1 if it has none; one that cannot be read is named later."""
    try:
        labels = dataset.stored_labels(index)
    except ImageError:
        return -1
    if labels is None:
        return -1
    ids = dataset.code.class_ids(labels)
    return int(np.max(ids, initial=-1, where=ids != _NO_CLASS))
