"""What `stego eval` is about to do, found out before anything long starts."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from stego_cli import __version__
from stego_cli.catalog.models import choose_model
from stego_cli.checkpoints.describe import load_any
from stego_cli.data.datasets.build import available_splits, open_dataset
from stego_cli.engine.content import model_facts
from stego_cli.engine.evaluate.classes import Classes, LabelsFound, classes_of
from stego_cli.engine.evaluate.names import check_names_fit, target_for_names
from stego_cli.engine.evaluate.store import digest
from stego_cli.errors import StegoError
from stego_cli.features.fingerprint import image_list_hash
from stego_cli.files import as_typed, printable

if TYPE_CHECKING:
    from pathlib import Path

    from stego_cli.catalog.models import ModelChoice
    from stego_cli.config.evaluate import EvalConfig
    from stego_cli.config.model import ModelConfig, Probe
    from stego_cli.data.dataset import Dataset
    from stego_cli.metrics.confusion import Extra
    from stego_cli.progress import Report


@dataclass(frozen=True)
class Job:
    """One model to be measured on one split.

    Attributes:
        choice: The model's file and name.
        model: What it is made of.
        dataset: The split.
        classes: What its predictions are compared with.
        probes: Which of its probes.
        extra: What becomes of pixels in extra clusters.
        facts: What a reader wants to know of the model.
        fingerprint: Equal for results that are interchangeable.
    """

    choice: ModelChoice
    model: ModelConfig
    dataset: Dataset
    classes: Classes
    probes: tuple[Probe, ...]
    extra: Extra
    facts: dict[str, Any]
    fingerprint: str

    @property
    def folder(self) -> str:
        """Name of the folder for this result's files, readable and unlike that of any other result."""
        name = re.sub(r"[^A-Za-z0-9]+", "-", f"{self.choice.path.stem} {self.dataset.name} {self.dataset.split}")
        return f"{name.strip('-')[:60]}-{self.fingerprint[:8]}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the scores should know."""
        clusters, classes = self.model.num_clusters, len(self.classes.space)
        notes = list(self.classes.notes)
        if clusters > classes and "cluster" in self.probes:
            fate = {
                "reference": f"from number {classes} on are dropped, as by the reference, which flatters (--extra)",
                "errors": "that are left over count as errors",
            }
            notes.append(f"{clusters} clusters for {classes} classes: pixels in clusters {fate[self.extra]}")
        if clusters < classes and "cluster" in self.probes:
            notes.append(f"{clusters} clusters for {classes} classes: those without a cluster have an IoU of 0")
        if "linear" not in self.probes and not self.model.has_linear_probe:
            notes.append("the model has no linear probe")
        return tuple(notes)


def make_jobs(config: EvalConfig, report: Report) -> list[Job]:
    """Open every model and split, and see that they go together.

    Raises:
        StegoError: If one of them is missing, damaged or has no labels.
    """
    names = dict.fromkeys(config.checkpoints or (config.model,))
    choices = [choose_model(name) for name in names]
    for choice in choices:
        _refuse_folder(choice.path)
    if not config.checkpoints:
        report.note(f"model: {choices[0].name} ({choices[0].why})")
    if config.crop:
        report.note(f"measured on {config.crop} crops; published figures are of whole images (--crop none)")
    datasets = [_labelled(config, split, report) for split in dict.fromkeys(config.splits)]
    found = LabelsFound(config.workers, report)
    return [job for choice in choices for job in _jobs(config, choice, datasets, found)]


def target_of(config: EvalConfig, job: Job) -> Path | None:
    """Return the file that the names of clusters go into, if any.

    Raises:
        StegoError: If that file may not be written.
    """
    if not config.save_names:
        return None
    target = target_for_names(job.choice.path, config.out, overwrite=config.overwrite)
    check_names_fit(job.model, job.classes.space, in_place=target == job.choice.path)
    return target


def _refuse_folder(path: Path) -> None:
    """Refuse a folder in place of a model: one of images, or that of a model.

    Raises:
        StegoError: Says what to type instead.
    """
    if not path.is_dir():
        return
    models = sorted(path.glob("*.safetensors"))
    better = as_typed(models[0] if models else path)
    hint = f"give the file in it: {better}" if models else f"images to measure on are named by --dataset {better}"
    raise StegoError(f"`{printable(path)}` is a folder, not a model\n\nhint: {hint}")


def _labelled(config: EvalConfig, split: str, report: Report) -> Dataset:
    """Open a split that has labels.

    Raises:
        StegoError: If there is no such split, or no label in it; says what to do.
    """
    try:
        dataset = open_dataset(config, split)
    except StegoError as error:
        if split in (there := available_splits(config)) or not there:
            raise
        others = [open_dataset(config, other) for other in there]
        labelled = [other.split for other in others if other.is_labelled]
        if not labelled:  # another split would not help
            raise _without_labels(others[-1]) from error
        raise StegoError(f"{error}; or measure on another split with --split {labelled[-1]}") from error
    if not dataset.is_labelled:
        raise _without_labels(dataset)
    for note in dataset.notes:
        report.note(note)
    return dataset


def _without_labels(dataset: Dataset) -> StegoError:
    split = dataset.split
    place = f"labels/{split}/" if (dataset.root / "imgs" / split).is_dir() else "labels/"
    return StegoError(
        f"`{printable(dataset.root)}` has no label maps for the {len(dataset)} images of {split}, so nothing can "
        f"be measured\n\nhint: put a PNG for each image, of the same name, into `{place}`; a pixel's value is its "
        "class, from 0, and 255 is no class. Without labels, look at what `stego predict` makes of them"
    )


def _jobs(config: EvalConfig, choice: ModelChoice, datasets: list[Dataset], found: LabelsFound) -> list[Job]:
    """Put a model together with every split; its file is read once."""
    model = load_any(choice.path).config
    facts = model_facts(choice, model)
    return [_one(config, choice, model, facts, dataset, found) for dataset in datasets]


def _one(
    config: EvalConfig,
    choice: ModelChoice,
    model: ModelConfig,
    facts: dict[str, Any],
    dataset: Dataset,
    found: LabelsFound,
) -> Job:
    classes = classes_of(dataset, model, config, found)
    probes: tuple[Probe, ...] = ("cluster", "linear") if config.probe == "both" else (config.probe,)
    if not (model.has_linear_probe and classes.are_the_models):
        probes = tuple(probe for probe in probes if probe != "linear")
    # A model for other classes has no clusters "beyond" these: which of its clusters come first means nothing.
    at_home = config.protocol == "paper" and len(model.label_space) == len(classes.space)
    extra: Extra = config.extra or ("reference" if at_home else "errors")
    fingerprint = digest(
        {
            "stego": __version__,
            "model": facts["fingerprint"],
            "dataset": [printable(dataset.slug), dataset.split, *_content_of(dataset)],
            "classes": classes.space.model_dump(mode="json"),
            "probes": probes,
            "extra": extra,
            **settings_of(config),
        }
    )
    return Job(choice, model, dataset, classes, probes, extra, facts, fingerprint)


def settings_of(config: EvalConfig) -> dict[str, Any]:
    """Return the settings that a result depends on beside model and images, as plain values."""
    names = {"protocol", "mirror", "resolution", "precision", "bands", "overcluster", "examples"}
    settings = config.model_dump(mode="json", include=names)
    return {**settings, "crf": config.crf_parameters.model_dump(exclude={"implementation"}) if config.crf else None}


def _content_of(dataset: Dataset) -> tuple[str, str]:
    """Return hashes over the lists of images and of label maps."""
    maps = tuple(replace(sample, image=sample.label) for sample in dataset.samples if sample.label is not None)
    return image_list_hash(dataset), image_list_hash(replace(dataset, samples=maps))
