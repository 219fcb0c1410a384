"""The real command in a process of its own: offline, with the embedded model, interrupted, and given bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import stego_cli
from stego_cli.catalog.models import embedded_path

REPOSITORY = Path(__file__).parents[2]
SAMPLES = REPOSITORY / "stego_cli" / "assets" / "samples"
MANY = 40

# Python runs this before anything else; a connection that is tried leaves a file, even if the error is swallowed.
NO_NETWORK = """
import pathlib, socket
def refuse(self, address):
    pathlib.Path(__file__).with_name("network-was-used").write_text(repr(address))
    raise OSError("there is no network in this test")
socket.socket.connect = refuse
"""


@dataclass(frozen=True)
class Stego:
    """Runs the command in a folder of its own, without a network and without models of this machine."""

    here: Path
    machine: Path

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(self.machine), str(REPOSITORY)]),
            "STEGO_HOME": str(self.machine / "home"),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "100",
            "TERM": "dumb",
        }
        return subprocess.Popen(
            [sys.executable, "-m", "stego_cli", *map(str, arguments)],
            cwd=self.here,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run to the end; whatever happens, there is no traceback and no use of the network."""
        with self.start(*arguments) as process:
            stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == code, stderr
        assert "Traceback" not in stdout + stderr
        assert not (self.machine / "network-was-used").exists()
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@pytest.fixture
def stego(tmp_path: Path) -> Stego:
    here, machine = tmp_path / "here", tmp_path / "machine"
    here.mkdir()
    machine.mkdir()
    (machine / "sitecustomize.py").write_text(NO_NETWORK)
    return Stego(here, machine)


def picture(path: Path, height: int = 32, width: int = 48, seed: int = 0, mode: str = "RGB") -> Path:
    """Write a picture with a light upper and a dark lower half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 90, (height, width, 3)).astype(np.uint8)
    pixels[: height // 2] += 140
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def files(folder: Path) -> dict[str, int]:
    """Return every file below a folder with its time of change."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def masks(out: Path) -> dict[str, bytes]:
    """Return name, size and pixels of every mask."""
    found = {}
    for path in sorted((out / "labels").rglob("*.png")):
        with Image.open(path) as mask:
            found[str(path.relative_to(out))] = repr(mask.size).encode() + mask.tobytes()
    return found


# --- the main job ----------------------------------------------------------------------------------------------------


def test_the_samples_become_masks_of_their_size_and_a_second_run_skips_them(stego: Stego) -> None:
    command = ("predict", SAMPLES, "--model", "embedded", "--probe", "both", "--out", "out")
    content = json.loads(stego(*command, "--json").stdout)  # pure JSON: any other word would be an error here
    out, samples = stego.here / "out", sorted(SAMPLES.glob("*.jpg"))
    assert sorted(record["input"] for record in content["images"]) == [str(path) for path in samples]
    assert content["summary"]["done"] == len(samples)
    for record in content["images"]:
        with Image.open(record["input"]) as image:
            size = ImageOps.exif_transpose(image).size  # one of them was taken with the camera on its side
        for probe in ("cluster", "linear"):
            with Image.open(out / record["outputs"][probe]["labels"]) as mask:
                assert (mask.size, mask.mode) == (size, "P")
                assert int(np.asarray(mask).max()) < len(content["label_spaces"][probe]["names"])
    page = (out / "index.html").read_text("utf-8")
    assert all(f"overlays/{path.stem}.jpg" in page for path in samples)
    assert json.loads((out / "predictions.json").read_text("utf-8"))["images"] == content["images"]

    before = files(out)
    again = stego(*command)
    assert again.stdout.startswith("0 images segmented in ")
    assert f", {len(samples)} done before" in again.stdout
    changed = {name for name, stamp in files(out).items() if before.get(name) != stamp}
    assert changed <= {"predictions.json", "index.html"}


def test_a_bad_image_is_named_and_the_good_ones_are_finished(stego: Stego) -> None:
    images = stego.here / "imgs"
    for index, mode in enumerate(("RGB", "L", "RGBA", "1")):
        picture(images / f"{mode}.png", 30 + index, 40 - index, mode=mode)
    picture(images / "tiny" / "dot.png", 1, 1)
    good = (images / "RGB.png").read_bytes()
    (images / "cut.png").write_bytes(good[: len(good) // 2])
    (images / "empty.jpg").write_bytes(b"")
    result = stego("predict", "imgs", "--model", "embedded", "--out", "out", "--json", code=1)
    status = {Path(record["input"]).name: record["status"] for record in json.loads(result.stdout)["images"]}
    assert {name for name, word in status.items() if word == "failed"} == {"cut.png", "empty.jpg"}
    assert {name for name, word in status.items() if word == "done"} == {
        "RGB.png", "L.png", "RGBA.png", "1.png", "dot.png",
    }  # fmt: skip
    for name in ("cut.png", "empty.jpg"):
        assert sum(name in line for line in result.stderr.splitlines()) == 1, result.stderr
    for path in images.rglob("*.png"):
        if path.name != "cut.png":
            with Image.open(path) as image, Image.open(stego.here / "out/labels" / path.relative_to(images)) as mask:
                assert mask.size == image.size


def test_the_project_file_is_followed_and_a_dry_run_writes_nothing(stego: Stego, tiny_model: Path) -> None:
    picture(stego.here / "imgs" / "a.png")
    (stego.here / "stego.yaml").write_text(f"model: {tiny_model}\npredict:\n  out: from/project\n  save: [labels]\n")
    before = files(stego.here)
    dry = stego("predict", "imgs", "--dry-run")
    assert "would segment imgs/a.png" in dry.stdout.replace(os.sep, "/")
    assert files(stego.here) == before
    assert not (stego.here / "from").exists()
    result = stego("predict", "imgs")
    assert f"model: {tiny_model}" in result.stderr
    assert files(stego.here).keys() - before.keys() == {
        str(Path("from/project/labels/a.png")), str(Path("from/project/predictions.json")),
    }  # fmt: skip


# --- what the user can put right ends with 2 --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["imgs", "--set", "crfs=true"], ["crfs", "did you mean `crf`?"]),
        (["imgs", "--probe", "clustr"], ["clustr", "did you mean `cluster`?"]),
        (["missing", "imgs"], ["`missing` does not exist", "hint: "]),
    ],
    ids=["unknown key", "unknown word", "missing path"],
)
def test_a_mistake_in_the_command_is_explained(stego: Stego, arguments: list[str], words: list[str]) -> None:
    picture(stego.here / "imgs" / "a.png")
    result = stego("predict", *arguments, "--model", "embedded", "--out", "out", code=2)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert all(word in result.stderr for word in words), result.stderr
    assert not (stego.here / "out").exists()


def test_an_output_folder_that_is_a_file_is_left_alone(stego: Stego) -> None:
    picture(stego.here / "imgs" / "a.png")
    (stego.here / "out").write_text("precious")
    result = stego("predict", "imgs", "--model", "embedded", "--out", "out", code=2)
    assert "`out`" in result.stderr
    assert "file" in result.stderr
    assert (stego.here / "out").read_text() == "precious"


class Bomb:
    """Runs a shell command as soon as a trusting reader opens the file it was saved in."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f'echo boom > "{self.marker}"',)


def test_a_hostile_checkpoint_is_refused_and_nothing_in_it_runs(stego: Stego) -> None:
    picture(stego.here / "imgs" / "a.png")
    marker, path = stego.here / "marker", stego.here / "hostile.ckpt"
    torch.save({"state_dict": {"net.weight": torch.zeros(2)}, "callbacks": Bomb(marker)}, path)
    torch.load(path, weights_only=False)
    assert marker.exists(), "the file is not as hostile as this test needs"
    marker.unlink()
    result = stego("predict", "imgs", "--model", path, "--out", "out", code=2)
    assert "system" in result.stderr
    assert "hostile.ckpt" in result.stderr
    assert not marker.exists()


def test_a_truncated_checkpoint_is_refused(stego: Stego) -> None:
    picture(stego.here / "imgs" / "a.png")
    whole = embedded_path().read_bytes()
    (stego.here / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    result = stego("predict", "imgs", "--model", "cut.safetensors", "--out", "out", code=2)
    assert "cut.safetensors" in result.stderr
    assert "truncated" in result.stderr
    assert not masks(stego.here / "out")


# --- a run that is cut off --------------------------------------------------------------------------------------------


@pytest.fixture
def ctrl_c_works() -> Iterator[None]:
    """Let children hear Ctrl-C even where the tests were started in the background, which hands down deafness."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def wait_for_masks(process: subprocess.Popen[str], out: Path, number: int) -> None:
    """Return as soon as a running command has finished some images."""
    deadline = time.monotonic() + 60
    while len(list((out / "labels").glob("[0-9]*.png"))) < number:
        assert process.poll() is None, "the command ended before it was to be stopped"
        assert time.monotonic() < deadline, "no mask appeared in a minute"
        time.sleep(0.005)


def facts(content: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return what a record says of its images, apart from when and how fast."""
    keys = ("input", "name", "height", "width", "notes", "outputs", "shares")
    return [tuple(record[key] for key in keys) for record in content["images"]]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another thing there")
@pytest.mark.usefixtures("ctrl_c_works")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["SIGINT", "SIGKILL"])
def test_a_run_that_was_cut_off_is_finished_by_the_same_command(stego: Stego, how: signal.Signals) -> None:
    images, out = stego.here / "imgs", stego.here / "out"
    for index in range(MANY):
        picture(images / f"{index}.png", 96, 128, seed=index)
    command = ("predict", "imgs", "--model", "embedded", "--res", "96", "--batch-size", "2", "--out", "out")
    with stego.start(*command) as process:
        wait_for_masks(process, out, 3)
        process.send_signal(how)
        _, stderr = process.communicate(timeout=60)
    finished = masks(out)
    assert 3 <= len(finished) < MANY
    if how == signal.SIGINT:
        assert process.returncode == 130, stderr
        assert "the same command continues" in stderr
        assert "Traceback" not in stderr
        assert not list(out.rglob(".writing-*"))
        summary = json.loads((out / "predictions.json").read_text("utf-8"))["summary"]
        assert summary["done"] + summary["remaining"] == MANY

    content = json.loads(stego(*command, "--json").stdout)
    assert content["summary"]["skipped"] >= 1
    assert content["summary"]["done"] + content["summary"]["skipped"] == MANY
    whole = stego_cli.predict([images], model="embedded", out=stego.here / "whole", resolution=96, batch_size=2)
    assert masks(out) == masks(stego.here / "whole")
    assert facts(content) == facts(whole.content)
    assert {path.name for path in out.iterdir()} == {path.name for path in (stego.here / "whole").iterdir()}


# --- models and machines ----------------------------------------------------------------------------------------------


def test_a_released_checkpoint_is_converted_described_and_used(stego: Stego, golden: Path) -> None:
    folder = golden / "stego" / "checkpoint"
    meta = json.loads((folder / "meta.json").read_text("utf-8"))
    heads = str(meta["arch"]["num_heads"])
    made = stego("convert", folder / "stego.ckpt", "mine.safetensors", "--heads", heads)
    assert "stego predict imgs/ --model mine.safetensors" in made.stdout
    text = stego("info", "mine.safetensors").stdout
    for words in (f"{meta['code_dim']} dimensions", f"{heads} heads", f"{meta['n_classes']} classes"):
        assert words in text
    picture(stego.here / "a.png", 40, 56)
    result = stego("predict", "a.png", "--model", "mine.safetensors", "--res", "32", "--out", "out", "--json")
    (record,) = json.loads(result.stdout)["images"]
    with Image.open(stego.here / "out" / record["outputs"]["cluster"]["labels"]) as mask:
        assert mask.size == (56, 40)
        values = set(np.unique(np.asarray(mask)).tolist())
    assert max(values) < meta["n_classes"] + meta["extra_clusters"]
    assert len(record["shares"]["cluster"]) == len(values)


def test_help_version_and_the_machine(stego: Stego) -> None:
    text = stego("--help").stdout
    assert all(command in text for command in ("predict", "fit", "info", "convert"))
    assert stego("--version").stdout == f"stego {stego_cli.__version__}\n"
    known = json.loads(stego("info", "--json").stdout)
    assert known["stego"] == stego_cli.__version__
    assert known["models"] == ["embedded"]
    assert "cpu" in known["devices"]
    assert files(stego.here) == {}
