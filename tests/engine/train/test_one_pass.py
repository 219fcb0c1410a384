"""First use: one pass of the backbone serves the feature maps and the neighbours, and changes neither."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stego_cli.config.features import FeaturesConfig, KnnConfig
from stego_cli.config.model import FilterbankConfig
from stego_cli.config.train import TrainConfig
from stego_cli.engine import extract
from stego_cli.engine.features import build_features
from stego_cli.engine.knn import build_index
from stego_cli.engine.train import one_pass
from stego_cli.engine.train.run import train_model
from stego_cli.errors import OutputError
from stego_cli.features.store import FeatureStore
from stego_cli.progress import Silence

COUNT = 37


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(COUNT):
        Image.fromarray(draw.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images went through the backbone for caches, batch by batch."""
    counts: list[int] = []
    compute = extract._compute

    def counting(how: Any, images: Any) -> Any:
        counts.append(len(images))
        return compute(how, images)

    monkeypatch.setattr(extract, "_compute", counting)
    return counts


def common(photos: Path, batch: int) -> dict[str, Any]:
    return {
        "dataset": str(photos),
        "backbone": FilterbankConfig(),
        "resolution": 32,
        "workers": 0,
        "device": "cpu",
        "batch_size": batch,
    }


def training(photos: Path, batch: int = 16, **more: Any) -> TrainConfig:
    return TrainConfig(**common(photos, batch), steps=1, classes=2, eval_resolution=32, out="m.safetensors", **more)


def at(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let caches lie in a home of their own, and go there."""
    home.mkdir()
    monkeypatch.setenv("STEGO_HOME", str(home))
    monkeypatch.chdir(home)
    return home


def separately(photos: Path, batch: int = 16) -> None:
    build_features(FeaturesConfig(**common(photos, batch)), Silence())
    build_index(KnnConfig(**common(photos, batch)), Silence())


def index_of(home: Path) -> bytes:
    (path,) = (home / "neighbors").iterdir()
    return path.read_bytes()


def records(home: Path, kind: str) -> bytes:
    (path,) = (home / "features").glob(f"*-{kind}")
    return FeatureStore.open(path).read(np.arange(COUNT)).tobytes()


@pytest.mark.parametrize("features", ["auto", "memory"])
@pytest.mark.parametrize("batch", [4, 12, 16, 32])
def test_both_caches_have_the_bytes_of_their_own_commands(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: list[int], batch: int, features: str
) -> None:
    one = at(tmp_path / "one", monkeypatch)
    train_model(training(photos, batch, features=features), Silence())
    assert sum(seen) == COUNT
    two = at(tmp_path / "two", monkeypatch)
    separately(photos, batch)
    assert sum(seen) == 3 * COUNT
    assert index_of(one) == index_of(two)
    assert records(one, "pooled") == records(two, "pooled")
    if features == "auto":
        assert records(one, "maps") == records(two, "maps")


def test_an_image_that_cannot_be_read_is_missing_in_both(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "05.png").write_bytes(b"no image")
    one = at(tmp_path / "one", monkeypatch)
    train_model(training(photos), Silence())
    two = at(tmp_path / "two", monkeypatch)
    separately(photos)
    assert index_of(one) == index_of(two)
    assert records(one, "maps") == records(two, "maps")


@pytest.mark.parametrize("kind", ["maps", "pooled"])
def test_what_is_there_is_not_computed_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: list[int], kind: str
) -> None:
    at(tmp_path / "one", monkeypatch)
    if kind == "maps":
        build_features(FeaturesConfig(**common(photos, 16)), Silence())
    else:
        build_index(KnnConfig(**common(photos, 16)), Silence())
    train_model(training(photos), Silence())
    assert sum(seen) == 2 * COUNT  # one pass for each, by whoever needed it first


def test_without_the_correspondence_loss_there_are_no_neighbours(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = at(tmp_path / "one", monkeypatch)
    train_model(training(photos, loss={"correspondence_weight": 0.0}), Silence())
    assert [path.name.rpartition("-")[2] for path in (home / "features").iterdir()] == ["maps"]


def test_a_full_disk_in_the_middle_loses_no_shard_that_was_written(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: list[int]
) -> None:
    one = at(tmp_path / "one", monkeypatch)
    write, written = FeatureStore.write, []

    def full(self: FeatureStore, shard: int, values: Any) -> None:
        if len(written) == 3:  # two stores get a shard each, then one of them gets another
            raise OutputError("no space left on the disk")
        written.append(shard)
        write(self, shard, values)

    with monkeypatch.context() as patched:
        patched.setattr(FeatureStore, "write", full)
        patched.setattr(one_pass, "usual_shard_size", lambda _: 16)
        with pytest.raises(OutputError):
            train_model(training(photos), Silence())
    assert written == [0, 0, 1]
    before = sum(seen)
    train_model(training(photos), Silence())
    assert sum(seen) - before == COUNT - 16
    two = at(tmp_path / "two", monkeypatch)
    separately(photos)
    assert index_of(one) == index_of(two)
    assert records(one, "maps") == records(two, "maps")


COMMAND = """
import sys, time
from stego_cli.config.train import TrainConfig
from stego_cli.engine import extract
from stego_cli.engine.train import one_pass
from stego_cli.engine.train.run import train_model
from stego_cli.progress import Silence
one_pass.usual_shard_size = lambda _: 16
compute = extract._compute
def slow(how, images):
    time.sleep(0.3)
    return compute(how, images)
extract._compute = slow
train_model(TrainConfig.model_validate_json(sys.argv[1]), Silence())
"""


def test_killed_in_the_middle_and_started_again(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = at(tmp_path / "one", monkeypatch)
    config = training(photos)
    process = subprocess.Popen([sys.executable, "-c", COMMAND, config.model_dump_json(exclude={"about"})])
    until = time.monotonic() + 60
    while not list(one.glob("features/*-maps/shard-*")):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(list(one.glob("features/*-maps/shard-*"))) < 3
    train_model(config, Silence())
    two = at(tmp_path / "two", monkeypatch)
    separately(photos)
    assert index_of(one) == index_of(two)
    assert records(one, "maps") == records(two, "maps")
