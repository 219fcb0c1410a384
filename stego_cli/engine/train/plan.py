"""`stego train --dry-run`: what would happen, and about how long it would take, without writing anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from stego_cli.engine.backbone_run import fingerprint, store_place
from stego_cli.engine.device import choose_device
from stego_cli.engine.train.features import DTYPES
from stego_cli.engine.train.fitting import for_probes_alone
from stego_cli.engine.train.setup import make_plan
from stego_cli.engine.train.start import target_of
from stego_cli.engine.train.step import build_train_state
from stego_cli.engine.train.timing import backbone_seconds, step_seconds
from stego_cli.errors import StegoError
from stego_cli.features.store import FeatureStore
from stego_cli.files import printable
from stego_cli.methods.stego.draws import draw_step, plan_draws
from stego_cli.methods.stego.step import StepInput

if TYPE_CHECKING:
    from stego_cli.config.train import TrainConfig
    from stego_cli.engine.train.setup import Plan
    from stego_cli.progress import Report


@dataclass(frozen=True)
class TrainPlan:
    """What `stego train` would do.

    Attributes:
        facts: In words, by name.
        feature_bytes: Size of all feature maps.
        parameters: Numbers that are trained.
        step_seconds: Measured time of one step on made-up features.
        seconds: Estimated time of everything, measurements apart.
    """

    facts: tuple[tuple[str, str], ...]
    feature_bytes: int
    parameters: int
    step_seconds: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "dry_run": True,
            **dict(self.facts),
            "feature_bytes": self.feature_bytes,
            "parameters": self.parameters,
            "step_seconds": round(self.step_seconds, 5),
            "seconds": round(self.seconds, 1),
        }


def plan_training(config: TrainConfig, report: Report) -> TrainPlan:
    """Say what `train_model` would do; time a few steps on made-up features, and write nothing.

    Raises:
        StegoError: If the dataset, the weights or the settings would not allow it.
    """
    config = config.model_copy(update={"device": str(choose_device(config.device))})
    plan = make_plan(config, report)
    batch = min(config.batch_size, len(plan.run.dataset))
    per_step, parameters = _timed_steps(plan, batch)
    per_image = backbone_seconds(plan.run.backbone, config.resolution, min(batch, 4))
    missing = 0 if _cached(plan) else len(plan.run.dataset)
    # One pass serves features and neighbours; at every step, live features are of images and of their neighbours.
    passes = missing * per_image
    if plan.choice.mode == "live":
        passes, per_step = len(plan.run.dataset) * per_image, per_step + 2 * batch * per_image
    seconds = passes + config.seeds * config.steps * per_step
    return TrainPlan(_facts(plan, batch, parameters, per_step), plan.bytes, parameters, per_step, seconds)


def _facts(plan: Plan, batch: int, parameters: int, per_step: float) -> tuple[tuple[str, str], ...]:
    config, run = plan.config, plan.run
    made = fingerprint(run, "maps", DTYPES[config.dtype])
    labels = f"{len(plan.space)} classes" if run.dataset.is_labelled else "none"
    measured = (
        f"{len(plan.validation)} images of `{plan.validation.split}`" if plan.validation else "no labels to do so"
    )
    shape = "x".join(map(str, made.shape))
    model = target_of(config, run.dataset)
    seeds = f", for each of {config.seeds} seeds" if config.seeds > 1 else ""
    return (
        ("images", f"{len(run.dataset)} of {run.dataset.name}, {run.dataset.split}"),
        ("labels", labels),
        ("feature maps", f"{made.count} x {shape} {made.dtype}: {plan.choice.why}"),
        ("cache", "there and complete" if _cached(plan) else "not there yet"),
        ("clusters", str(plan.clusters)),
        ("parameters", f"{parameters} to train"),
        (
            "steps",
            f"{config.steps} with {batch} images each{seeds}, {1000 * per_step:.1f} ms per step on {config.device}",
        ),
        ("measured on", measured),
        ("model", printable(model) + (" (there is one)" if model.exists() else "")),
    )


def _cached(plan: Plan) -> bool:
    run = plan.run
    try:
        FeatureStore.open(
            store_place(run.config, run.dataset, "maps"), fingerprint(run, "maps", DTYPES[plan.config.dtype])
        )
    except StegoError:
        return False
    return True


def _timed_steps(plan: Plan, batch: int) -> tuple[float, int]:
    """Return the median seconds of a step, and how many numbers it trains."""
    config, device = plan.config, torch.device(plan.config.device)
    channels, method = plan.run.backbone.channels, config.method
    if not method.learns:  # probes alone are trained, on code that is computed once
        channels, method = method.code_dim or channels, for_probes_alone(config).method
    classes = len(plan.space) if plan.run.dataset.is_labelled else None
    state = build_train_state(method, config.loss, config.optimiser, channels, plan.clusters, classes, config.seed)
    state.to(device)
    draws = draw_step(plan_draws(config.loss, 0.0, batch, channels), config.seed, 0)
    side = config.resolution // plan.run.backbone.patch_size
    features = torch.randn(batch, channels, side, side)
    square = (batch, config.resolution, config.resolution)
    optional = {
        "labels": torch.zeros(square, dtype=torch.uint8) if classes else None,
        "neighbor_labels": torch.zeros(square, dtype=torch.uint8) if config.loss.use_true_labels else None,
        "images": torch.randn(batch, 3, *square[1:]) if config.loss.crf_weight > 0 else None,
        "augmented_features": features if config.loss.aug_weight > 0 else None,
        "augmented_coords": torch.zeros(*square, 2) if config.loss.aug_weight > 0 else None,
        "salience": torch.ones(square, dtype=torch.bool) if config.loss.use_salience else None,
        "neighbor_salience": torch.ones(square, dtype=torch.bool) if config.loss.use_salience else None,
    }
    step = StepInput(features, draws, neighbor_features=features.flip(0), **optional).to(device)
    return step_seconds(state, step), sum(each.numel() for each in state.trainee.parameters())
