"""Indexes and caches in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stego_cli.config.features import FeaturesConfig, KnnConfig
from stego_cli.config.model import FilterbankConfig
from stego_cli.engine.describe import describe_path
from stego_cli.engine.features import build_features, plan_features
from stego_cli.engine.knn import build_index
from stego_cli.errors import CheckpointError
from stego_cli.progress import Silence


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (40, 48), (80 * number, 0, 200)).save(folder / f"{number}.png")
    base = {"backbone": FilterbankConfig(), "resolution": 16, "workers": 0, "device": "cpu"}
    return {**base, "dataset": str(folder)}


def test_an_index(options: dict[str, Any]) -> None:
    path = build_index(KnnConfig(**options), Silence()).path
    found = describe_path(path)
    assert found.kind == "neighbour index"
    assert not found.problems
    assert "3 images" in found.title
    assert "filterbank" in dict(found.rows)["backbone"]


def test_a_cut_off_index(options: dict[str, Any]) -> None:
    path = build_index(KnnConfig(**options), Silence()).path
    path.write_bytes(path.read_bytes()[:-10])
    assert describe_path(path).problems


def test_a_cache_whole_and_damaged(options: dict[str, Any]) -> None:
    config = FeaturesConfig(**options)
    assert plan_features(config, Silence()).done == 0
    place = Path(build_features(config, Silence()).place)
    assert plan_features(config, Silence()).done == 3
    assert "3 of 3" in dict(describe_path(place).rows)["images"]
    shard = next(place.glob("shard-*"))
    content = np.frombuffer(shard.read_bytes(), np.uint8).copy()
    content[-1] ^= 1
    shard.write_bytes(content.tobytes())
    assert describe_path(place).problems
    shard.unlink()
    found = describe_path(place)
    assert "0 of 3" in dict(found.rows)["images"]
    assert "run the command" in found.next_step


def test_a_model_goes_to_those_who_know(tiny_model: Path) -> None:
    assert describe_path(tiny_model).kind == "model"


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        describe_path(tmp_path / "none.safetensors")
