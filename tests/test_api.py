"""`stego_cli.load` and `stego_cli.predict`: what the documentation promises to people who write Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stego_cli
from stego_cli.errors import CheckpointError, ConfigError, DeviceError

REPOSITORY = Path(__file__).parents[1]
HEAVY = ("torch", "torchvision", "timm", "scipy", "matplotlib")


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_the_embedded_model_is_loaded_by_name_frozen_and_knows_its_classes(photograph: Path) -> None:
    model = stego_cli.load("embedded", device="cpu")
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    result = model.predict(photograph)
    assert result.label_map.shape == (40, 56)
    assert set(result.shares) <= set(result.label_space.names)
    assert sum(result.shares.values()) == pytest.approx(1)


def test_without_a_name_the_last_model_made_here_is_taken(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    assert stego_cli.load().config.label_space.name == "camvid"
    made = tmp_path / "runs" / "mine" / "model.safetensors"
    made.parent.mkdir(parents=True)
    made.write_bytes(tiny_model.read_bytes())
    assert stego_cli.load().config.label_space.names == ("stone", "leaf", "cloud")


def test_a_released_file_is_loaded_as_it_is(golden: Path) -> None:
    model = stego_cli.load(golden / "stego" / "checkpoint" / "stego.ckpt")
    assert model.config.method.kind == "stego"


def test_files_and_devices_that_are_none_are_refused_in_words(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(tiny_model.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors"):
        stego_cli.load(tmp_path / "cut.safetensors")
    with pytest.raises(DeviceError, match="cuda:97"):
        stego_cli.load(tiny_model, device="cuda:97")


def test_predict_writes_what_the_options_say_and_returns_the_record(
    photograph: Path, tiny_model: Path, tmp_path: Path
) -> None:
    result = stego_cli.predict([photograph], model=str(tiny_model), out=str(tmp_path / "o"), save=["labels"], workers=0)
    assert (result.done, result.failed, result.gallery) == (1, [], None)
    mask = np.asarray(Image.open(tmp_path / "o" / "labels" / "a.png"))
    np.testing.assert_array_equal(mask, stego_cli.load(tiny_model).predict(photograph).label_map)


def test_a_misspelt_option_is_answered_with_the_right_one(photograph: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean `probe`"):
        stego_cli.predict([photograph], out=tmp_path / "o", prob="linear")
    assert not (tmp_path / "o").exists()


def test_importing_the_package_and_its_settings_loads_nothing_heavy() -> None:
    code = (
        "import importlib, pkgutil, sys, stego_cli, stego_cli.config\n"
        "for module in pkgutil.iter_modules(stego_cli.config.__path__, 'stego_cli.config.'):\n"
        "    importlib.import_module(module.name)\n"
        "assert 'stego_cli.config.fit' in sys.modules and stego_cli.__version__\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"
