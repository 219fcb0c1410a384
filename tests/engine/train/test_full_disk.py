"""A disk that gets full while a model is trained: nothing good is lost, and the run goes on once there is room."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from stego_cli.checkpoints.native import load_checkpoint
from stego_cli.cli import app
from stego_cli.engine.train.state import read_progress

OPTIONS = [
    *("--backbone", "filterbank", "--res", "32", "--steps", "8", "--batch-size", "4", "--classes", "2"),
    *("--set", "eval_resolution=32", "--set", "checkpoint_every=3", "--eval-every", "4"),
    *("--device", "cpu", "--workers", "0", "--features", "memory", "-o", "m.safetensors"),
]


class Disk:
    """Takes so many files, then is full. Data may look written until they are flushed, so flushing is what fails."""

    def __init__(self) -> None:
        self.room: int | None = None
        self.written = 0
        self._fsync = os.fsync

    def fsync(self, descriptor: int) -> None:
        if self.room is not None and self.written >= self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.written += 1
        self._fsync(descriptor)

    def has_room_for(self, files: int | None) -> None:
        self.room, self.written = files, 0


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    found = Disk()
    monkeypatch.setattr(os, "fsync", found.fsync)
    return found


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    draw = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 1)):
        for kind, depth in (("imgs", 255), ("labels", 2)):
            folder = tmp_path / "data" / kind / split
            folder.mkdir(parents=True)
            for number in range(count):
                shape = (36, 40, 3) if kind == "imgs" else (36, 40)
                Image.fromarray(draw.integers(0, depth, shape, dtype=np.uint8)).save(folder / f"{number}.png")
    return str(tmp_path / "data")


def run(dataset: str, *more: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["train", dataset, *OPTIONS, *more])
    return result.exit_code, result.stderr


def folder_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Path:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    return tmp_path / name


def test_wherever_it_gets_full_the_run_stops_and_goes_on_later(
    dataset: str, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = folder_for(tmp_path, monkeypatch, "whole")
    assert run(dataset)[0] == 0
    files = disk.written
    assert files > 8  # features' neighbours, four states, two models twice, the curve and the record
    for room in range(files):
        shutil.rmtree(tmp_path / "home")
        place = folder_for(tmp_path, monkeypatch, f"room-{room}")
        disk.has_room_for(room)
        code, err = run(dataset)
        assert code == 2, err
        assert "no space left on the disk" in err
        assert "Traceback" not in err
        assert not list(place.rglob(".writing-*"))
        state, model = place / "m.run" / "state.safetensors", place / "m.safetensors"
        if model.exists():
            load_checkpoint(model)
        again = []
        if state.exists():
            assert read_progress(state).step in {3, 4, 6, 8}
            again = ["--resume"]
        disk.has_room_for(None)
        code, err = run(dataset, *again)
        assert code == 0, err
        for name in ("m.safetensors", "m.run/last.safetensors"):
            assert (place / name).read_bytes() == (whole / name).read_bytes(), room
        one, other = (read_progress(each / "m.run" / "state.safetensors") for each in (place, whole))
        assert (one.history, one.measured, one.kept) == (other.history, other.measured, other.kept)


def test_the_same_command_finishes_what_only_lacks_its_record(
    dataset: str, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_for(tmp_path, monkeypatch, "a")
    assert run(dataset)[0] == 0
    shutil.rmtree(tmp_path / "home")
    place = folder_for(tmp_path, monkeypatch, "b")
    disk.has_room_for(disk.written - 1)
    assert run(dataset)[0] == 2
    assert not (place / "m.run" / "run.json").exists()
    disk.has_room_for(None)
    code, err = run(dataset)
    assert code == 0, err
    assert (place / "m.run" / "run.json").is_file()
    assert run(dataset)[0] == 2  # now it is finished
