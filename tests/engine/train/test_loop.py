"""The run of one seed: what is kept of it, however it ends and whatever became of its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stego_cli.checkpoints.native import load_checkpoint
from stego_cli.config.model import FilterbankConfig
from stego_cli.config.train import TrainConfig
from stego_cli.engine.train.run import TrainResult, train_model
from stego_cli.engine.train.state import read_progress
from stego_cli.engine.train.step import TrainState, train_step
from stego_cli.errors import StegoError
from stego_cli.progress import Silence
from support import Heard

MODEL, STATE = Path("m.safetensors"), Path("m.run/state.safetensors")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    draw = np.random.default_rng(0)
    for number in range(6):
        pixels = draw.integers(0, 60, (40, 48, 3), dtype=np.uint8)
        pixels[20:, :, number % 3] += 150
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def train(folder: Path, report: Silence | None = None, **changes: Any) -> TrainResult:
    usual: dict[str, Any] = {
        "backbone": FilterbankConfig(),
        "method": {"kind": "stego", "code_dim": 6},
        "resolution": 32,
        "eval_resolution": 32,
        "workers": 0,
        "device": "cpu",
        "batch_size": 4,
        "steps": 6,
        "classes": 2,
        "features": "memory",
        "out": MODEL,
    }
    return train_model(TrainConfig(**{**usual, "dataset": str(folder), **changes}), report or Silence())


def broken_off_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training end in the middle of a step, with nothing saved after it."""

    def step(state: TrainState, given: Any, now: int, *rest: Any) -> Any:
        if now == number:
            raise SystemExit
        return train_step(state, given, now, *rest)

    monkeypatch.setattr("stego_cli.engine.train.loop.train_step", step)


@pytest.mark.parametrize("steps", [6, 9], ids=["finished", "for more steps"])
@pytest.mark.parametrize("left", [None, b"half a"], ids=["moved away", "damaged"])
def test_a_kept_model_that_is_not_there_any_more_is_not_spoken_of_as_if_it_were(
    photos: Path, steps: int, left: bytes | None
) -> None:
    train(photos, keep="score")
    MODEL.unlink()
    if left is not None:
        MODEL.write_bytes(left)
    heard = Heard()
    result = train(photos, heard, steps=steps, resume=True, keep="score")
    assert any("the model of step 6, is gone or damaged" in note for note in heard.notes)
    load_checkpoint(MODEL)
    progress = result.best.progress
    assert progress.kept is not None
    assert progress.kept.step == steps
    assert [each.step for each in progress.measured] == sorted({6, steps})


def test_the_state_always_says_which_model_is_kept(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_off_at(5, monkeypatch)
    with pytest.raises(SystemExit):
        train(photos, eval_every=2)
    there = read_progress(STATE)
    assert there.step == 4
    assert there.kept == there.measured[-1]
    assert there.kept.step == 4


@pytest.mark.parametrize(
    ("method", "rate"), [({"kind": "stego", "code_dim": 6}, "lr=5e-05"), ({"kind": "dino"}, "probe_lr=0.0005")]
)
def test_after_a_loss_that_is_no_number_the_hint_can_be_typed(
    photos: Path, method: dict[str, Any], rate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(state: TrainState, given: Any, number: int, *rest: Any) -> Any:
        given.features[:] = torch.nan
        return train_step(state, given, number, *rest)

    monkeypatch.setattr("stego_cli.engine.train.loop.train_step", step)
    with pytest.raises(StegoError, match=f"--overwrite --set optimiser.{rate}$"):
        train(photos, method=method)
