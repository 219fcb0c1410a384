"""One cell: probes, or a head and probes, trained on cached features, measured, and made into a record and a model."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from stego_cli import __version__
from stego_cli.checkpoints.native import Checkpoint, save_checkpoint
from stego_cli.checkpoints.released import backbone_hash
from stego_cli.config.model import About, DinoConfig, ModelConfig
from stego_cli.engine.ablate.ground import provenance_of, without_head
from stego_cli.engine.ablate.measuring import HEADS, Trained, measure_cell
from stego_cli.engine.ablate.projection import fitted_method, is_fixed, is_slow, projected, slow_code
from stego_cli.engine.train.batches import prepared_steps
from stego_cli.engine.train.measure import ALPHA, model_tensors, name_clusters
from stego_cli.engine.train.ranks import InType
from stego_cli.engine.train.setup import head_autocast
from stego_cli.engine.train.step import build_train_state, reset_probes, train_step
from stego_cli.errors import StegoError
from stego_cli.progress import Silence

if TYPE_CHECKING:
    from pathlib import Path

    from stego_cli.config.ablate import AblateConfig
    from stego_cli.config.model import MethodConfig
    from stego_cli.engine.ablate.grid import Cell
    from stego_cli.engine.ablate.ground import OpenGround
    from stego_cli.engine.ablate.validation import Group
    from stego_cli.engine.train.batches import Supply
    from stego_cli.engine.train.step import TrainState
    from stego_cli.methods.base import Method
    from stego_cli.metrics.scores import Scores


@dataclass(frozen=True)
class Start:
    """What the training of a cell starts from.

    Attributes:
        supply: What steps are made from; its features may be codes already.
        method: What is built anew for the training; None trains on codes.
        fitted: A method that is fitted; None for one that is trained.
        groups: The images to measure, with their features, or with their codes.
    """

    supply: Supply
    method: MethodConfig | None
    fitted: Method | None
    groups: tuple[Group, ...]


def start_of(config: AblateConfig, ground: OpenGround, cell: Cell) -> Start:
    """Return what a cell's training starts from.

    A method that is fitted, or does nothing, gives the same code at every step. That code is computed once, and
    trained on as if it were the features of a backbone without a head.

    Raises:
        StegoError: If a method cannot be fitted.
    """
    method = config.method_config(cell.method, cell.dim)
    seeded = replace(ground.supply, seed=cell.seed)
    if method.learns:
        supply = replace(seeded, dropout=getattr(method, "dropout", 0.0))
        return Start(supply, method, None, ground.groups)
    supply = replace(seeded, loss=without_head(ground.supply.loss), dropout=0.0)
    fitted = fitted_method(ground, method, cell.seed)
    if is_slow(method):
        slow = slow_code(ground, method, Silence())
        return Start(replace(supply, features=slow.train), None, fitted, slow.groups)
    if is_fixed(method):
        return Start(replace(supply, features=projected(ground, fitted)), None, fitted, ground.groups)
    return Start(supply, method, fitted, ground.groups)


@torch.enable_grad()
def train_cell(config: AblateConfig, ground: OpenGround, cell: Cell) -> Trained:
    """Train what there is to train.

    Raises:
        StegoError: If a loss is no number, or features cannot be read.
    """
    start = start_of(config, ground, cell)
    state = _fresh(config, ground, start, cell)
    if start.fitted is not None and start.method is not None:
        state.trainee.objective.head = start.fitted
    _steps(config, ground, state, start.supply)
    own = state.trainee.objective.head.eval()
    fitted = start.fitted or own
    return Trained(state.trainee, fitted if start.groups is ground.groups else own, fitted, start.groups)


def _fresh(config: AblateConfig, ground: OpenGround, start: Start, cell: Cell) -> TrainState:
    backbone = ground.plan.run.backbone
    state = build_train_state(
        start.method or DinoConfig(),
        start.supply.loss,
        config.train.optimiser,
        backbone.channels if start.method else cell.dim,
        ground.plan.clusters,
        len(ground.plan.space),
        cell.seed,
    )
    state.to(ground.device)
    kind = head_autocast(ground.plan.config, ground.device)
    if kind is not None:
        state.model = InType(state.trainee, kind)
    return state


def _steps(config: AblateConfig, ground: OpenGround, state: TrainState, supply: Supply) -> None:
    """Do all steps.

    Raises:
        StegoError: If a loss or a gradient was no finite number; names the step.
    """
    workers = min(config.workers, 1) if ground.device.type == "cpu" else config.workers
    for prepared in prepared_steps(supply, 0, config.train.steps, workers, ground.device):
        if prepared.number == config.train.reset_probes_at and supply.loss.correspondence_weight > 0:
            reset_probes(state, supply.seed)
        train_step(state, supply.given(prepared, ground.device), prepared.number)
    if (bad := state.bad_step()) is not None:
        raise StegoError(
            f"the loss or its gradient was no finite number at step {bad}\n\n"
            "hint: try a smaller --set train.optimiser.lr or train.optimiser.probe_lr"
        )


def run_cell(config: AblateConfig, ground: OpenGround, cell: Cell, keep: Path | None = None) -> dict[str, Any]:
    """Train and measure a cell; return what the record of it holds beside its name and its settings.

    Args:
        config: Settings of the grid.
        ground: Its ground.
        cell: Which.
        keep: Model file to save; None saves none.

    Raises:
        StegoError: If it cannot be done.
    """
    started = time.perf_counter()
    trained = train_cell(config, ground, cell)
    between = time.perf_counter()
    _, scores = measure_cell(config, ground, trained)
    if keep is not None:
        save_checkpoint(model_of(config, ground, cell, trained, scores), keep)
    end = time.perf_counter()
    names = ground.plan.space.names
    return {
        **{head: scores[head].as_json(names) if head in scores else None for head in HEADS},
        "method_config": config.method_config(cell.method, cell.dim).model_dump(mode="json"),
        "loss": ground.supply.loss.model_dump(mode="json") if ground.supply.loss.correspondence_weight else None,
        "provenance": provenance_of(config, ground.plan),
        "seconds": {
            "train": round(between - started, 3),
            "measure": round(end - between, 3),
            "total": round(end - started, 3),
        },
    }


def model_of(
    config: AblateConfig, ground: OpenGround, cell: Cell, trained: Trained, scores: dict[str, Scores]
) -> Checkpoint:
    """Return the model of a cell, which `stego predict` and `stego eval` take."""
    plan = ground.plan
    on_features = replace(ground.supply, labels=ground.labels, seed=cell.seed)
    trainee = trained.trainee
    trainee.objective.head = trained.method
    assignment = name_clusters(trainee, on_features, plan.clusters, len(plan.space), ground.device)
    tensors = model_tensors(on_features, trainee, keep_linear=assignment is not None)
    split = config.val_split
    about = About(
        title=f"{cell.method} of {cell.dim} dimensions on {ground.plan.config.backbone.name} features",
        trained_on=f"{plan.run.dataset.name}, {plan.run.dataset.split}: {len(plan.run.dataset)} images",
        source="stego ablate run",
        stego_version=__version__,
        backbone_sha256=backbone_hash(tensors),
        seed=cell.seed,
        scores={
            f"{split} {head.replace('_', ' ')} {name}": round(value, 6)
            for head, each in scores.items()
            for name, value in (("miou", each.miou), ("accuracy", each.accuracy))
            if math.isfinite(value)
        },
    )
    model = ModelConfig(
        backbone=plan.config.backbone,
        method=config.method_config(cell.method, cell.dim),
        num_clusters=plan.clusters,
        label_space=plan.space,
        has_linear_probe=assignment is not None,
        alpha=ALPHA,
        cluster_to_class=None if assignment is None else tuple(assignment.tolist()),
        resolution=config.train.eval_resolution,
        about=about,
    )
    return Checkpoint(model, tensors)
