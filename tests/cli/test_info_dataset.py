"""`stego info dataset` at the terminal, and `stego info` beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from stego_cli.cli import app
from stego_cli.cli.info_dataset import WIDTH, bar

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound dataset `mine` of two splits and three classes in the current folder."""
    monkeypatch.chdir(tmp_path)
    for split, count in (("train", 3), ("val", 2)):
        for number in range(count):
            for folder in ("imgs", "labels"):
                (tmp_path / "mine" / folder / split).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(10 * number + count).integers(0, 255, (40, 60, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "mine/imgs" / split / f"{number}.jpg")
            stripes = np.repeat(np.array([0] * 20 + [1] * 16 + [2] * 4, np.uint8)[:, None], 60, 1)
            Image.fromarray(stripes).save(tmp_path / "mine/labels" / split / f"{number}.png")
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_a_sound_dataset_ends_with_0_and_fits_the_terminal(here: Path) -> None:
    result = run("info", "dataset", "mine", "--classes", "3")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("mine: 5 images in 2 splits\n")
    assert "no problems found" in result.stdout
    assert "next: " in result.stdout
    folder = str(here)
    assert all(len(line) <= WIDTH for line in result.stdout.splitlines() if folder not in line)


def test_classes_are_shown_as_numbers_and_bars(here: Path) -> None:
    result = run("info", "dataset", "mine", "--classes", "4", "--split", "val")
    rows = {line.split()[2]: line.split()[3:] for line in result.stdout.splitlines() if " class " in f" {line[5:]}"}
    assert rows["0"][0] == "50.0"
    assert rows["2"][0] == "10.0"
    assert rows["3"] == ["none"]
    assert len(rows["0"][1]) > 4 * len(rows["2"][1]) > 0


def test_problems_end_with_1_and_are_named(here: Path) -> None:
    (here / "mine/imgs/val/1.jpg").unlink()
    result = run("info", "dataset", "mine")
    assert result.exit_code == 1
    assert "problem (val): 1 label map without image: labels/val/1.png" in result.stdout
    assert "no problems found" not in result.stdout
    assert result.stdout.index("problem") < result.stdout.index("next: ")


def test_long_lists_are_shortened_for_people_and_whole_for_machines(here: Path) -> None:
    for number in range(100, 142):
        (here / f"mine/imgs/train/{number}.jpg").write_bytes(b"broken")
        (here / f"mine/labels/train/{number}.png").write_bytes((here / "mine/labels/train/0.png").read_bytes())
    shown = run("info", "dataset", "mine")
    assert "and 37 more" in shown.stdout
    assert "100.jpg" in shown.stdout
    assert "141.jpg" not in shown.stdout
    result = run("info", "dataset", "mine", "--json")
    assert result.exit_code == 1
    (damaged,) = [f for f in json.loads(result.stdout)["findings"] if f["kind"] == "image-unreadable"]
    assert len(damaged["items"]) == 42


def test_a_missing_dataset_ends_with_2(here: Path) -> None:
    result = run("info", "dataset", "mien")
    assert result.exit_code == 2
    assert "error: " in result.stderr
    assert "mine" in result.stderr
    assert result.stdout == ""


def test_settings_come_from_the_project_file_options_and_set(here: Path) -> None:
    Path("stego.yaml").write_text("dataset: mine\nclasses: 3")
    assert json.loads(run("info", "dataset", "--json").stdout)["dataset"] == "mine"
    said = json.loads(run("info", "dataset", "--json", "--classes", "5", "--set", "split=val").stdout)
    assert set(said["splits"]) == {"val"}
    assert len(said["splits"]["val"]["classes"]) == 5
    Path("look.yaml").write_text("full: true")
    assert json.loads(run("info", "dataset", "--json", "--config", "look.yaml").stdout)["full"] is True
    result = run("info", "dataset", "--workers", "-1", "--res", "0")
    assert result.exit_code == 2
    assert "2 problems" in result.stderr


def test_progress_goes_to_stderr_and_json_is_all_of_stdout(here: Path) -> None:
    result = run("info", "dataset", "mine", "--full", "--json")
    assert json.loads(result.stdout)["full"] is True


def test_options_before_the_command_are_its_own(here: Path) -> None:
    assert json.loads(run("info", "--json", "dataset", "mine").stdout)["dataset"] == "mine"


def test_a_file_called_dataset_is_given_by_its_path(here: Path) -> None:
    Path("dataset").write_text("words")
    for typed in (["./dataset"], ["--", "dataset"]):
        result = run("info", *typed)
        assert result.exit_code == 2
        assert "a text file" in result.stdout


def test_options_may_follow_files(here: Path) -> None:
    Path("a.txt").write_text("words")
    assert json.loads(run("info", "a.txt", "--json").stdout)["files"][0]["file"] == "a.txt"


@pytest.mark.parametrize("content", [b"some words", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_model_ends_with_2(here: Path, content: bytes) -> None:
    Path("m.safetensors").write_bytes(content)
    result = run("info", "m.safetensors")
    assert result.exit_code == 2
    assert "problem: it is " in result.stdout
    assert "next: " in result.stdout


def test_a_folder_is_no_model_but_may_be_a_dataset(here: Path) -> None:
    result = run("info", "mine")
    assert result.exit_code == 2
    assert "stego info dataset mine" in result.stdout


def test_arrays_are_described_and_end_with_0(here: Path) -> None:
    np.savez("nns.npz", nns=np.zeros((2, 3)))
    assert run("info", "nns.npz").exit_code == 0


def test_help_names_the_commands_and_their_options(here: Path) -> None:
    group, command = run("info", "--help").stdout, run("info", "dataset", "--help").stdout
    assert "FILE" in group
    assert "dataset" in group
    for word in ("--full", "--split", "--classes", "--label-space", "--bands", "--workers", "--json", "--crop-ratio"):
        assert word in command
    assert "--full" not in group


def test_bars_are_of_characters_that_the_terminal_can_write(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ascii:
        encoding = "ascii"

    monkeypatch.setattr(sys, "stdout", Ascii())
    assert (bar(0.5, 8), bar(0.001, 8), bar(0, 8)) == ("####", "#", "")


def test_help_and_a_bad_setting_load_nothing_heavy(here: Path) -> None:
    code = (
        "import sys; sys.argv = {arguments!r}\nfrom stego_cli.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('loaded:', *[name for name in {heavy!r} if name in sys.modules])"
    )
    heavy = ("torch", "timm", "scipy", "PIL", "numpy")
    for arguments, also in (
        (["stego", "info", "dataset", "--help"], ("pydantic", "yaml")),
        (["stego", "info", "dataset", "mine", "--res", "0"], ()),
    ):
        ran = subprocess.run(
            [sys.executable, "-c", code.format(arguments=arguments, heavy=(*heavy, *also))],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout.rsplit("loaded:", 1)[1].split() == []


def test_looking_through_a_dataset_needs_no_torch(here: Path) -> None:
    code = (
        "import sys; sys.argv = ['stego', 'info', 'dataset', 'mine', '--full']\nfrom stego_cli.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('loaded:', 'torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.rsplit("loaded:", 1)[1].split() == ["False"]
