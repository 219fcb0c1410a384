"""`stego train` with methods that are fitted, or do nothing: what is computed, kept, shared and saved."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stego_cli.checkpoints.describe import describe_checkpoint
from stego_cli.checkpoints.native import load_checkpoint
from stego_cli.config.model import FilterbankConfig, UmapConfig
from stego_cli.config.train import TrainConfig
from stego_cli.data import views
from stego_cli.engine import saved_state
from stego_cli.engine.train import run as train_run
from stego_cli.engine.train.data import read_squares
from stego_cli.engine.train.run import TrainResult, train_model
from stego_cli.errors import ConfigError, MissingDependencyError, StegoError
from stego_cli.methods.dimred import landmarks
from stego_cli.methods.dimred.pca import Pca
from stego_cli.progress import Silence
from stego_cli.segmenter import Segmenter, Settings
from support import Heard

BASE: dict[str, Any] = {
    "backbone": FilterbankConfig(),
    "resolution": 32,
    "eval_resolution": 32,
    "workers": 0,
    "device": "cpu",
    "batch_size": 4,
    "steps": 6,
    "features": "memory",
}
FIXED = ("dino", "pca", "rp", "hnne", "umap")


class Followed(Heard):
    """Remembers what was tracked, too."""

    def __init__(self) -> None:
        super().__init__()
        self.tracked: list[str] = []

    def track(self, items: Any, doing: str, total: int) -> Any:
        self.tracked.append(doing)
        yield from items


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _quick_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embed by the first channels: the libraries compile for seconds, and have tests of their own."""

    def embed(vectors: torch.Tensor, config: UmapConfig, seed: int) -> torch.Tensor:
        return vectors[:, : config.code_dim] * (1 + seed)

    monkeypatch.setattr(landmarks, "embed", embed)
    monkeypatch.setattr(landmarks, "check_installed", lambda config: None)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for kind in ("imgs", "labels"):
            (tmp_path / "data" / kind / split).mkdir(parents=True)
        for number in range(count):
            pixels = draw.integers(0, 60, (40, 48, 3), dtype=np.uint8)
            pixels[20:, :, number % 3] += 150
            Image.fromarray(pixels).save(tmp_path / "data" / "imgs" / split / f"{number}.png")
            labels = np.repeat(np.arange(2, dtype=np.uint8), 20)[:, None].repeat(48, 1)
            Image.fromarray(labels).save(tmp_path / "data" / "labels" / split / f"{number}.png")
    return tmp_path / "data"


def method_of(kind: str, **settings: Any) -> dict[str, Any]:
    return {"kind": kind, **settings} if kind == "dino" else {"kind": kind, "code_dim": 5, **settings}


def train(folder: Path, kind: str, report: Any = None, settings: Any = (), **changes: Any) -> TrainResult:
    config = TrainConfig(
        **{**BASE, "dataset": str(folder), "classes": 2, "method": method_of(kind, **dict(settings)), **changes}
    )
    return train_model(config, report or Silence())


@pytest.mark.parametrize("kind", FIXED)
def test_only_probes_learn_and_the_model_predicts(labelled: Path, kind: str) -> None:
    heard = Followed()
    result = train(labelled, kind, heard, eval_every=3, steps=20)
    assert result.model.parent.name == f"train-data-filterbank-{kind}"
    assert any(f"method {kind} has nothing to train" in note for note in heard.notes)
    assert not any("neighbour" in each.lower() or "Comparing" in each for each in heard.tracked)
    assert not (Path("home") / "neighbors").exists()
    assert [set(row) for row in result.best.progress.history] == [{"step", "cluster", "linear", "total"}]
    assert (result.folder / "losses.png").is_file()
    checkpoint = load_checkpoint(result.model)
    assert checkpoint.config.method.kind == kind
    model = Segmenter.from_checkpoint(checkpoint)
    prediction = model.predict(labelled / "imgs" / "val" / "0.png", crf=True)
    assert prediction.label_map.shape == (40, 48)
    assert describe_checkpoint(result.model).problems == []


@pytest.mark.parametrize("kind", FIXED)
def test_the_saved_model_gives_the_code_that_the_probes_were_trained_on(
    labelled: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = []
    whole = train_run.run_job
    monkeypatch.setattr(train_run, "run_job", lambda job, report: (jobs.append(job), whole(job, report))[1])
    result = train(labelled, kind, dtype="fp32")
    supply = jobs[0].supply
    model = Segmenter.from_checkpoint(load_checkpoint(result.model))
    squares = read_squares(supply.dataset, supply.square, np.array([0, 1]))
    images = views.normalise(squares, model.backbone.mean, model.backbone.std)
    with torch.no_grad():
        code = model.code(images)
    given = supply.features_of(np.array([0, 1]), torch.device("cpu"))
    torch.testing.assert_close(given, code, rtol=1e-3, atol=1e-3)


def test_a_fit_is_kept_and_shared_by_dimensions_seeds_and_runs(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(labelled, "pca", out="a.safetensors")
    monkeypatch.setattr(Pca, "fit", lambda *_: pytest.fail("it was fitted again"))
    heard = Followed()
    second = train(labelled, "pca", heard, {"code_dim": 3}, out="b.safetensors", seeds=2)
    assert any("using the fit of pca" in note for note in heard.notes)
    one, other = (load_checkpoint(each.model).tensors["head.components"] for each in (first, second))
    assert torch.equal(one[:3], other)
    assert len(list((Path("home") / "fitted").iterdir())) == 1


@pytest.mark.parametrize("broken", [b"", b"\x10\0\0\0\0\0\0\0{}", b"not a file of tensors"])
def test_a_damaged_fit_is_made_anew(labelled: Path, broken: bytes) -> None:
    train(labelled, "pca", out="a.safetensors")
    (kept,) = (Path("home") / "fitted").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(broken)
    train(labelled, "pca", out="b.safetensors")
    assert kept.read_bytes() == whole
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()


def test_the_fit_of_other_images_is_not_used(labelled: Path) -> None:
    train(labelled, "rp", out="a.safetensors")
    pixels = np.random.default_rng(9).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(labelled / "imgs" / "train" / "0.png")
    train(labelled, "rp", out="b.safetensors")
    assert len(list((Path("home") / "fitted").iterdir())) == 2


def test_every_seed_has_its_own_random_projection(labelled: Path) -> None:
    result = train(labelled, "rp", seeds=2)
    one, other = (load_checkpoint(run.model).tensors for run in result.runs)
    assert not torch.equal(one["head.components"], other["head.components"])
    assert torch.equal(one["head.mean"], other["head.mean"])


@pytest.mark.parametrize("kind", ["pca", "umap"])
def test_a_resumed_run_ends_as_one_that_was_not_interrupted(labelled: Path, kind: str) -> None:
    train(labelled, kind, out="whole.safetensors", keep="last")
    train(labelled, kind, out="parts.safetensors", keep="last", steps=3)
    for left in (Path("home") / "fitted").iterdir():
        left.unlink()  # it is fitted again, to the same
    train(labelled, kind, out="parts.safetensors", keep="last", resume=True)
    one, other = (load_checkpoint(Path(f"{name}.safetensors")).tensors for name in ("whole", "parts"))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_fewer_positions_than_landmarks_are_all_landmarks(labelled: Path) -> None:
    checkpoint = load_checkpoint(train(labelled, "umap").model)
    assert isinstance(checkpoint.config.method, UmapConfig)
    assert checkpoint.config.method.landmarks == 6 * 4 * 4
    assert checkpoint.tensors["head.landmarks"].shape[0] == 6 * 4 * 4


@pytest.mark.parametrize("features", ["live", "cache", "auto"])
def test_every_source_of_features_will_do(labelled: Path, features: str) -> None:
    result = train(labelled, "pca", features=features)
    reference = train(labelled, "pca", out="memory.safetensors")
    one, other = (load_checkpoint(each.model).tensors for each in (result, reference))
    # Live features are not rounded to half precision.
    torch.testing.assert_close(one["head.mean"], other["head.mean"], rtol=0, atol=1e-2)
    torch.testing.assert_close(one["cluster_probe.centroids"], other["cluster_probe.centroids"], rtol=0, atol=0.3)


def test_batch_by_batch_the_code_depends_on_company_and_nothing_is_kept(labelled: Path) -> None:
    checkpoint = load_checkpoint(train(labelled, "pca", None, {"standardise": "batch", "fit_on": "first"}).model)
    assert {name for name in checkpoint.tensors if name.startswith("head.")} == {"head.components"}
    model = Segmenter.from_checkpoint(checkpoint)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    images[1] *= 3
    with torch.no_grad():
        assert (model.code(images)[:1] - model.code(images[:1])).abs().max() > 1e-2
    view = model.view(32, 32, Settings())
    assert model.segment([np.zeros((32, 32, 3), np.uint8)], [view], Settings())[0]["cluster"].label_map.shape == (
        32,
        32,
    )


def test_a_loss_that_nothing_learns_from_is_left_out(labelled: Path) -> None:
    loss = {"rec_weight": 1.0, "crf_weight": 1.0, "use_true_labels": True, "knn_weight": 0.4}
    result = train(labelled, "pca", None, (), loss=loss, shifts="auto", steps=20)
    assert set(result.best.progress.history[0]) == {"step", "cluster", "linear", "total"}
    assert result.loss.knn_weight == 0.4
    saved = json.loads((result.folder / "run.json").read_text())["loss"]
    assert saved["correspondence_weight"] == saved["rec_weight"] == saved["crf_weight"] == 0


def test_too_many_dimensions_are_refused_before_anything_is_computed(labelled: Path) -> None:
    heard = Followed()
    with pytest.raises(ConfigError, match=r"code_dim is 500, .* 108 channels"):
        train(labelled, "pca", heard, {"code_dim": 500})
    assert heard.tracked == []


def test_a_missing_library_is_named_before_anything_is_computed(
    labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "umap", None)
    heard = Followed()
    with pytest.raises(MissingDependencyError, match="umap-learn"):
        train(labelled, "umap", heard)
    assert heard.tracked == []


def test_a_full_disk_is_said_and_leaves_no_half_fit(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    from stego_cli.errors import OutputError

    @contextmanager
    def full(path: Path) -> Any:
        raise OutputError(f"cannot write `{path}`: no space left on the disk")
        yield

    monkeypatch.setattr(saved_state, "atomic_write", full)
    with pytest.raises(StegoError, match="no space left"):
        train(labelled, "pca")
    assert not (Path("home") / "fitted").exists()
