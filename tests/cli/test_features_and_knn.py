"""`stego features` and `stego knn` as typed: results, JSON, exit codes, and kills in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from stego_cli.cli import app

FAST = ["--backbone", "filterbank", "--res", "32", "--workers", "0", "--device", "cpu"]
# The command line, slowed down so that a kill hits it in the middle.
SLOW = """
import sys, time
from stego_cli.engine import extract
compute = extract._compute
def slowly(how, images):
    time.sleep(0.25)
    return compute(how, images)
extract._compute = slowly
from stego_cli.cli import main
main()
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fifty images, which make four shards."""
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(50):
        Image.fromarray(draw.integers(0, 256, (32, 40, 3), dtype=np.uint8)).save(folder / f"{number:02d}.png")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", ["knn", "features"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_build_goes_on_and_ends_with_the_same_bytes(
    photos: Path, tmp_path: Path, command: str, how: signal.Signals
) -> None:
    typed = [command, "build", str(photos), *FAST]
    if command == "features":  # whole maps fit into one shard, of which a kill in the middle leaves nothing
        typed += ["--out", str(tmp_path / "maps")]
    environment = {**os.environ, "STEGO_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *typed], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    place = tmp_path / "maps" if command == "features" else tmp_path / "home" / "features"
    awaited = "store.json" if command == "features" else "shard-000001.safetensors"
    deadline = time.monotonic() + 60
    while not list(place.rglob(awaited)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(how)
    process.communicate()
    assert process.returncode != 0
    done = {path.name: path.stat().st_mtime_ns for path in place.rglob("shard-*")}
    assert len(done) < (4 if command == "knn" else 1)
    result = run(*typed)
    assert result.exit_code == 0, result.stderr
    assert {name: time for name, time in _times(place).items() if name in done} == done  # kept, not made again
    killed = contents(place)
    if command == "knn":
        killed |= contents(tmp_path / "home" / "neighbors")
    again = run(*typed, "--overwrite")
    assert again.exit_code == 0, again.stderr
    whole = contents(place)
    if command == "knn":
        whole |= contents(tmp_path / "home" / "neighbors")
    assert killed == whole


def _times(place: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in place.rglob("shard-*")}


def test_features_say_what_they_would_do_and_do_it(photos: Path) -> None:
    planned = json.loads(run("features", "build", str(photos), *FAST, "--dry-run", "--json").stdout)
    assert planned["seconds"] is None
    assert not Path(planned["place"]).exists()
    result = run("features", "build", str(photos), *FAST)
    assert result.exit_code == 0, result.stderr
    assert "50 x 108x4x4 float16" in result.stdout
    assert sum(path.stat().st_size for path in Path(planned["place"]).iterdir()) == pytest.approx(
        planned["bytes"], rel=0.05
    )


def test_features_go_to_an_address(photos: Path) -> None:
    result = run("features", "build", str(photos), *FAST, "--out", "memory://stego-test/maps", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["place"] == "memory://stego-test/maps"


def test_stale_features_are_refused_by_name(photos: Path) -> None:
    assert run("features", "build", str(photos), *FAST, "--out", "maps").exit_code == 0
    result = run("features", "build", str(photos), *FAST, "--out", "maps", "--loader-crop", "squash")
    assert result.exit_code == 2
    assert "loader crop" in result.stderr
    assert "--overwrite" in result.stderr


def test_a_folder_of_other_files_is_not_taken_for_a_cache(photos: Path) -> None:
    result = run("features", "build", str(photos), *FAST, "--out", str(photos))
    assert result.exit_code == 2
    assert "other files" in result.stderr


def test_knn_as_a_new_user_types_it(photos: Path) -> None:
    result = run("knn", "build", str(photos), *FAST, "--neighbors", "5")
    assert result.exit_code == 0, result.stderr
    assert "50 images, 4 neighbours each" in result.stdout
    result = run("knn", "show", "--dataset", str(photos), "--backbone", "filterbank", "--res", "32", "--image", "7")
    assert result.exit_code == 0, result.stderr
    assert "07.png:" in result.stdout
    assert Path("neighbors.png").is_file()
    index = next((photos.parent / "home" / "neighbors").iterdir())
    assert "neighbours of 50 images" in run("info", str(index)).stdout


def test_an_image_that_cannot_be_read_is_named_and_the_exit_code_tells(photos: Path) -> None:
    (photos / "09.png").write_bytes(b"")
    result = run("knn", "build", str(photos), *FAST)
    assert result.exit_code == 1
    assert "skipped: 09.png" in result.stdout
    assert run("features", "build", str(photos), *FAST, "--json").exit_code == 1


def test_settings_of_the_project_are_shared(photos: Path) -> None:
    Path("stego.yaml").write_text(f"dataset: {photos}\nbackbone: filterbank\nknn: {{resolution: 32, neighbors: 4}}\n")
    result = run("knn", "build", "--json", "--workers", "0")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["columns"] == 4
    assert run("knn", "show").exit_code == 0


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["knn", "build", "photoz"], "photos"),
        (["knn", "build", "photos", "--dataset", "other"], "give one of the two"),
        (["knn", "build", "photos", "--neighbors", "1"], "neighbors"),
        (["knn", "build", "photos", "--res", "33"], "32 or 40"),
        (["knn", "build", "photos", "--split", "val"], "val"),
        (["knn", "build", "photos", "--crop", "five"], "stego crop"),
        (["knn", "build", "photos", "--index", "tree"], "flat"),
        (["knn", "show", "photos"], "stego knn build"),
        (["features", "build", "photos", "--dtype", "int8"], "fp16"),
    ],
)
def test_mistakes_are_answered(photos: Path, typed: list[str], words: str) -> None:
    result = run(*typed, "--backbone", "filterbank")
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr
