"""The state of a training run on disk: everything that the next step depends on, in one file without pickles."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from stego_cli.engine.saved_state import (
    below,
    optimizer_tensors,
    read_tensors,
    restore_optimizer,
    unusable,
    write_tensors,
)

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from stego_cli.engine.train.step import TrainState

KEY = "stego_training"
FORMAT = 1


@dataclass(frozen=True)
class Measured:
    """What a model was worth after so many steps.

    Attributes:
        step: Steps done.
        values: Scores by name: `score`, and for example `val cluster miou`.
    """

    step: int
    values: dict[str, float]


@dataclass
class Progress:
    """How far a run is, apart from its tensors.

    Attributes:
        step: Steps done, which is the number of the next one.
        seconds: Spent on them, over all starts.
        history: The loss terms now and then: `step`, and means since the row before.
        measured: What was measured, in order.
        kept: The measurement whose model is kept; None before the first.
        refitted: The same of that model with its probes fitted anew; None if they are as trained.
        settings: What the run depends on; a run is gone on with only under the same.
        window: Sums of the loss terms since the last row of the history, and how many steps they are of.
    """

    settings: dict[str, Any]
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    kept: Measured | None = None
    refitted: Measured | None = None
    window: dict[str, Tensor] = field(default_factory=dict)
    window_steps: int = 0

    def unfinished_row(self) -> dict[str, float]:
        """Return the row of the history that the steps since the last one would make. Waits for the device."""
        means = (torch.stack(list(self.window.values())) / self.window_steps).tolist()
        return {"step": self.step, **dict(zip(self.window, means, strict=True))}


def save_state(state: TrainState, progress: Progress, path: Path) -> None:
    """Write a state; it appears whole or not at all.

    Raises:
        OutputError: If it cannot be written; the one that was there stays.
    """
    tensors = {f"model.{name}": value for name, value in state.trainee.state_dict().items()}
    for name, optimizer in state.optimizers.items():
        tensors |= optimizer_tensors(f"optimizer.{name}.", optimizer)
    tensors |= {f"window.{name}": value for name, value in progress.window.items()}
    about = asdict(progress) | {"format": FORMAT}
    del about["window"]
    write_tensors(path, tensors, {KEY: json.dumps(about)})


def read_progress(path: Path) -> Progress:
    """Return how far the run of a state is.

    Raises:
        CheckpointError: If the file is damaged or no state of a run.
    """
    return _decode(path)[0]


def load_state(path: Path, state: TrainState) -> Progress:
    """Put a saved state into a fresh one of the same run.

    Raises:
        CheckpointError: If the file is damaged, or of a run with other sizes or labels.
    """
    progress, tensors = _decode(path)
    had_labels, has_labels = bool(below("model.linear_probe.", tensors)), state.trainee.linear_probe is not None
    if had_labels != has_labels:
        when = {True: "with labels", False: "without labels"}
        raise unusable(path, f"the run was started {when[had_labels]}, and now it is {when[has_labels]}")
    device = state.first_bad.device
    try:
        state.trainee.load_state_dict(below("model.", tensors))
        for name, optimizer in state.optimizers.items():
            restore_optimizer(f"optimizer.{name}.", optimizer, tensors)
    except (RuntimeError, ValueError, KeyError) as error:
        raise unusable(path, "it is of a run with other sizes") from error
    progress.window = {name: value.to(device) for name, value in below("window.", tensors).items()}
    return progress


def _decode(path: Path) -> tuple[Progress, dict[str, Tensor]]:
    metadata, tensors = read_tensors(path)
    try:
        about = json.loads(metadata[KEY])
        if about.pop("format") != FORMAT:
            raise unusable(path, "it was written by another version of stego")
        measured = [Measured(**each) for each in about.pop("measured")]
        kept, refitted = (value and Measured(**value) for value in (about.pop("kept"), about.pop("refitted", None)))
        return Progress(**about, measured=measured, kept=kept, refitted=refitted), tensors
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise unusable(path, "it is no state of a training run, or was changed by hand") from error
