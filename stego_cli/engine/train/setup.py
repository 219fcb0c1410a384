"""What a training run works with, found out before anything long starts: images, classes, features, neighbours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from stego_cli.data.datasets.build import available_splits, open_dataset
from stego_cli.data.labels import anonymous_label_space
from stego_cli.engine.backbone_run import extraction, fingerprint, open_run
from stego_cli.engine.device import autocast_dtype
from stego_cli.engine.label_space import choose_label_space
from stego_cli.engine.train.batches import Supply
from stego_cli.engine.train.data import LabelMaps, SalienceMasks, Square, make_sampler
from stego_cli.engine.train.features import DTYPES, choose_for, open_features, open_neighbors
from stego_cli.engine.train.measure import Yardstick
from stego_cli.engine.train.shifts import chosen_shifts
from stego_cli.errors import ConfigError, StegoError
from stego_cli.methods.base import Fitted
from stego_cli.methods.build import build_method

if TYPE_CHECKING:
    from stego_cli.config.losses import LossConfig
    from stego_cli.config.model import LabelSpace, MethodConfig
    from stego_cli.config.train import TrainConfig
    from stego_cli.data.dataset import Dataset
    from stego_cli.engine.backbone_run import BackboneRun
    from stego_cli.engine.train.data import Sampler
    from stego_cli.engine.train.features import Choice
    from stego_cli.engine.train.ranks import Ranks
    from stego_cli.progress import Report

# Settings on which the result does not depend, or which a run that goes on may change.
FREE = {
    "steps",
    "minutes",
    "workers",
    "device",
    "precision",
    "devices",
    "features",
    "eval_every",
    "keep",
    "checkpoint_every",
    "resume",
    "overwrite",
    "out",
    "about",
    "tensorboard",
    "wandb",
    "compile",
    "final_probes",
    "seed",
    "seeds",
    "val_split",
    "eval_resolution",
    "data_dir",
    "dataset",  # what they hold counts, not where they are: see `Plan.settings`
    "weights",
}


@dataclass(frozen=True)
class Plan:
    """What a run is about to do.

    Attributes:
        config: Its settings.
        run: Training images and backbone.
        validation: Labelled images to measure on; None for none.
        space: The classes that labels speak of, or one unnamed class per cluster.
        clusters: Clusters of the cluster probe.
        choice: Where features come from.
        bytes: Size of all features.
    """

    config: TrainConfig
    run: BackboneRun
    validation: Dataset | None
    space: LabelSpace
    clusters: int
    choice: Choice
    bytes: int

    @property
    def settings(self) -> dict[str, Any]:
        """What the result depends on: a run is gone on with only under the same."""
        made = fingerprint(self.run, "maps", DTYPES[self.config.dtype])
        return {**settings_of(self.config), "images": made.images, "weights": made.weights, "clusters": self.clusters}


def make_plan(config: TrainConfig, report: Report) -> Plan:
    """Find out what a run will work with. Nothing is computed or written.

    Raises:
        StegoError: If the dataset, the weights or the settings do not allow it.
    """
    config = _without_idle_terms(config)
    run = open_run(config.model_copy(update={"overwrite": False}), report)
    _check_method(config.method, run.backbone.channels)
    train = run.dataset
    space = choose_label_space(train, config.label_space, config.classes, report)
    clusters = (config.classes or len(space)) + config.extra_clusters
    if not train.is_labelled and config.label_space is None:
        space = anonymous_label_space(clusters)
    if config.loss.use_true_labels and not train.is_labelled:
        raise ConfigError(
            "loss.use_true_labels compares labels, and there are none\n\nhint: leave it out, or add label maps"
        )
    if config.loss.use_salience and not train.has_salience:
        raise ConfigError(
            "loss.use_salience draws positions from masks of what stands out, and there are none\n\n"
            "hint: put a PNG of the same name for each image into `salience/` beside `imgs/`, not 0 where something "
            "stands out; or leave it out"
        )
    choice, size = choose_for(config, run)
    return Plan(config, run, _validation(config, train, report), space, clusters, choice, size)


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that the result of a run depends on, in blocks within blocks, as JSON has them."""
    return _without_idle_terms(config).model_dump(mode="json", exclude=FREE)


def _without_idle_terms(config: TrainConfig) -> TrainConfig:
    """Return the settings without a loss where nothing but probes learns: it would be computed for nobody."""
    if config.method.learns:
        return config
    weights = ("correspondence_weight", "rec_weight", "aug_weight", "crf_weight")
    idle = {**dict.fromkeys(weights, 0.0), "use_true_labels": False, "use_salience": False}
    return config.model_copy(update={"loss": config.loss.model_copy(update=idle), "shifts": "given"})


def _check_method(config: MethodConfig, channels: int) -> None:
    """See that a method that is fitted can be, before features are computed for it.

    Raises:
        StegoError: If it cannot make so many dimensions of so many channels, or needs a package that is not there.
    """
    if not config.learns and isinstance(method := build_method(config, channels), Fitted):
        method.check_ready()


def _validation(config: TrainConfig, train: Dataset, report: Report) -> Dataset | None:
    """Return the labelled images to measure on, uncropped as published; None if there are none."""
    if config.val_split is None:
        return None
    whole = config.model_copy(update={"crop": None})
    try:
        found = open_dataset(whole, config.val_split) if config.val_split in available_splits(whole) else None
    except StegoError as error:
        report.note(f"nothing to measure on: {str(error).partition(chr(10))[0]}")
        return None
    if found is None or not found.is_labelled:
        if not train.is_labelled:  # nobody expects a measurement
            return None
        what = "no labels" if found else f"not there, only {', '.join(available_splits(whole))}"
        report.note(f"split `{config.val_split}`: {what}; the model is measured by its label-free score alone")
        return None
    return found


def make_yardstick(plan: Plan, ranks: Ranks, report: Report) -> tuple[Yardstick, LossConfig]:
    """Compute what training needs, or take what is there, and return what models are measured with, and the loss.

    Raises:
        StegoError: If images, caches or memory do not allow it.
    """
    config, run = plan.config, plan.run
    announce(plan, report)
    features = open_features(config, run, plan.choice, report)
    failed = features.failed if features is not None else ()
    index = open_neighbors(config, run, len(failed), report)
    sampler = make_sampler(len(run.dataset), index, failed, config.neighbors_used, config.batch_size)
    if len(sampler.usable) < config.batch_size:
        report.note(f"{len(sampler.usable)} images can be used, so that batches have {sampler.batch_size} of them")
    square = Square(config.resolution, config.loader_crop, antialias=config.protocol != "paper")
    labels = LabelMaps(run.dataset, square, len(plan.space), report) if run.dataset.is_labelled else None
    supply = Supply(
        run.dataset,
        square,
        _shared(sampler, ranks),
        run.backbone,
        features,
        labels,
        config.loss,
        getattr(config.method, "dropout", 0.0),
        config.seed,
        (ranks.rank, ranks.world),
        extraction(run, "maps").autocast,
        SalienceMasks(run.dataset, square, report) if config.loss.use_salience else None,
    )
    loss = _fitting(config, supply, ranks.device, report)
    return Yardstick(config, supply, plan.validation, plan.space, plan.clusters, ranks.device), loss


def _shared(sampler: Sampler, ranks: Ranks) -> Sampler:
    """Return a sampler whose batches can be shared evenly."""
    even = sampler.batch_size // ranks.world * ranks.world
    if not even:
        raise ConfigError(
            f"{sampler.batch_size} images cannot be shared by {ranks.world} processes\n\nhint: use fewer --devices"
        )
    return replace(sampler, batch_size=even)


def _fitting(config: TrainConfig, supply: Supply, device: torch.device, report: Report) -> LossConfig:
    """Return the loss with what only the images can tell."""
    loss = config.loss
    if len(supply.sampler.usable) == 1:
        report.note("a single image has no neighbours and no others: it is compared with itself alone")
        return loss.model_copy(update={"knn_weight": 0.0, "random_weight": 0.0})
    if config.shifts == "auto":
        found = chosen_shifts(supply, loss, config.seed, device, report)
        return loss.model_copy(update=found)
    return loss


def head_autocast(config: TrainConfig, device: torch.device) -> torch.dtype | None:
    """Return the type of the head's arithmetic: bfloat16 where that is meant, else float32.

    Half precision is for the backbone alone: its range is too small for gradients without scaling.
    """
    kind = autocast_dtype(config.precision, device, exact=config.protocol == "paper")
    return torch.bfloat16 if kind is torch.bfloat16 else None


def announce(plan: Plan, report: Report) -> None:
    """Say what is about to be done with which images."""
    run, config = plan.run, plan.config
    labels = "labels measure the result and name the clusters, they never train the code"
    if config.loss.use_true_labels:
        labels = "loss.use_true_labels: labels train the code, too, which makes this an upper bound"
    if not run.dataset.is_labelled:
        labels = "there are no labels" if plan.validation is None else "only the latter have labels"
    report.note(
        f"{len(run.dataset)} images of {run.dataset.name} ({run.dataset.split}) to form {plan.clusters} clusters from, "
        f"{len(plan.validation or ())} to measure on; {labels}"
    )
    report.note(f"features of {config.backbone.name} at {config.resolution}x{config.resolution}: {plan.choice.why}")
    if not config.method.learns:
        report.note(f"method {config.method.kind} has nothing to train: only the probes on its code learn")
