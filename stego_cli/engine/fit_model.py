"""`stego fit` from end to end: a folder of images becomes a checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stego_cli import __version__
from stego_cli.backbones.weights import load_backbone
from stego_cli.catalog.models import RUNS
from stego_cli.checkpoints.native import Checkpoint, save_checkpoint
from stego_cli.checkpoints.released import backbone_hash
from stego_cli.config.model import About, DinoConfig, LabelSpace, ModelConfig
from stego_cli.data.folder_dataset import LabelledImage, folder_split, has_split
from stego_cli.data.labels import anonymous_label_space, available_label_spaces, load_label_space
from stego_cli.engine.device import choose_device
from stego_cli.engine.fit import FitResult, fit
from stego_cli.engine.fit_parts import FitSettings
from stego_cli.errors import ConfigError, OutputError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stego_cli.config.fit import FitConfig
    from stego_cli.progress import Report


@dataclass(frozen=True)
class FittedModel:
    """What `stego fit` made.

    Attributes:
        checkpoint_path: The model file.
        checkpoint: What is in it.
        scores: Measured fractions by name, such as `val cluster miou`; empty without labels.
        skipped: A line for each image or label map that could not be used.
    """

    checkpoint_path: Path
    checkpoint: Checkpoint
    scores: dict[str, float]
    skipped: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return file, config and scores for `--json`."""
        return {
            "checkpoint": printable(self.checkpoint_path),
            "scores": self.scores,
            "skipped": list(self.skipped),
            "config": self.checkpoint.config.model_dump(mode="json"),
        }


class Skipping:
    """A `Report` that passes everything on and remembers the warnings, each of which names something skipped."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.skipped: list[str] = []
        self.track = report.track
        self.note = report.note

    def warn(self, message: str) -> None:
        """Pass a warning on as one line, for grep."""
        line = printable(message.replace("\n\nhint: ", "; "))
        self.skipped.append(line)
        self.report.warn(line)


def fit_model(config: FitConfig, report: Report) -> FittedModel:
    """Cluster what a backbone sees in a folder of images and save the result as a model.

    Labels, where there are any, name the clusters, fit the linear probe and measure; they never change the clusters.

    Raises:
        StegoError: If the folder, the weights or the settings do not allow it; nothing is written then.
    """
    target = _target(config)
    train = folder_split(config.dataset, "train")
    validation = folder_split(config.dataset, "val") if has_split(config.dataset, "val") else []
    labelled = any(image.label_path for image in train)
    space = _label_space(config, labelled=labelled, report=report)
    clusters = config.classes or len(space)
    report.note(_words(train, validation, clusters, labelled=labelled))
    backbone = load_backbone(config.backbone, config.weights)
    settings = FitSettings(
        clusters=clusters,
        classes=len(space),
        resolution=config.resolution,
        alpha=config.alpha,
        seed=config.seed,
        restarts=config.restarts,
        batch_size=config.batch_size,
        device=choose_device(config.device),
    )
    listener = Skipping(report)
    result = fit(backbone, train, validation, settings, listener)
    if labelled and result.probes.linear is None:
        report.warn(f"no label was from 0 to {len(space) - 1}, so the clusters have no names and nothing was measured")
    checkpoint = _checkpoint(config, space, settings, result)
    save_checkpoint(checkpoint, target)
    return FittedModel(target, checkpoint, checkpoint.config.about.scores, tuple(listener.skipped))


def _target(config: FitConfig) -> Path:
    """Return where the model goes, before anything long starts.

    Raises:
        OutputError: If something is there already and may not be replaced.
    """
    backbone = config.backbone.name if config.backbone.kind == "vit" else config.backbone.kind
    target = config.out or RUNS / f"fit-{config.dataset.resolve().name}-{backbone}" / "model.safetensors"
    if target.is_dir():
        raise OutputError(f"`{printable(target)}` is a folder\n\nhint: name a file, such as --out model.safetensors")
    if target.exists() and not config.overwrite:
        raise OutputError(f"`{printable(target)}` exists\n\nhint: add --overwrite, or choose another file with --out")
    return target


def _label_space(config: FitConfig, *, labelled: bool, report: Report) -> LabelSpace:
    """Return the classes that labels speak of; without labels, one unnamed class per cluster.

    Raises:
        ConfigError: If nothing says how many classes there are.
    """
    if config.label_space:
        return load_label_space(config.label_space)
    name = config.dataset.resolve().name
    if labelled and name in available_label_spaces():
        report.note(f"label space: {name}, after the folder's name (--label-space chooses another)")
        return load_label_space(name)
    if config.classes is None:
        raise ConfigError(
            "nothing says how many classes to form\n\n"
            f"hint: add --classes N, or --label-space with one of {', '.join(available_label_spaces())}"
        )
    return anonymous_label_space(config.classes, "class" if labelled else "cluster")


def _words(
    train: Sequence[LabelledImage], validation: Sequence[LabelledImage], clusters: int, *, labelled: bool
) -> str:
    """Say what is about to be done with which images."""
    labels = "labels name the clusters and measure them, they do not change them" if labelled else "there are no labels"
    return f"{len(train)} images to form {clusters} clusters from, {len(validation)} to measure on; {labels}"


def _checkpoint(config: FitConfig, space: LabelSpace, settings: FitSettings, result: FitResult) -> Checkpoint:
    """Put config and tensors together."""
    assignment = result.probes.cluster_to_class
    scores = {
        f"val {name} {measure}": round(value, 6)
        for name, scores in result.scores.items()
        for measure, value in (("miou", scores.miou), ("accuracy", scores.accuracy))
        if math.isfinite(value)  # no validation pixel has a label that counts
    }
    dataset = config.dataset.resolve().name
    about = {
        "title": f"spherical k-means on {config.backbone.kind} features of {dataset}",
        "trained_on": dataset,
        "source": "stego fit",
        "stego_version": __version__,
        "backbone_sha256": backbone_hash(result.tensors),
        "seed": config.seed,
        "scores": scores,
    }
    model = ModelConfig(
        backbone=config.backbone,
        method=DinoConfig(),
        num_clusters=settings.clusters,
        label_space=space,
        has_linear_probe=result.probes.linear is not None,
        alpha=settings.alpha,
        cluster_to_class=None if assignment is None else tuple(assignment.tolist()),
        resolution=settings.resolution,
        about=About(**{**about, **config.about.model_dump(exclude_unset=True)}),
    )
    return Checkpoint(model, result.tensors)
