"""`stego fit` from end to end: a folder of images becomes a checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stego_cli import __version__
from stego_cli.backbones.registry import build_backbone
from stego_cli.backbones.weights import freeze, load_backbone
from stego_cli.catalog.models import RUNS
from stego_cli.checkpoints.native import Checkpoint, save_checkpoint
from stego_cli.checkpoints.released import backbone_hash
from stego_cli.config.model import About, DinoConfig, FilterbankConfig, LabelSpace, ModelConfig
from stego_cli.data.datasets.build import available_splits, open_dataset
from stego_cli.engine.device import choose_device
from stego_cli.engine.fit import FitSettings, fit
from stego_cli.engine.label_space import choose_label_space
from stego_cli.engine.listener import Listener
from stego_cli.engine.measure import evaluate, score_probes
from stego_cli.errors import OutputError
from stego_cli.files import printable
from stego_cli.segmenter import Segmenter, Settings

if TYPE_CHECKING:
    from pathlib import Path

    from stego_cli.backbones.base import Backbone
    from stego_cli.config.fit import FitConfig
    from stego_cli.data.dataset import Dataset
    from stego_cli.engine.fit import FitResult
    from stego_cli.progress import Report


@dataclass(frozen=True)
class FittedModel:
    """What `stego fit` made.

    Attributes:
        checkpoint_path: The model file.
        checkpoint: What is in it.
        scores: Measured fractions by name, such as `val cluster miou`; empty without labels.
        mean_similarity: How tight the clusters are: mean cosine of sampled positions to their centroids. It needs no
            label, so that seeds can be compared by it.
        skipped: A line for each image or label map that could not be used.
    """

    checkpoint_path: Path
    checkpoint: Checkpoint
    scores: dict[str, float]
    mean_similarity: float
    skipped: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return file, config and scores for `--json`."""
        return {
            "checkpoint": printable(self.checkpoint_path),
            "scores": self.scores,
            "mean_similarity": round(self.mean_similarity, 6),
            "skipped": list(self.skipped),
            "config": self.checkpoint.config.model_dump(mode="json"),
        }


def fit_model(config: FitConfig, report: Report) -> FittedModel:
    """Cluster what a backbone sees in a dataset and save the result as a model.

    Labels, where there are any, name the clusters, fit the linear probe and measure; they never change the clusters.

    Raises:
        StegoError: If the dataset, the weights or the settings do not allow it; nothing is written then.
    """
    train = open_dataset(config, "train")
    validation = open_dataset(config, "val") if "val" in available_splits(config) else None
    target = _target(config, train.name)
    space = choose_label_space(train, config.label_space, config.classes, report)
    clusters = config.classes or len(space)
    _announce(train, validation, clusters, report)
    settings = FitSettings(
        clusters=clusters,
        classes=len(space),
        resolution=config.resolution,
        seed=config.seed,
        restarts=config.restarts,
        batch_size=config.batch_size,
        workers=config.workers,
        device=choose_device(config.device),
        names=config.names,
    )
    listener = Listener(report)
    result = fit(_backbone(config), train, settings, listener)
    if train.is_labelled and result.probes.linear is None:
        report.warn(
            f"no label was from 0 to {len(space) - 1}, so the clusters have no names and there is no linear probe"
        )
    model = _model_config(config, space, result)
    scores = _measure(Checkpoint(model, result.tensors), validation, settings, listener)
    about = _about(config, train.name, backbone_hash(result.tensors), scores)
    checkpoint = Checkpoint(model.model_copy(update={"about": about}), result.tensors)
    save_checkpoint(checkpoint, target)
    return FittedModel(target, checkpoint, about.scores, result.probes.mean_similarity, tuple(listener.skipped))


def _target(config: FitConfig, dataset: str) -> Path:
    """Return where the model goes, before anything long starts.

    Raises:
        OutputError: If something is there already and may not be replaced, or nothing would take the file for a model.
    """
    target = config.out or RUNS / f"fit-{dataset}-{config.backbone.name}" / "model.safetensors"
    name = printable(target)
    if target.is_dir():
        raise OutputError(f"`{name}` is a folder\n\nhint: name a file, such as --out model.safetensors")
    if target.suffix != ".safetensors":
        better = printable(target.with_suffix(".safetensors"))
        raise OutputError(f"`{name}` does not end with .safetensors\n\nhint: use --out {better}")
    if target.exists() and not config.overwrite:
        raise OutputError(f"`{name}` exists\n\nhint: add --overwrite, or choose another file with --out")
    return target


def _announce(train: Dataset, validation: Dataset | None, clusters: int, report: Report) -> None:
    """Say what is about to be done with which images."""
    for note in dict.fromkeys((*train.notes, *(validation.notes if validation else ()))):
        report.note(note)
    labels = "labels name the clusters and measure them, they do not change them"
    report.note(
        f"{len(train)} images to form {clusters} clusters from, {len(validation or ())} to measure on; "
        + (labels if train.is_labelled else "there are no labels")
    )


def _backbone(config: FitConfig) -> Backbone:
    """Return the backbone with its weights; a filter bank gets its own scales from the images that it is fitted to."""
    if isinstance(config.backbone, FilterbankConfig):
        return freeze(build_backbone(config.backbone))
    return load_backbone(config.backbone, config.weights)


def _model_config(config: FitConfig, space: LabelSpace, result: FitResult) -> ModelConfig:
    """Say what the model is made of."""
    assignment = result.probes.cluster_to_class
    return ModelConfig(
        backbone=config.backbone,
        method=DinoConfig(),
        num_clusters=result.probes.cluster.num_clusters,
        label_space=space,
        has_linear_probe=result.probes.linear is not None,
        alpha=config.alpha,
        cluster_to_class=None if assignment is None else tuple(assignment.tolist()),
        resolution=config.resolution,
    )


def _measure(
    checkpoint: Checkpoint, dataset: Dataset | None, settings: FitSettings, report: Report
) -> dict[str, float]:
    """Measure the model as it will be saved, and as it will predict; nothing comes of a dataset without labels."""
    if dataset is None or not dataset.is_labelled:
        return {}
    model = Segmenter.from_checkpoint(checkpoint, settings.device)
    how = Settings(("cluster", "linear") if model.linear_probe else ("cluster",))
    counts = evaluate(model, dataset, how, settings.batch_size, report, workers=settings.workers)
    return {
        f"{dataset.split} {name} {measure}": round(value, 6)
        for name, scores in score_probes(counts, checkpoint.config.cluster_to_class).items()
        for measure, value in (("miou", scores.miou), ("accuracy", scores.accuracy))
        if math.isfinite(value)  # no pixel has a label that counts
    }


def _about(config: FitConfig, dataset: str, backbone_sha256: str, scores: dict[str, float]) -> About:
    """Say in words and figures what the model is; what the user says of it goes before."""
    about = {
        "title": f"spherical k-means on {config.backbone.kind} features of {dataset}",
        "trained_on": dataset,
        "source": "stego fit",
        "stego_version": __version__,
        "backbone_sha256": backbone_sha256,
        "seed": config.seed,
        "scores": scores,
    }
    return About(**{**about, **config.about.model_dump(exclude_unset=True)})
