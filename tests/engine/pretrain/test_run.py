"""`stego pretrain` from end to end on a few small images."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from stego_cli.backbones.weights import load_backbone
from stego_cli.checkpoints.native import read_safetensors
from stego_cli.config.fit import FitConfig
from stego_cli.config.model import VitArchitecture
from stego_cli.config.pretrain import PretrainConfig
from stego_cli.engine.fit_model import fit_model
from stego_cli.engine.pretrain.run import pretrain
from stego_cli.engine.pretrain.steps import learning_rate
from stego_cli.errors import CheckpointError, OutputError, StaleError, StegoError
from stego_cli.progress import Silence

Stem = Literal["pixels", "filterbank"]
SIZES = VitArchitecture(patch_size=8, width=24, depth=1, heads=2, image_size=32)
SMALL = PretrainConfig(
    architecture=SIZES,
    rounds=2,
    steps=6,
    words=4,
    batch_size=4,
    visible_weight=0.5,
    resolution=40,
    warmup=2,
    checkpoint_every=2,
    workers=0,
    device="cpu",
)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(5):
        pixels = draw.integers(0, 30, (48, 56, 3), dtype=np.uint8)
        pixels[: 20 + number, :, 2] += 200  # a blue sky
        pixels[30:, : 20 + 4 * number, 0] += 150  # and something red on the ground
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def with_(**values: object) -> PretrainConfig:
    return SMALL.model_copy(update=values)


def sizes(stem: Stem) -> VitArchitecture:
    return SIZES.model_copy(update={"stem": stem})


def tensors(path: str | Path) -> dict[str, torch.Tensor]:
    return read_safetensors(Path(path))[1]


def same(one: str, other: str) -> bool:
    a, b = tensors(one), tensors(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("stem", ["pixels", "filterbank"])
def test_the_file_is_a_backbone_for_the_other_commands(photos: Path, stem: Stem) -> None:
    result = pretrain(["photos"], with_(architecture=sizes(stem), out=Path("small.safetensors")), Silence())
    assert result.ending == "done"
    assert result.images == 5
    config = FitConfig.model_validate({"dataset": "photos", "backbone": "small.safetensors", "classes": 2})
    backbone = load_backbone(config.backbone, config.weights)
    assert backbone(torch.zeros(1, 3, 16, 24)).shape == (1, 24, 2, 3)
    fitted = fit_model(config.model_copy(update={"out": Path("model.safetensors"), "resolution": 40}), Silence())
    again = FitConfig.model_validate({"dataset": "photos", "backbone": str(fitted.checkpoint_path), "classes": 2})
    image = torch.ones(1, 3, 16, 16)
    assert torch.equal(load_backbone(again.backbone, again.weights)(image), backbone(image))


def test_it_learns(photos: Path) -> None:
    result = pretrain(["photos"], with_(steps=100, rounds=1, checkpoint_every=60, learning_rate=3e-3), Silence())
    history = result.progress.history
    assert history[-1]["visible"] < 0.8 * history[0]["visible"]
    assert (result.folder / "losses.png").stat().st_size > 1000


def test_only_terms_that_teach_are_shown(photos: Path) -> None:
    result = pretrain(["photos"], with_(visible_weight=0.0), Silence())
    assert all(row.keys() == {"step", "hidden"} for row in result.progress.history)


def test_the_same_seed_gives_the_same_network_and_another_another(photos: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        pretrain(["photos"], with_(seed=seed, out=Path(f"{name}.safetensors")), Silence())
    assert same("a.safetensors", "b.safetensors")
    assert not same("a.safetensors", "c.safetensors")


@pytest.mark.parametrize("stem", ["pixels", "filterbank"])
def test_time_that_is_up_leaves_a_file_and_the_same_command_goes_on(photos: Path, stem: Stem) -> None:
    config = with_(architecture=sizes(stem), out=Path("cut.safetensors"))
    first = pretrain(["photos"], config.model_copy(update={"minutes": 1e-9}), Silence())
    assert first.ending == "minutes"
    assert Path("cut.safetensors").exists()
    assert pretrain(["photos"], config, Silence()).ending == "done"
    pretrain(["photos"], with_(architecture=sizes(stem), out=Path("whole.safetensors")), Silence())
    assert same("cut.safetensors", "whole.safetensors")


CHILD = """
import sys
from pathlib import Path
from stego_cli.config.pretrain import PretrainConfig
from stego_cli.engine.pretrain.run import pretrain
from stego_cli.progress import Silence
pretrain(["photos"], PretrainConfig.model_validate_json(sys.argv[1]), Silence())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(photos: Path, number: signal.Signals) -> None:
    config = with_(steps=150, out=Path("cut.safetensors"))
    command = [sys.executable, "-c", CHILD, config.model_dump_json()]
    child = subprocess.Popen(command, cwd=photos.parent, env={**os.environ, "OMP_NUM_THREADS": "1"})
    state = photos.parent / "cut.run" / "state.safetensors"
    ends = time.monotonic() + 120
    while not state.exists() and time.monotonic() < ends:
        time.sleep(0.02)
    child.send_signal(number)
    child.wait(60)
    assert state.exists()
    assert not Path("cut.safetensors").exists()
    torch.set_num_threads(1)
    assert pretrain(["photos"], config, Silence()).ending == "done"
    pretrain(["photos"], with_(steps=150, out=Path("whole.safetensors")), Silence())
    assert same("cut.safetensors", "whole.safetensors")


def test_what_is_there_is_not_replaced_unasked(photos: Path) -> None:
    config = with_(out=Path("a.safetensors"))
    pretrain(["photos"], config, Silence())
    with pytest.raises(OutputError, match="--overwrite"):
        pretrain(["photos"], config, Silence())
    pretrain(["photos"], config.model_copy(update={"overwrite": True}), Silence())
    with pytest.raises(OutputError, match="does not end with"):
        pretrain(["photos"], with_(out=Path("a.pth")), Silence())


def test_a_run_of_other_settings_is_not_gone_on_with(photos: Path) -> None:
    config = with_(out=Path("a.safetensors"), minutes=1e-9)
    pretrain(["photos"], config, Silence())
    with pytest.raises(StaleError, match="words"):
        pretrain(["photos"], config.model_copy(update={"words": 5}), Silence())


def test_images_that_do_not_fit_into_memory_are_counted(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stego_cli.engine.pretrain.words.fits_in_memory", lambda needed: needed < 1000)
    with pytest.raises(StegoError, match="the features of 5 images take"):
        pretrain(["photos"], SMALL, Silence())


def test_a_damaged_state_says_how_to_go_on(photos: Path) -> None:
    config = with_(out=Path("a.safetensors"), minutes=1e-9)
    pretrain(["photos"], config, Silence())
    state = Path("a.run/state.safetensors")
    state.write_bytes(state.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="hint: start anew with --overwrite"):
        pretrain(["photos"], config, Silence())


def test_what_a_killed_run_was_writing_is_removed(photos: Path) -> None:
    left = Path("a.run/.writing-state")
    left.parent.mkdir()
    left.touch()
    pretrain(["photos"], with_(out=Path("a.safetensors")), Silence())
    assert not left.exists()


def test_starting_anew_leaves_no_state_that_the_new_words_do_not_belong_to(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_(out=Path("a.safetensors"), minutes=1e-9)
    pretrain(["photos"], config, Silence())

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # after its words, before its first state
        patch.setattr("stego_cli.engine.pretrain.run.run_steps", stopped)
        pretrain(["photos"], config.model_copy(update={"overwrite": True, "seed": 1}), Silence())
    Path("a.safetensors").unlink()
    pretrain(["photos"], with_(out=Path("a.safetensors")), Silence())
    pretrain(["photos"], with_(out=Path("b.safetensors")), Silence())
    assert same("a.safetensors", "b.safetensors")


def test_a_broken_image_is_left_out_and_named(photos: Path) -> None:
    (photos / "bad.jpg").write_bytes(b"\xff\xd8 cut off")
    result = pretrain(["photos"], SMALL, Silence())
    assert result.images == 5
    assert "bad.jpg" in result.skipped[0]


def test_too_few_patches_for_the_words(photos: Path) -> None:
    with pytest.raises(StegoError, match=r"(?s)30 patches in 1 images, and 400 words .* at most 30"):
        pretrain(["photos/0.png"], with_(words=400), Silence())


def test_the_rate_rises_and_falls() -> None:
    config = with_(steps=100, warmup=10, learning_rate=1.0)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == max(rates[8:12])
    assert rates[-1] == pytest.approx(0.02, abs=0.01)


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_state(photos: Path) -> None:
    # One update at such a rate leaves weights whose activations overflow.
    config = with_(steps=60, warmup=0, learning_rate=1e30, checkpoint_every=3, out=Path("a.safetensors"))
    with pytest.raises(StegoError, match="no finite number") as caught:
        pretrain(["photos"], config, Silence())
    assert not Path("a.safetensors").exists()
    state = Path("a.run/state.safetensors")
    assert ("the last good state" in str(caught.value)) == state.exists()
    assert not state.exists() or all(bool(each.isfinite().all()) for each in tensors(state).values())
