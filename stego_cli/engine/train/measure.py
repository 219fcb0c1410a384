"""What a model that is being trained is worth, with labels and without, and the checkpoint that it becomes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from stego_cli import __version__
from stego_cli.checkpoints.native import Checkpoint, tensors_of
from stego_cli.checkpoints.released import backbone_hash
from stego_cli.config.model import About, ModelConfig
from stego_cli.engine.measure import evaluate, score_probes
from stego_cli.engine.train.projected import parts_of
from stego_cli.methods.base import Fitted
from stego_cli.metrics.confusion import ConfusionMatrix
from stego_cli.metrics.matching import classes_of_clusters
from stego_cli.segmenter import Segmenter, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from stego_cli.config.model import LabelSpace
    from stego_cli.config.train import TrainConfig
    from stego_cli.config.words import NameRule
    from stego_cli.data.dataset import Dataset
    from stego_cli.engine.train.batches import Supply
    from stego_cli.engine.train.step import Trainee
    from stego_cli.progress import Report

MOST_SCORED = 64  # training images that the label-free score looks at
MOST_NAMED = 256  # training images whose labels name the clusters
SHARPNESS = 10.0  # of the assignment that the label-free score looks at
ALPHA = 2.0  # inverse temperature that models are saved with, as the reference's
SCORE = "score"


@dataclass(frozen=True)
class Yardstick:
    """What models of a run are measured with.

    Attributes:
        config: Of the run.
        supply: Training images, features and labels.
        validation: Labelled images to measure on; None for none.
        space: The classes that labels speak of, or one unnamed class per cluster.
        clusters: Clusters of the cluster probe.
        device: Where to compute.
    """

    config: TrainConfig
    supply: Supply
    validation: Dataset | None
    space: LabelSpace
    clusters: int
    device: torch.device

    @property
    def keeps_by(self) -> str:
        """The score by which the model to keep is chosen; empty for the last one."""
        measured = {"cluster_miou": "cluster miou", "linear_miou": "linear miou"}
        wanted = self.config.keep
        if wanted == "auto":
            wanted = "cluster_miou" if self.validation is not None else "score"
        if wanted in measured and self.validation is not None:
            return f"{self.validation.split} {measured[wanted]}"
        return "" if wanted == "last" else SCORE


def measure(with_: Yardstick, trainee: Trainee, seed: int, report: Report) -> tuple[Checkpoint, dict[str, float]]:
    """Return the model as it is now, ready to be saved, and its scores by name: fractions, the label-free one first."""
    score = label_free_score(trainee, with_.supply, with_.device)
    classes, rule = len(with_.space), with_.config.names
    assignment = name_clusters(trainee, with_.supply, with_.clusters, classes, with_.device, rule)
    checkpoint = _checkpoint(with_, trainee, assignment, seed)
    scores = {SCORE: round(score, 6), **_measured(with_, checkpoint, report)}
    about = checkpoint.config.about.model_copy(update={"scores": scores})
    config = checkpoint.config.model_copy(update={"about": about})
    return replace(checkpoint, config=config), scores


@torch.no_grad()
def label_free_score(trainee: Trainee, supply: Supply, device: torch.device) -> float:
    """Return how much the clusters tell of positions, a fraction that needs no label.

    It is the mutual information between position and cluster, over the logarithm of the number of clusters: high where
    every position belongs clearly to one cluster (confidence) and all clusters are used (balance). A code that has
    collapsed, or clusters that nobody uses, bring it down, which the plain tightness of clusters would not notice.
    The objective is that of regularised information maximisation (Krause, Perona & Gomes, NIPS 2010, section 3).
    """
    probe, head = trainee.cluster_probe, trainee.objective.head.eval()
    total, entropy, count = torch.zeros(probe.num_clusters, dtype=torch.float64), 0.0, 0
    for images in spread_batches(supply.sampler.usable, MOST_SCORED, len_of_batch(supply)):
        log_probs = probe.log_probs(head.code(supply.features_of(images, device)).float(), SHARPNESS)
        probs = log_probs.exp()
        entropy -= float((probs * log_probs).sum(dtype=torch.float64))
        total += probs.sum((0, 2, 3), dtype=torch.float64).cpu()
        count += probs[:, 0].numel()
    mean = total / count
    balance = -float(torch.special.xlogy(mean, mean).sum())
    return max(0.0, balance - entropy / count) / math.log(max(probe.num_clusters, 2))


@torch.no_grad()
def name_clusters(
    trainee: Trainee, supply: Supply, clusters: int, classes: int, device: torch.device, rule: NameRule = "matched"
) -> Tensor | None:
    """Return the class of each cluster, or -1, by the labels of training images; None if none of them counts."""
    if supply.labels is None:
        return None
    probe, head = trainee.cluster_probe, trainee.objective.head.eval()
    confusion = ConfusionMatrix(clusters, classes)
    for images in spread_batches(supply.sampler.usable, MOST_NAMED, len_of_batch(supply)):
        found = probe.inner_products(head.code(supply.features_of(images, device)).float()).argmax(1).cpu()
        centres = labels_at_cells(supply, images, found.shape[-1])
        if centres is not None:
            confusion.update(found, torch.where(centres < classes, centres, -1))
    return classes_of_clusters(confusion.counts, rule) if int(confusion.counts.sum()) else None


def labels_at_cells(supply: Supply, images: NDArray[np.int64], side: int) -> Tensor | None:
    """Return the labels in the middle of each cell of feature maps, int64, shape (n, side, side); None without any."""
    if supply.labels is None:
        return None
    labels = supply.labels.read(images).astype(np.int64)
    step = supply.square.side // side
    return torch.from_numpy(labels[:, step // 2 :: step, step // 2 :: step][:, :side, :side])


def len_of_batch(supply: Supply) -> int:
    """Return how many images go through the head together when no gradient is kept."""
    return max(supply.sampler.batch_size, 1)


def spread_batches(usable: NDArray[np.int64], most: int, at_once: int) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of some images, spread evenly over all, in batches."""
    chosen = usable[np.unique(np.linspace(0, len(usable) - 1, min(most, len(usable))).round().astype(np.int64))]
    for start in range(0, len(chosen), at_once):
        yield chosen[start : start + at_once]


def _checkpoint(with_: Yardstick, trainee: Trainee, assignment: Tensor | None, seed: int) -> Checkpoint:
    config, supply = with_.config, with_.supply
    tensors = model_tensors(supply, trainee, keep_linear=assignment is not None)
    head = parts_of(supply, trainee)[1]
    about = {
        "title": f"{config.method.kind} on {config.backbone.name} features of {supply.dataset.name}",
        "trained_on": f"{supply.dataset.name}, {supply.dataset.split}: {len(supply.dataset)} images",
        "source": "stego train",
        "stego_version": __version__,
        "backbone_sha256": backbone_hash(tensors),
        "seed": seed,
    }
    model = ModelConfig(
        backbone=config.backbone,
        method=head.as_fitted() if isinstance(head, Fitted) else config.method,
        num_clusters=with_.clusters,
        label_space=with_.space,
        has_linear_probe=assignment is not None,
        alpha=ALPHA,
        cluster_to_class=None if assignment is None else tuple(assignment.tolist()),
        resolution=config.eval_resolution,
        about=About.model_validate({**about, **config.about.model_dump(exclude_unset=True)}),
    )
    return Checkpoint(model, tensors)


def model_tensors(supply: Supply, trainee: Trainee, *, keep_linear: bool) -> dict[str, Tensor]:
    """Return the tensors of a model by their names in a checkpoint.

    Args:
        supply: Has the backbone.
        trainee: Has the rest.
        keep_linear: Whether the linear probe belongs to it.
    """
    backbone, head = parts_of(supply, trainee)
    linear = trainee.linear_probe if keep_linear else None
    parts = {"backbone": backbone, "head": head, "cluster_probe": trainee.cluster_probe, "linear_probe": linear}
    return tensors_of(parts)


def _measured(with_: Yardstick, checkpoint: Checkpoint, report: Report) -> dict[str, float]:
    """Measure the model on the validation images as it will predict; nothing comes of a dataset without labels."""
    dataset = with_.validation
    if dataset is None:
        return {}
    model = Segmenter.from_checkpoint(checkpoint, with_.device)
    how = Settings(("cluster", "linear") if model.linear_probe else ("cluster",))
    batch, workers = len_of_batch(with_.supply), with_.config.workers
    counts = evaluate(model, dataset, how, batch, report, workers=workers)
    return {
        f"{dataset.split} {name} {kind}": round(value, 6)
        for name, scores in score_probes(counts, checkpoint.config.cluster_to_class).items()
        for kind, value in (("miou", scores.miou), ("accuracy", scores.accuracy))
        if math.isfinite(value)  # no pixel has a label that counts
    }
