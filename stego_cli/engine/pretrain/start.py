"""A run of `stego pretrain` before its first step: where it writes, and whether it goes on with one that is there."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from stego_cli.catalog.models import RUNS
from stego_cli.engine.pretrain.network import Pretrainee
from stego_cli.engine.pretrain.state import Progress, load_run, read_progress, save_run
from stego_cli.errors import OutputError, StaleError
from stego_cli.files import printable

if TYPE_CHECKING:
    from pathlib import Path

    from stego_cli.config.pretrain import PretrainConfig
    from stego_cli.progress import Report

STATE = "state.safetensors"
BETAS = (0.9, 0.95)
# Settings on which the network does not depend, or which a run that goes on may change.
FREE = {"workers", "device", "checkpoint_every", "minutes", "overwrite", "out"}


@dataclass
class Run:
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
        """What its next step depends on."""
        return self.folder / STATE

    @property
    def words(self) -> Path:
        """The words of its round."""
        return self.folder / "words.safetensors"

    def save(self) -> None:
        """Write its state, whole or not at all."""
        save_run(self.model, self.optimizer, self.progress, self.state)


def target_of(config: PretrainConfig) -> Path:
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


def open_run(
    config: PretrainConfig, paths: tuple[Path, ...], device: torch.device, folder: Path, report: Report
) -> Run:
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
    run = Run(config, paths, device, folder, model, optimizer_of(model, config), Progress(settings))
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


def optimizer_of(model: Pretrainee, config: PretrainConfig) -> torch.optim.Optimizer:
    """Return a fresh AdamW; only matrices decay."""
    matrices = [each for each in model.parameters() if each.ndim > 1]
    vectors = [each for each in model.parameters() if each.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=BETAS)
