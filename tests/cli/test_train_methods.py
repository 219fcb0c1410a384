"""`stego train --method` as it is typed, and what can be done with the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from stego_cli.checkpoints.native import load_checkpoint
from stego_cli.cli import app
from stego_cli.config.model import PcaConfig, UmapConfig
from stego_cli.config.schema import blocks_of
from stego_cli.config.train import TrainConfig
from stego_cli.config.words import METHOD_NAMES

FAST = ["--backbone", "filterbank", "--res", "32", "--steps", "4", "--batch-size", "4", "--device", "cpu", "--classes"]
SMALL = ["3", "--set", "eval_resolution=32", "--workers", "0", "--features", "memory"]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(6):
        pixels = draw.integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [*arguments])
    return result.exit_code, result.stdout, result.stderr


def train(*arguments: str) -> tuple[int, str, str]:
    return run("train", "photos", *FAST, *SMALL, *arguments)


def test_every_method_is_offered() -> None:
    kinds = [block.model_fields["kind"].default for block in blocks_of(TrainConfig.model_fields["method"])]
    assert tuple(kinds) == METHOD_NAMES


def test_a_model_by_pca_is_trained_described_copied_and_used(photos: Path) -> None:
    code, out, err = train("--method", "pca", "--dim", "9", "--set", "method.fit_images=4")
    assert code == 0, err
    model = "runs/train-photos-filterbank-pca/model.safetensors"
    assert model in out
    assert "only the probes on its code learn" in err
    assert load_checkpoint(Path(model)).config.method == PcaConfig(code_dim=9, fit_images=4)
    code, out, err = run("info", model)
    assert code == 0, err
    assert "9 dimensions by pca" in out
    code, _, err = run("convert", model, "half.safetensors", "--half")
    assert code == 0, err
    code, _, err = run("predict", "photos", "--model", "half.safetensors", "--crf", "--out", "masks", "--device", "cpu")
    assert code == 0, err
    assert len(list(Path("masks").rglob("*.png"))) >= 6


def test_a_dry_run_of_a_fitted_method(photos: Path) -> None:
    code, out, err = train("--method", "umap", "--dim", "4", "--dry-run", "--json")
    if code:  # without the library it says so, like the run itself
        assert "stego-cli[dimred]" in err
        return
    assert json.loads(out)["dry_run"] is True


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "pcaa"], "did you mean `pca`"),
        (["--method", "dino", "--dim", "9"], "method.code_dim"),
        (["--method", "pca", "--dim", "500"], "108 channels"),
        (["--method", "pca", "--set", "method.standardise=never"], "train, batch"),
        (["--method", "pca", "--set", "method.landmarks=5"], "method.landmarks"),
    ],
)
def test_mistakes_are_refused_in_words(photos: Path, arguments: list[str], words: str) -> None:
    code, _, err = train(*arguments)
    assert code == 2, err
    assert words in err
    assert "Traceback" not in err


def test_single_settings_of_a_method_can_be_changed() -> None:
    from stego_cli.config.load import load_config

    config = load_config(
        TrainConfig, options={"method": "umap"}, overrides=["method.code_dim=3", "method.landmarks=50"]
    )
    assert config.method == UmapConfig(code_dim=3, landmarks=50)
