"""`stego pretrain` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from stego_cli.cli import app

SMALL = ["--set", "architecture={patch_size: 8, width: 24, depth: 1, heads: 2, image_size: 32}", "--set", "words=3"]
FAST = ["--steps", "3", "--rounds", "1", "--batch-size", "2", "--res", "40", "--workers", "0", "--device", "cpu"]


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    draw = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(draw.integers(0, 255, (48, 56, 3), dtype=np.uint8)).save(f"photos/{number}.png")


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_images_become_a_backbone_that_train_takes() -> None:
    code, out, err = run("pretrain", "photos", *SMALL, *FAST, "-o", "small.safetensors")
    assert code == 0, err
    assert "--backbone small.safetensors" in out
    fast = ["--steps", "2", "--res", "32", "--set", "eval_resolution=32", "--features", "memory", "--workers", "0"]
    code, out, err = run("train", "photos", "--classes", "2", "--backbone", "small.safetensors", *fast)
    assert code == 0, err
    assert Path("runs/train-photos-small/model.safetensors").exists()


def test_the_next_command_can_be_typed_as_it_stands() -> None:
    out = run("pretrain", "photos", *SMALL, *FAST, "-o", "my small.safetensors")[1]
    assert "--backbone 'my small.safetensors'" in out
    out = run("fit", "photos", "--classes", "2", "--res", "32", "--workers", "0", "-o", "my model.safetensors")[1]
    assert "--model 'my model.safetensors'" in out


@pytest.mark.parametrize("stem", ["pixels", "filterbank"])
def test_one_size_can_be_changed_by_itself(stem: str) -> None:
    sizes = ["width=24", "image_size=32", f"stem={stem}"]
    options = [word for size in sizes for word in ("--set", f"architecture.{size}")]
    code, _, err = run("pretrain", "photos", *options, "--set", "words=3", *FAST, "-o", "small.safetensors")
    assert code == 0, err
    network = run("info", "small.safetensors", "--json")[1]
    assert "width 24, depth 4, 2 heads, patches of 8 pixels" in network
    assert ("filter bank" in network) == (stem == "filterbank")


def test_json_is_one_object() -> None:
    code, out, _ = run("pretrain", "photos", *SMALL, *FAST, "--json", "-q")
    assert code == 0
    assert json.loads(out)["ending"] == "done"


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("architecture.image_size=30", "not whole patches"),
        ("architecture.heads=5", "shared evenly by 5 heads"),
        ("visible=1", "visible"),
        ("wordz=3", "did you mean `words`"),
    ],
)
def test_what_cannot_be_is_said_in_words(option: str, words: str) -> None:
    code, _, err = run("pretrain", "photos", *SMALL, *FAST, "--set", option)
    assert code == 2
    assert words in " ".join(err.split())


def test_no_images() -> None:
    code, _, err = run("pretrain", "nothing", *SMALL, *FAST)
    assert code == 2
    assert "nothing" in err
