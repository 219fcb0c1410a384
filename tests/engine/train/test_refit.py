"""Probes that are fitted anew once training is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stego_cli.checkpoints.native import load_checkpoint
from stego_cli.config.model import FilterbankConfig
from stego_cli.config.train import TrainConfig
from stego_cli.engine.train import refit
from stego_cli.engine.train.run import TrainResult, train_model
from stego_cli.progress import Silence


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Four bands that differ in colour, with labels."""
    draw = np.random.default_rng(0)
    colours = np.array([(200, 40, 40), (40, 200, 40), (40, 40, 200), (220, 220, 220)], np.uint8)
    bands = np.arange(64) // 16
    for split, count in (("train", 8), ("val", 2)):
        for kind in ("imgs", "labels"):
            (tmp_path / "data" / kind / split).mkdir(parents=True)
        for number in range(count):
            order = draw.permutation(4)[bands].astype(np.uint8)
            pixels = colours[order][:, None].repeat(64, 1) - draw.integers(0, 40, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / "imgs" / split / f"{number}.png")
            Image.fromarray(order[:, None].repeat(64, 1)).save(tmp_path / "data" / "labels" / split / f"{number}.png")
    return tmp_path / "data"


def train(dataset: Path, out: str, **changes: Any) -> TrainResult:
    settings: dict[str, Any] = {
        "backbone": FilterbankConfig(),
        "method": {"kind": "stego", "code_dim": 6},
        "protocol": "native",
        "resolution": 64,
        "eval_resolution": 64,
        "workers": 0,
        "device": "cpu",
        "batch_size": 4,
        "steps": 12,
        "classes": 4,
        "features": "memory",
        "out": Path(out),
    }
    return train_model(TrainConfig(**{**settings, "dataset": str(dataset), **changes}), Silence())


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).tensors


def test_probes_change_and_nothing_else(dataset: Path) -> None:
    as_trained, anew = train(dataset, "a.safetensors"), train(dataset, "b.safetensors", final_probes="refit")
    one, other = tensors(as_trained.model), tensors(anew.model)
    changed = {name.split(".")[0] for name in one if not torch.equal(one[name], other[name])}
    assert changed == {"cluster_probe", "linear_probe"}
    assert tensors(anew.folder / "last.safetensors").keys() == one.keys()
    assert torch.equal(
        tensors(anew.folder / "last.safetensors")["cluster_probe.centroids"], one["cluster_probe.centroids"]
    )
    assert anew.best.progress.kept == as_trained.best.progress.kept
    assert anew.best.scores != as_trained.best.scores
    assert anew.best.scores == load_checkpoint(anew.model).config.about.scores
    # Twelve steps are far too few for probes that are trained.
    assert anew.best.scores["val linear miou"] > as_trained.best.scores["val linear miou"] + 0.2


def test_labels_do_not_touch_the_clusters(dataset: Path) -> None:
    labelled = train(dataset, "a.safetensors", final_probes="refit", keep="last")
    bare = train(dataset / "imgs" / "train", "b.safetensors", final_probes="refit", keep="last")
    name = "cluster_probe.centroids"
    assert torch.equal(tensors(labelled.model)[name], tensors(bare.model)[name])
    assert not load_checkpoint(bare.model).config.has_linear_probe


def test_done_again_or_later_it_gives_the_same(dataset: Path) -> None:
    at_once = train(dataset, "a.safetensors", final_probes="refit")
    train(dataset, "b.safetensors")
    for _ in range(2):  # the second time on a model whose probes are fitted already
        later = train(dataset, "b.safetensors", final_probes="refit", resume=True)
        assert later.model.read_bytes() == at_once.model.read_bytes()
        assert later.best.scores == at_once.best.scores


def test_what_was_fitted_is_not_fitted_again(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(dataset, "a.safetensors", final_probes="refit", seeds=2)
    Path("a.run/run.json").unlink()  # as if it had been killed before the last file
    monkeypatch.setattr("stego_cli.engine.train.loop.refit_probes", None)
    again = train(dataset, "a.safetensors", final_probes="refit", seeds=2)
    assert [run.scores for run in again.runs] == [run.scores for run in first.runs]


def test_a_run_that_goes_on_does_so_from_the_trained_probes(dataset: Path) -> None:
    whole = train(dataset, "a.safetensors", steps=20, keep="last")
    train(dataset, "b.safetensors", final_probes="refit", keep="last")
    longer = train(dataset, "b.safetensors", steps=20, keep="last", resume=True)
    assert longer.model.read_bytes() == whole.model.read_bytes()
    assert longer.best.scores == whole.best.scores


def test_the_model_that_was_kept_is_refitted_not_the_last_one(dataset: Path) -> None:
    result = train(dataset, "a.safetensors", steps=40, eval_every=4, keep="linear_miou", final_probes="refit")
    kept = result.best.progress.kept
    assert kept is not None
    alone = train(dataset, "b.safetensors", steps=kept.step, keep="last")
    same = torch.equal(tensors(result.model)["head.linear.weight"], tensors(alone.model)["head.linear.weight"])
    assert same


def test_large_datasets_are_sampled_and_draws_depend_on_the_image_only(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = refit._positions(3, 7, 64, 10)
    assert len(np.unique(chosen)) == 10
    assert np.array_equal(chosen, refit._positions(3, 7, 64, 10))
    assert not np.array_equal(chosen, refit._positions(3, 8, 64, 10))
    monkeypatch.setattr(refit, "MOST_POINTS", 80)
    assert train(dataset, "a.safetensors", final_probes="refit").best.progress.refitted is not None


def test_a_baseline_without_head_can_be_refitted(dataset: Path) -> None:
    result = train(
        dataset, "a.safetensors", method={"kind": "dino"}, loss={"correspondence_weight": 0.0}, final_probes="refit"
    )
    assert result.best.scores["val linear miou"] > 0.5
