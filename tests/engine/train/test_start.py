"""Where a run goes: each set of settings has a folder of its own below `runs/`, and finds it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stego_cli.config.model import FilterbankConfig
from stego_cli.config.train import TrainConfig
from stego_cli.engine.train.plan import plan_training
from stego_cli.engine.train.run import TrainResult, train_model
from stego_cli.engine.train.setup import announce, make_plan, settings_of
from stego_cli.errors import OutputError, StegoError
from stego_cli.progress import Silence
from support import Heard

BASE: dict[str, Any] = {
    "dataset": "photos",
    "backbone": FilterbankConfig(),
    "method": {"kind": "stego", "code_dim": 4},
    "classes": 3,
    "resolution": 32,
    "workers": 0,
    "device": "cpu",
    "batch_size": 2,
    "steps": 2,
    "features": "memory",
}
FIRST = Path("runs/train-photos-filterbank/model.safetensors")
SECOND = Path("runs/train-photos-filterbank-2/model.safetensors")


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.fromarray(draw.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def train(**settings: Any) -> TrainResult:
    return train_model(TrainConfig.model_validate({**BASE, **settings}), Silence())


def test_other_settings_get_a_folder_of_their_own_and_leave_the_first_one_alone() -> None:
    assert train().model == FIRST
    before = FIRST.read_bytes()
    assert train(classes=2).model == SECOND
    assert FIRST.read_bytes() == before


@pytest.mark.parametrize("changed", [{"classes": 2}, {"seed": 1}, {"seeds": 2}, {"loss": {"knn_shift": 0.3}}])
def test_a_run_finds_its_own_folder_again(changed: dict[str, Any]) -> None:
    train()
    assert train(**changed).model == SECOND
    for mine, model in (({}, FIRST), (changed, SECOND)):
        with pytest.raises(OutputError, match=f"{model.parent.name}/.*finished"):
            train(**mine)


def test_an_unfinished_run_is_gone_on_with_although_others_came_after_it() -> None:
    train()
    train(classes=2)
    going_on = train(steps=4)
    assert going_on.model == FIRST
    assert going_on.best.progress.step == 4


def test_overwriting_replaces_the_run_of_these_settings_and_no_other() -> None:
    train()
    train(classes=2)
    before = FIRST.read_bytes()
    assert train(classes=2, overwrite=True).model == SECOND
    assert train(classes=4, overwrite=True).model.parent.name == "train-photos-filterbank-3"
    assert FIRST.read_bytes() == before


def test_what_cannot_be_removed_is_named() -> None:
    train()
    state = FIRST.with_suffix(".run") / "state.safetensors"
    state.unlink()
    state.mkdir()
    with pytest.raises(OutputError, match=r"state\.safetensors"):
        train(overwrite=True, out=FIRST)
    assert FIRST.exists()


def test_a_damaged_state_can_be_overwritten() -> None:
    train()
    (FIRST.with_suffix(".run") / "state.safetensors").write_bytes(b"damaged")
    with pytest.raises(StegoError, match=r"state\.safetensors"):
        train()
    assert train(overwrite=True).model == FIRST


def test_resume_without_a_run_of_these_settings_says_what_differs() -> None:
    train()
    with pytest.raises(StegoError, match="classes: 3 before, 2 now"):
        train(classes=2, resume=True)
    with pytest.raises(StegoError, match="no run to go on with"):
        train(method="pca", resume=True)


def test_other_images_are_refused_in_words(photos: Path) -> None:
    train()
    (photos / "0.png").rename(photos / "3.png")
    with pytest.raises(StegoError, match="images: others than before; some were added") as refused:
        train()
    assert "now" not in str(refused.value)


def test_a_plan_says_which_model_is_there_already() -> None:
    def planned(**settings: Any) -> str:
        return dict(plan_training(TrainConfig.model_validate({**BASE, **settings}), Silence()).facts)["model"]

    assert planned() == str(FIRST)
    train()
    assert planned() == f"{FIRST} (there is one)"
    assert planned(classes=2) == str(SECOND)


def test_where_weights_lie_has_no_say_in_where_a_run_goes() -> None:
    here, there = (TrainConfig.model_validate({**BASE, "weights": f"{place}.pth"}) for place in ("here", "there"))
    assert settings_of(here) == settings_of(there)
    assert settings_of(here) != settings_of(here.model_copy(update={"classes": 2}))


def test_true_labels_are_said_to_train_the_code(photos: Path) -> None:
    for part in ("imgs", "labels"):
        (photos / part / "train").mkdir(parents=True)
    for image in sorted(photos.glob("*.png")):
        Image.new("L", (32, 32), 1).save(photos / "labels" / "train" / image.name)
        image.rename(photos / "imgs" / "train" / image.name)
    for asked, said in ((False, "they never train the code"), (True, "labels train the code, too")):
        config = TrainConfig.model_validate({**BASE, "loss": {"use_true_labels": asked}})
        heard = Heard()
        announce(make_plan(config, Silence()), heard)
        assert said in heard.notes[0]
