"""`stego train` as it is typed."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from stego_cli.checkpoints.native import load_checkpoint
from stego_cli.cli import app
from stego_cli.cli.terminal import Bars, Lines

FAST = ["--backbone", "filterbank", "--res", "32", "--steps", "4", "--batch-size", "4", "--device", "cpu"]
SMALL = ["--set", "eval_resolution=32", "--workers", "0", "--features", "memory"]


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
    result = CliRunner().invoke(app, ["train", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_a_folder_becomes_a_model(photos: Path) -> None:
    code, out, err = run("photos", "--classes", "3", *FAST, *SMALL)
    assert code == 0, err
    assert "runs/train-photos-filterbank/model.safetensors" in out
    assert "6 images of photos" in err


def test_dim_and_set_mean_the_same(photos: Path) -> None:
    for name, how in (("a", ["--dim", "9"]), ("b", ["--set", "method.code_dim=9"])):
        code, _, err = run("photos", "--classes", "3", *FAST, *SMALL, *how, "-o", f"{name}.safetensors")
        assert code == 0, err
        assert load_checkpoint(Path(f"{name}.safetensors")).config.method.code_dim == 9


def test_the_command_that_comes_next_can_be_pasted(photos: Path) -> None:
    code, out, err = run("photos", "--classes", "3", *FAST, *SMALL, "-o", "my run/a b.safetensors")
    assert code == 0, err
    assert shlex.split(out.splitlines()[-1])[-1] == "my run/a b.safetensors"


def test_the_batch_of_a_step_is_a_setting_of_the_training() -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert "Images of a step" in " ".join(out.replace("│", " ").split())
    assert out.count("--batch-size") == 1


def test_json_is_one_object(photos: Path) -> None:
    code, out, err = run("--dataset", "photos", "--classes", "3", *FAST, *SMALL, "--seeds", "2", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [each["seed"] for each in found["seeds"]] == [0, 1]
    assert set(found["spread"]) == {"score"}


def test_dry_run_says_what_would_happen_and_writes_nothing(photos: Path, tmp_path: Path) -> None:
    code, out, err = run("photos", "--classes", "3", *FAST, "--dry-run")
    assert code == 0, err
    for words in ("6 of photos", "6 x 108x4x4 float16", "4 with 4 images each", "estimated time"):
        assert words in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]
    code, out, _ = run("photos", "--classes", "3", *FAST, "--dry-run", "--json")
    assert json.loads(out)["parameters"] > 0


def test_mistakes_are_listed_at_once_before_anything_is_done(photos: Path) -> None:
    code, _, err = run("photos", "--classes", "0", "--features", "disk", *FAST)
    assert code == 2
    assert "classes" in err
    assert "features" in err


def test_missing_weights_say_where_to_get_them(photos: Path) -> None:
    code, _, err = run("photos", "--classes", "3", "--device", "cpu")
    assert code == 2
    assert "stego download backbones" in err


def test_an_image_that_was_skipped_shows_in_the_exit_code(photos: Path) -> None:
    (photos / "3.png").write_bytes(b"")
    code, _, err = run("photos", "--classes", "2", *FAST, *SMALL)
    assert code == 1
    assert "3.png" in err


def test_two_processes_share_a_run_and_only_the_first_one_speaks(photos: Path) -> None:
    command = [sys.executable, "-m", "stego_cli", "train", "photos", "--classes", "2", *FAST, *SMALL]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}

    def go(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, "--devices", "2", *more], env=env, capture_output=True, text=True, timeout=300, check=False
        )

    first, second = go("-o", "a.safetensors"), go("-o", "b.safetensors")
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("model written") == 1
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes(), second.stderr
    again = go("-o", "a.safetensors")
    assert again.returncode == 2
    assert "--overwrite" in again.stderr
    assert "Traceback" not in again.stderr


def test_loss_terms_are_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    moments = iter([0.0, 1.0, 50.0])
    lines = Lines(clock=lambda: next(moments))
    for step in (20, 40, 60):
        lines.losses(step, {"total": 0.5, "self": -0.25})
    assert capsys.readouterr().err.splitlines() == [
        "step 20: total 0.500, self -0.250",
        "step 60: total 0.500, self -0.250",
    ]


def test_loss_terms_stand_below_the_bar_of_what_is_running() -> None:
    from rich.progress import Progress

    with Progress(disable=True) as progress:
        bars = Bars(progress)
        for _ in bars.track(range(2), "Training", total=2):
            bars.losses(20, {"total": 0.5})
            assert progress.tasks[0].fields["losses"] == "total 0.500"
        bars.losses(40, {"total": 0.4})  # nothing is running, so there is nowhere to show it
        assert progress.tasks == []
