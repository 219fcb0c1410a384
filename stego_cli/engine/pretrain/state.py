"""A pretraining run on disk: what its next step depends on, and the words of the round that it is in."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stego_cli.config.backbone_file import BACKBONE_KEY
from stego_cli.engine.saved_state import (
    below,
    optimizer_tensors,
    read_tensors,
    restore_optimizer,
    unusable,
    write_tensors,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from stego_cli.config.model import VitConfig
    from stego_cli.engine.pretrain.network import Pretrainee

KEY = "stego_pretraining"


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        settings: What it depends on; it is gone on with only under the same.
        round: Number of the round that it is in, from 0.
        step: Steps done in that round.
        seconds: Spent so far, over all starts.
        history: Means of the loss terms since the row before, with `step` counted over all rounds.
        window: The terms (2,) of every step since that row.
    """

    settings: dict[str, Any]
    round: int = 0
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    window: list[Tensor] = field(default_factory=list)


def save_run(model: Pretrainee, optimizer: torch.optim.Optimizer, progress: Progress, path: Path) -> None:
    """Write the state of a run; it appears whole or not at all.

    Raises:
        OutputError: If it cannot be written; the one that was there stays.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= optimizer_tensors("optimizer.", optimizer)
    tensors["window"] = torch.stack(progress.window) if progress.window else torch.empty(0, 2)
    about = asdict(replace(progress, window=[]))
    del about["window"]
    write_tensors(path, tensors, {KEY: json.dumps(about)})


def read_progress(path: Path) -> Progress:
    """Return how far the run of a state is.

    Raises:
        CheckpointError: If the file is damaged or no state of a run.
    """
    return _decode(path)[0]


def load_run(path: Path, model: Pretrainee, optimizer: torch.optim.Optimizer) -> Progress:
    """Put a saved state into a fresh network and optimiser of the same run.

    Raises:
        CheckpointError: If the file is damaged, or of a run with other sizes.
    """
    progress, tensors = _decode(path)
    try:
        model.load_state_dict(below("model.", tensors))
        restore_optimizer("optimizer.", optimizer, tensors)
    except (RuntimeError, ValueError, KeyError) as error:
        raise unusable(path, "it is of a run with other sizes") from error
    return progress


def save_words(words: Sequence[NDArray[np.int32]], path: Path) -> None:
    """Write the words of a round, so that a run that goes on need not find them again."""
    tensors = {str(number): torch.from_numpy(each) for number, each in enumerate(words)}
    write_tensors(path, tensors, {KEY: json.dumps({"images": len(words)})})


def load_words(path: Path, images: int) -> tuple[NDArray[np.int32], ...]:
    """Read the words of a round, (h, w) for each of so many images.

    Raises:
        CheckpointError: If the file is damaged, or of other images.
    """
    metadata, tensors = read_tensors(path)
    try:
        about = json.loads(metadata[KEY])
        words = tuple(np.asarray(tensors[str(number)]) for number in range(about["images"]))
    except (KeyError, TypeError, ValueError) as error:
        raise unusable(path, "it holds no words, or was changed by hand") from error
    if len(words) != images:
        raise unusable(path, f"it holds the words of {len(words)} images, and there are {images}")
    return words


def save_backbone(tensors: dict[str, Tensor], config: VitConfig, path: Path) -> None:
    """Write a network in half precision, with its sizes, as one weight file that `--backbone FILE` takes.

    Raises:
        OutputError: If it cannot be written.
    """
    write_tensors(
        path, {name: value.half() for name, value in tensors.items()}, {BACKBONE_KEY: config.model_dump_json()}
    )


def _decode(path: Path) -> tuple[Progress, dict[str, Tensor]]:
    metadata, tensors = read_tensors(path)
    try:
        return Progress(**json.loads(metadata[KEY]), window=list(tensors.pop("window"))), tensors
    except (KeyError, TypeError, ValueError) as error:
        raise unusable(path, "it is no state of a pretraining run, or was changed by hand") from error
