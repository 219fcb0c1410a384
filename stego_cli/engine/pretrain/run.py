"""`stego pretrain` from end to end: images become the weights of a small vision transformer."""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from stego_cli import __version__
from stego_cli.backbones.filterbank import Filterbank
from stego_cli.backbones.stem import FilterbankStem
from stego_cli.backbones.vit import VitBackbone
from stego_cli.backbones.weights import freeze
from stego_cli.checkpoints.released import backbone_hash
from stego_cli.config.model import VitConfig
from stego_cli.data.inputs import collect_inputs
from stego_cli.engine.device import choose_device
from stego_cli.engine.listener import Listener
from stego_cli.engine.pretrain.network import Pretrainee
from stego_cli.engine.pretrain.state import (
    Progress,
    load_run,
    load_words,
    read_progress,
    save_backbone,
    save_run,
    save_words,
)
from stego_cli.engine.pretrain.views import ViewMaker
from stego_cli.engine.pretrain.words import WordMaps, bank_features, read_features, sort_into_words, usable_images
from stego_cli.engine.train.stop import StopRequest, stop_requests
from stego_cli.engine.workplace import workplace
from stego_cli.errors import OutputError, StaleError, StegoError
from stego_cli.files import TEMPORARY, printable, write_text
from stego_cli.progress import ShowsLosses
from stego_cli.report.loss_curve import draw_loss_curve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stego_cli.config.pretrain import PretrainConfig
    from stego_cli.engine.pretrain.network import ViewBatch
    from stego_cli.engine.pretrain.words import Maps
    from stego_cli.progress import Report

RUNS = Path("runs")
STATE = "state.safetensors"
LOG_EVERY = 20  # steps between rows of the history; the only ones that wait for the device
PIECE = 8  # views that go through the network together: more at once is slower on a CPU
BETAS = (0.9, 0.95)
MOST_GRADIENT = 1.0
LEAST_RATE = 0.02  # of the highest, at the end of a round
# Settings on which the network does not depend, or which a run that goes on may change.
FREE = {"workers", "device", "checkpoint_every", "minutes", "overwrite", "out"}
Ending = Literal["done", "minutes", "stopped"]


@dataclass(frozen=True)
class PretrainResult:
    """What `stego pretrain` made.

    Attributes:
        weights: The weight file.
        folder: What belongs to it: state, words, history, picture.
        backbone: What `--backbone` would need to build the network.
        images: How many images it learned from.
        progress: How far it came.
        ending: Why it ended.
        sha256: Of the weights.
        skipped: A line for each image that could not be used.
        seconds: Wall time of this command.
    """

    weights: Path
    folder: Path
    backbone: VitConfig
    images: int
    progress: Progress
    ending: Ending
    sha256: str
    skipped: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        last = self.progress.history[-1] if self.progress.history else {}
        return {
            "weights": printable(self.weights),
            "backbone": self.backbone.model_dump(mode="json"),
            "images": self.images,
            "rounds": self.progress.round + (self.ending == "done"),
            "steps": self.progress.step,
            "ending": self.ending,
            "loss": {name: value for name, value in last.items() if name != "step"},
            "backbone_sha256": self.sha256,
            "skipped": list(self.skipped),
            "seconds": round(self.seconds, 3),
            "config": self.progress.settings,
            "version": __version__,
        }


@dataclass
class _Run:
    """A run at work.

    Attributes:
        config: Its settings.
        paths: Its images.
        device: Where it computes.
        folder: Its files.
        model: What learns.
        optimizer: By which.
        progress: How far it is.
        ends_at: Time by the clock of `time.perf_counter` at which it is to stop.
    """

    config: PretrainConfig
    paths: tuple[Path, ...]
    device: torch.device
    folder: Path
    model: Pretrainee
    optimizer: torch.optim.Optimizer
    progress: Progress
    ends_at: float = math.inf

    @property
    def state(self) -> Path:
        return self.folder / STATE

    @property
    def words(self) -> Path:
        return self.folder / "words.safetensors"

    def save(self) -> None:
        save_run(self.model, self.optimizer, self.progress, self.state)


def pretrain(inputs: Sequence[str | Path], config: PretrainConfig, report: Report) -> PretrainResult:
    """Teach a small vision transformer by images alone, and save its weights.

    Raises:
        StegoError: If no image can be used, the settings do not allow it, or the training goes astray.
        KeyboardInterrupt: After Ctrl-C, once the state is saved.
    """
    started = time.perf_counter()
    device, skipped = choose_device(config.device), Listener(report)
    found = collect_inputs(inputs)
    for each in found.skipped:
        skipped.warn(f"{printable(each.path)} was left out: {each.reason}")
    target = _target(config)
    folder = target.with_suffix(".run")
    with workplace(folder):
        for left in folder.glob(f"{TEMPORARY}*"):  # what a killed run was writing
            left.unlink(missing_ok=True)
        paths = usable_images([image.path for image in found.images], config, skipped)
        run = _open(config, paths, device, folder, report)
        run.ends_at = math.inf if config.minutes is None else started + 60 * config.minutes
        ending = _rounds(run, report)
        if ending != "done":
            why = "stopped" if ending == "stopped" else "time is up"
            same = "the same command without --overwrite" if config.overwrite else "the same command"
            report.note(f"{why} after step {run.progress.step} of round {run.progress.round + 1}; {same} goes on")
        if ending == "stopped":
            raise KeyboardInterrupt
        tensors = run.model.network.state_dict()
        backbone = VitConfig(name=target.stem, architecture=config.architecture)
        save_backbone(tensors, backbone, target)
        sha256 = backbone_hash({f"backbone.{key}": value for key, value in tensors.items()})
        seconds = time.perf_counter() - started
        lines = tuple(skipped.skipped)
        result = PretrainResult(target, folder, backbone, len(paths), run.progress, ending, sha256, lines, seconds)
        record = {**result.to_json(), "history": run.progress.history}
        write_text(folder / "run.json", json.dumps(record, indent=2) + "\n")
        draw_loss_curve(run.progress.history, folder / "losses.png", target.stem)
    return result


def _target(config: PretrainConfig) -> Path:
    """Return where the weights go, before anything long starts.

    Raises:
        OutputError: If something is there already and may not be replaced, or the name has another ending.
    """
    sizes = config.architecture
    target = config.out or RUNS / f"pretrain-vit{sizes.width}x{sizes.depth}-{sizes.patch_size}" / "vit.safetensors"
    name = printable(target)
    if target.suffix != ".safetensors":
        better = printable(target.with_suffix(".safetensors"))
        raise OutputError(f"`{name}` does not end with .safetensors\n\nhint: use --out {better}")
    if target.exists() and not config.overwrite and not _unfinished(target.with_suffix(".run") / STATE, config):
        raise OutputError(f"`{name}` exists\n\nhint: add --overwrite, or choose another file with --out")
    return target


def _unfinished(state: Path, config: PretrainConfig) -> bool:
    """Say whether there is a run to go on with."""
    if not state.exists():
        return False
    progress = read_progress(state)
    return progress.round + 1 < config.rounds or progress.step < config.steps


def _open(config: PretrainConfig, paths: tuple[Path, ...], device: torch.device, folder: Path, report: Report) -> _Run:
    """Start a run, or take up the one that is there unless it is to be overwritten.

    Raises:
        StaleError: If the one that is there was of other images or settings; names them.
    """
    images = "\n".join(f"{printable(path.name)} {path.stat().st_size}" for path in paths)
    settings = {
        **config.model_dump(mode="json", exclude=FREE),
        "images": hashlib.sha256(images.encode()).hexdigest(),
    }
    torch.manual_seed(config.seed)
    model = Pretrainee(config.architecture, config.words).to(device)
    run = _Run(config, paths, device, folder, model, _optimizer(model, config), Progress(settings))
    if config.overwrite:
        run.state.unlink(missing_ok=True)  # or it would be taken up with the words of this run
    elif run.state.exists():
        saved = read_progress(run.state).settings
        changed = [name for name, value in settings.items() if saved.get(name) != value]
        if changed:
            raise StaleError(
                f"the run in `{printable(folder)}` had other {', '.join(changed)}\n\n"
                "hint: go on with the same images and settings, or start anew with --overwrite"
            )
        run.progress = load_run(run.state, model, run.optimizer)
        report.note(f"going on in round {run.progress.round + 1} of {config.rounds} after step {run.progress.step}")
    return run


def _optimizer(model: Pretrainee, config: PretrainConfig) -> torch.optim.Optimizer:
    matrices = [each for each in model.parameters() if each.ndim > 1]
    vectors = [each for each in model.parameters() if each.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=BETAS)


def _rounds(run: _Run, report: Report) -> Ending:
    """Run what is left of the rounds."""
    stem = _stem(run, report)
    while True:
        maps = _words(run, stem, report)
        with stop_requests() as request:
            ending = _steps(run, maps, request, report)
        run.save()
        if ending != "done" or run.progress.round + 1 == run.config.rounds:
            return ending
        _next_round(run, report)


def _words(run: _Run, stem: Maps, report: Report) -> WordMaps:
    """Return the words of the round: those that were saved with it, or new ones."""
    config = run.config
    if run.progress.step:
        words = load_words(run.words, len(run.paths))
    else:
        words = sort_into_words(_taught(run, stem, report), config)
        save_words(words, run.words)
    return WordMaps(run.paths, words, config.resolution, config.architecture.patch_size, stem)


def _taught(run: _Run, stem: Maps, report: Report) -> Maps:
    """Return what the teacher of the round says of every image."""
    if run.progress.round:
        teacher = freeze(VitBackbone(run.model.network))
        found = read_features(run.paths, teacher, run.config, run.device, report)
        run.model.requires_grad_(requires_grad=True).train()
        return found
    bank = Filterbank(even=True).to(run.device)
    return stem or bank_features(run.paths, bank, run.config, run.device, report, fit=True)


def _stem(run: _Run, report: Report) -> Maps:
    """Return what the network's filter bank says of every image, computed once; nothing if it reads pixels.

    A run that goes on takes the scales of the channels from its state.
    """
    stem = run.model.network.patch_embed
    if not isinstance(stem, FilterbankStem):
        return ()
    fresh = not (run.progress.round or run.progress.step)
    return bank_features(run.paths, stem.bank, run.config, run.device, report, fit=fresh)


def _next_round(run: _Run, report: Report) -> None:
    """Keep the network, and give it new things to say: the parts that name words start anew."""
    run.progress.round += 1
    run.progress.step = 0
    report.note(f"round {run.progress.round + 1} of {run.config.rounds}: words of the network itself")
    torch.manual_seed(run.config.seed + run.progress.round)
    fresh = Pretrainee(run.config.architecture, run.config.words).to(run.device)
    fresh.network.load_state_dict(run.model.network.state_dict())
    run.model.load_state_dict(fresh.state_dict())
    run.optimizer = _optimizer(run.model, run.config)
    run.save()


def _steps(run: _Run, maps: WordMaps, request: StopRequest, report: Report) -> Ending:
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


def _update(run: _Run, views: ViewBatch, step: int) -> torch.Tensor:
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


def _log(run: _Run, report: Report) -> None:
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


def _mean_terms(run: _Run) -> tuple[float, float]:
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
