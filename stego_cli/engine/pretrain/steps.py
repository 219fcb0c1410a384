"""The steps of a round of pretraining."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from stego_cli.backbones.vit import VitBackbone
from stego_cli.engine.pretrain.views import ViewMaker
from stego_cli.errors import StegoError
from stego_cli.files import printable
from stego_cli.progress import ShowsLosses

if TYPE_CHECKING:
    from stego_cli.config.pretrain import PretrainConfig
    from stego_cli.engine.pretrain.network import ViewBatch
    from stego_cli.engine.pretrain.start import Run
    from stego_cli.engine.pretrain.words import WordMaps
    from stego_cli.engine.train.stop import StopRequest
    from stego_cli.progress import Report

LOG_EVERY = 20  # steps between rows of the history; the only ones that wait for the device
PIECE = 8  # views that go through the network together: more at once is slower on a CPU
MOST_GRADIENT = 1.0
LEAST_RATE = 0.02  # of the highest, at the end of a round
Ending = Literal["done", "minutes", "stopped"]


def run_steps(run: Run, maps: WordMaps, request: StopRequest, report: Report) -> Ending:
    """Update the network until the round is over, the time is up, or somebody wants it to stop.

    Raises:
        StegoError: If a loss is no number; the last saved state stays.
    """
    config, progress = run.config, run.progress
    maker = ViewMaker(config, maps, progress.round, VitBackbone.mean, VitBackbone.std)
    steps = range(progress.step, config.steps)
    doing = f"Round {progress.round + 1} of {config.rounds}"
    batches = maker.batches(progress.step, config.steps)
    for step, views in zip(steps, report.track(batches, doing, len(steps)), strict=True):
        began = time.perf_counter()
        progress.window.append(_update(run, views.to(run.device), step))
        progress.step = step + 1
        progress.seconds += time.perf_counter() - began
        if progress.step % LOG_EVERY == 0 or progress.step == config.steps:
            _log(run, report)
        if request.wanted:
            return "stopped"
        if time.perf_counter() > run.ends_at:
            return "minutes"
        if progress.step % config.checkpoint_every == 0 and progress.step < config.steps:
            _mean_terms(run)
            run.save()
    return "done"


def _update(run: Run, views: ViewBatch, step: int) -> torch.Tensor:
    """Take one step, and return the two loss terms (2,), without waiting for the device."""
    config, maker = run.config, run.model
    patches = views.order.shape[1]
    visible = min(max(round(patches * config.visible), 1), patches - 1)
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(step, config)
    run.optimizer.zero_grad()
    terms = torch.zeros(2, device=run.device)
    for piece in views.split(PIECE if run.device.type == "cpu" else config.batch_size):
        share = len(piece.images) / config.batch_size
        hidden, own = maker(piece, visible)
        ((hidden + config.visible_weight * own) * share).backward()
        terms += share * torch.stack([hidden.detach(), own.detach()])
    nn.utils.clip_grad_norm_(run.model.parameters(), MOST_GRADIENT)
    run.optimizer.step()
    return terms


def learning_rate(step: int, config: PretrainConfig) -> float:
    """Return the rate of a step: up in a straight line, then down along half a cosine."""
    rise = min(1.0, (step + 1) / max(config.warmup, 1))
    fall = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return config.learning_rate * rise * (LEAST_RATE + (1 - LEAST_RATE) * fall)


def _log(run: Run, report: Report) -> None:
    """Add a row to the history, and show it.

    Raises:
        StegoError: If a loss is no number.
    """
    hidden, own = _mean_terms(run)
    run.progress.window.clear()
    done = run.progress.round * run.config.steps + run.progress.step
    terms = {"hidden": hidden, "visible": own} if run.config.visible_weight else {"hidden": hidden}
    run.progress.history.append({"step": done, **terms})
    if isinstance(report, ShowsLosses):
        report.losses(done, terms)


def _mean_terms(run: Run) -> tuple[float, float]:
    """Return the means of both loss terms since the last row of the history; 0 right after it.

    Raises:
        StegoError: If one is no number, so that no state with such weights is saved.
    """
    if not run.progress.window:
        return 0.0, 0.0
    hidden, own = torch.stack([each.cpu() for each in run.progress.window]).mean(dim=0).tolist()
    if not (math.isfinite(hidden) and math.isfinite(own)):
        kept = f"; the last good state is in `{printable(run.state)}`" if run.state.exists() else ""
        raise StegoError(
            f"the loss is no finite number in round {run.progress.round + 1}, step {run.progress.step}{kept}\n\n"
            "hint: use a smaller learning_rate, or a longer warmup"
        )
    return hidden, own
