"""What once went wrong at the border to shell and terminal, each with the case that showed it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from stego_cli.cli import app, terminal
from stego_cli.errors import OutputError

SHELL = pytest.mark.skipif(os.name != "posix", reason="redirections of a POSIX shell")


def shell(line: str, here: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which `stego` is the command."""
    line = line.replace("stego", f"{sys.executable} -m stego_cli")
    return subprocess.run(["sh", "-c", line], cwd=here, capture_output=True, text=True, check=False, timeout=120)


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 56, 3)).astype(np.uint8)).save(path)
    return path


@SHELL
def test_a_closed_stderr_is_no_bug(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    result = shell("stego predict a.png --json 2>&-", tmp_path)
    assert result.returncode == 0, result.stdout
    assert json.loads(result.stdout)["summary"]["done"] == 1
    assert shell("stego predict nowhere 2>&-", tmp_path).returncode == 2


@SHELL
def test_closed_streams_all_together_leave_sound_files(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    assert shell("stego predict a.png <&- >&- 2>&-", tmp_path).returncode == 0
    assert json.loads((tmp_path / "predictions" / "predictions.json").read_text())["summary"]["done"] == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_results_that_do_not_fit_on_the_disk_are_a_message_and_no_bug(tmp_path: Path) -> None:
    result = shell("stego info --json > /dev/full", tmp_path)
    assert result.returncode == 2
    assert "cannot write the result to stdout: No space left" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_notes_that_cannot_be_written_do_not_cost_the_work(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    result = shell("stego predict a.png --json 2> /dev/full", tmp_path)
    assert result.returncode == 0
    assert json.loads(result.stdout)["summary"]["done"] == 1


def test_stdout_that_cannot_be_written_is_told_apart_from_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr(sys, "stderr", Full())
    with pytest.raises(OutputError, match="No space left"):
        terminal.show("a result")
    terminal.Lines().note("a note")  # lost, and no reason to stop


@pytest.mark.parametrize("command", ["predict a.png", "fit a --classes 2"])
def test_an_empty_out_is_not_the_current_folder(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png")
    result = CliRunner().invoke(app, [*command.split(), "--out", ""])
    assert result.exit_code == 2
    assert "out: expected a path, got ''" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_fit_ends_with_1_when_it_skipped_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "b.png").touch()
    typed = ["fit", "photos", "--classes", "2", "--res", "32", "--out", "m.safetensors", "--json"]
    result = CliRunner().invoke(app, typed)
    assert result.exit_code == 1
    assert len(json.loads(result.stdout)["skipped"]) == 1
    assert (tmp_path / "m.safetensors").is_file()


def test_the_rate_of_a_bar_is_that_of_the_whole_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    progress = terminal._bars()
    monkeypatch.setattr(progress, "get_time", lambda: now[0])
    task_id = progress.add_task("Segmenting images", total=7)
    now[0] += 2  # one batch of four took two seconds, and its images arrive in the same moment
    for _ in range(4):
        progress.advance(task_id)
        now[0] += 1e-6
    (task,) = progress.tasks
    rates = [str(column(task)) for column in progress.columns if type(column).__name__ == "Rate"]
    assert rates == ["2/s"]


def test_info_lists_the_backbones_that_a_wrong_name_sends_people_to_it_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    result = CliRunner().invoke(app, ["info"])
    assert "dino_vits8" in result.stdout
    assert "filterbank" in result.stdout
