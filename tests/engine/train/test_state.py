"""The state of a training run on disk, as it is found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from stego_cli.config.losses import LossConfig, OptimiserConfig
from stego_cli.config.model import StegoConfig
from stego_cli.engine.train.state import Progress, load_state, read_progress, save_state
from stego_cli.engine.train.step import TrainState, build_train_state
from stego_cli.errors import CheckpointError


def fresh(classes: int | None) -> TrainState:
    return build_train_state(StegoConfig(code_dim=4), LossConfig(), OptimiserConfig(), 5, 2, classes, 0)


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (3, None, "the run was started with labels, and now it is without labels"),
        (None, 3, "the run was started without labels, and now it is with labels"),
    ],
)
def test_labels_that_came_or_went_are_named(before: int | None, now: int | None, words: str, tmp_path: Path) -> None:
    save_state(fresh(before), Progress({}, step=3), tmp_path / "s.safetensors")
    with pytest.raises(CheckpointError, match=words):
        load_state(tmp_path / "s.safetensors", fresh(now))
    assert load_state(tmp_path / "s.safetensors", fresh(before)).step == 3


@pytest.mark.parametrize("size", [0, 4, 1000])
def test_a_state_that_was_cut_short_cannot_be_fetched_again(size: int, tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    save_state(fresh(None), Progress({}, step=3), path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"damaged or cut short\n\nhint: start anew with --overwrite"):
        read_progress(path)
