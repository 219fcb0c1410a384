"""What TensorBoard and Weights & Biases are shown of a training."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stego_cli.config.model import FilterbankConfig
from stego_cli.config.train import TrainConfig
from stego_cli.engine.train import watch
from stego_cli.engine.train.curves import tensorboard
from stego_cli.engine.train.run import train_model
from stego_cli.errors import MissingDependencyError, OutputError, StegoError
from stego_cli.progress import Silence

PAIRS = {f"{what}/{kind}" for what in ("features", "codes") for kind in ("self", "knn", "random")}


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for kind in ("imgs", "labels"):
            (tmp_path / "data" / kind / split).mkdir(parents=True)
        for number in range(count):
            pixels = draw.integers(0, 60, (40, 48, 3), dtype=np.uint8)
            pixels[20:, :, number % 3] += 150
            Image.fromarray(pixels).save(tmp_path / "data" / "imgs" / split / f"{number}.png")
            Image.fromarray((np.arange(40) >= 20).astype(np.uint8)[:, None].repeat(48, 1)).save(
                tmp_path / "data" / "labels" / split / f"{number}.png"
            )
    return tmp_path / "data"


def config_for(dataset: Path, **changes: Any) -> TrainConfig:
    usual: dict[str, Any] = {
        "backbone": FilterbankConfig(),
        "method": {"kind": "stego", "code_dim": 6},
        "resolution": 32,
        "eval_resolution": 32,
        "workers": 0,
        "device": "cpu",
        "batch_size": 4,
        "steps": 40,
        "eval_every": 20,
        "classes": 2,
        "features": "memory",
        "out": Path("m.safetensors"),
    }
    return TrainConfig(**{**usual, "dataset": str(dataset), **changes})


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "histograms": 0})
    found.Reload()
    return found


def test_tensorboard_gets_curves_histograms_and_pictures(dataset: Path) -> None:
    result = train_model(config_for(dataset, tensorboard=True), Silence())
    found = events(result.folder / "tensorboard")
    tags = found.Tags()
    assert {"total", "self", "score", "val/cluster/miou"} <= set(tags["scalars"])
    totals = [event.value for event in found.Scalars("total")]
    assert totals == pytest.approx([row["total"] for row in result.best.progress.history])
    assert set(tags["histograms"]) == {*PAIRS, "clusters/size"}
    sizes = found.Histograms("clusters/size")
    assert [event.step for event in sizes] == [20, 40]
    assert sum(sizes[0].histogram_value.bucket) == 6 * 4 * 4  # every cell of the six training images
    cosines = found.Histograms("codes/self")[0].histogram_value
    assert -1.001 <= cosines.min <= cosines.max <= 1.001
    assert set(tags["images"]) == {f"val/{number}.png" for number in range(3)}
    shown = found.Images("val/0.png")
    assert [event.step for event in shown] == [20, 40]
    assert (shown[0].height, shown[0].width) == (40, 3 * 48 + 2 * 4)  # image, clusters, labels


def test_without_labels_training_images_are_shown_with_their_clusters(dataset: Path) -> None:
    config = config_for(dataset / "imgs" / "train", tensorboard=True, steps=20)
    found = events(train_model(config, Silence()).folder / "tensorboard")
    assert set(found.Tags()["images"]) == {f"train/{number}.png" for number in (0, 2, 3, 5)}
    assert found.Images("train/0.png")[0].width == 2 * 48 + 4


def test_a_run_that_goes_on_shows_every_step_once(dataset: Path) -> None:
    train_model(config_for(dataset, tensorboard=True), Silence())
    result = train_model(config_for(dataset, tensorboard=True, steps=80, resume=True), Silence())
    found = events(result.folder / "tensorboard")
    assert [event.step for event in found.Scalars("total")] == [20, 40, 60, 80]


def test_nothing_is_computed_for_nobody(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "correspondences", None)
    monkeypatch.setattr(watch, "pictures", None)
    result = train_model(config_for(dataset), Silence())
    assert not (result.folder / "tensorboard").exists()


def test_who_watches_changes_nothing(dataset: Path) -> None:
    watched = train_model(config_for(dataset, tensorboard=True, out=Path("a.safetensors")), Silence())
    alone = train_model(config_for(dataset, out=Path("b.safetensors")), Silence())
    assert watched.model.read_bytes() == alone.model.read_bytes()
    assert watched.best.progress.history == alone.best.progress.history


def test_event_files_that_cannot_be_written_are_said_in_words(dataset: Path) -> None:
    Path("m.run").mkdir()
    Path("m.run/tensorboard").write_text("a file in the way")
    with pytest.raises(OutputError, match="m.run/tensorboard"):
        train_model(config_for(dataset, tensorboard=True), Silence())


def test_a_full_disk_is_said_once_and_not_by_the_thread_that_noticed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    heard: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", heard.append)
    ours = threading.excepthook
    with (
        monkeypatch.context() as disk,
        pytest.raises(OutputError, match="no space left"),
        tensorboard(tmp_path / "t", 0) as watcher,
    ):
        disk.setattr(RecordWriter, "write", full)
        for step in range(10_000):
            watcher.scalars(step, {"total": 1.0})
    assert heard == []
    assert threading.excepthook is ours
    with tensorboard(tmp_path / "u", 0):  # what goes wrong elsewhere is said as ever
        other = threading.Thread(target=full)
        other.start()
        other.join()
    assert [type(each.exc_value) for each in heard] == [OSError]


@pytest.mark.parametrize(
    ("module", "settings", "hint"),
    [
        ("torch.utils.tensorboard", {"tensorboard": True}, "pip install tensorboard"),
        ("wandb", {"wandb": "p"}, r"pip install 'stego-cli\[wandb\]'"),
    ],
)
def test_a_package_that_is_missing_is_named_before_anything_is_done(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, module: str, settings: dict[str, Any], hint: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=hint):
        train_model(config_for(dataset, **settings), Silence())
    assert sorted(path.name for path in Path().iterdir()) == ["data"]


class StandIn:
    """A module with the interface of `wandb`, as far as it is used."""

    Error = type("Error", (Exception,), {})

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.rows: list[tuple[int, dict[str, Any]]] = []
        self.finished = 0
        self.Settings = dict
        self.Histogram = lambda np_histogram: SimpleNamespace(counts=np_histogram[0], edges=np_histogram[1])
        self.Image = lambda pixels: SimpleNamespace(shape=pixels.shape)

    def init(self, **how: Any) -> Any:
        self.started.append(how)
        # No `url`: the real one complains aloud when asked for it offline.
        about = {"id": how["id"] or "abc", "offline": True, "dir": how["dir"]}
        return SimpleNamespace(**about, log=self.log, finish=self.finish)

    def log(self, values: dict[str, Any], step: int) -> None:
        self.rows.append((step, values))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    module = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_weights_and_biases_get_settings_curves_histograms_and_pictures(dataset: Path, stand_in: StandIn) -> None:
    result = train_model(config_for(dataset, wandb="streets"), Silence())
    (how,) = stand_in.started
    assert (how["project"], how["config"]["steps"], how["config"]["seed"]) == ("streets", 40, 0)
    steps = [step for step, _ in stand_in.rows]
    assert steps == sorted(steps)
    logged = {name: value for _, values in stand_in.rows for name, value in values.items()}
    assert logged["total"] == result.best.progress.history[-1]["total"]
    assert logged["val/cluster/miou"] == result.best.progress.measured[-1].values["val cluster miou"]
    assert set(logged) >= {*PAIRS, *(f"val/{number}.png" for number in range(3))}
    assert logged["clusters/size"].counts.sum() == 6 * 4 * 4
    assert len(logged["clusters/size"].edges) == 3
    assert logged["val/0.png"].shape == (40, 3 * 48 + 2 * 4, 3)
    assert stand_in.finished == 1


def test_a_run_that_goes_on_is_the_same_one_there_and_a_new_one_another(dataset: Path, stand_in: StandIn) -> None:
    train_model(config_for(dataset, wandb="streets"), Silence())
    train_model(config_for(dataset, wandb="streets", steps=60, resume=True), Silence())
    train_model(config_for(dataset, wandb="streets", overwrite=True), Silence())
    assert [how["id"] for how in stand_in.started] == [None, "abc", None]


@pytest.mark.parametrize("left", [b"\xff\xfe", b"", b"two words", b"../up"])
def test_an_identifier_that_is_none_begins_another_run_there(dataset: Path, stand_in: StandIn, left: bytes) -> None:
    train_model(config_for(dataset, wandb="streets", steps=20), Silence())
    Path("m.run/wandb-run.txt").write_bytes(left)
    train_model(config_for(dataset, wandb="streets", resume=True), Silence())
    assert [how["id"] for how in stand_in.started] == [None, None]
    assert Path("m.run/wandb-run.txt").read_text() == "abc\n"


def test_what_weights_and_biases_refuse_is_said_in_words(dataset: Path, stand_in: StandIn) -> None:
    def refuse(**_: Any) -> None:
        raise stand_in.Error("no key")

    stand_in.init = refuse  # type: ignore[method-assign]
    with pytest.raises(StegoError, match=r"no key\n\nhint: .*WANDB_MODE=offline"):
        train_model(config_for(dataset, wandb="streets"), Silence())


def test_the_real_package_works_without_a_network(dataset: Path) -> None:
    pytest.importorskip("wandb")
    code = (
        "import sys; from stego_cli.config.train import TrainConfig; from stego_cli.progress import Silence\n"
        "from stego_cli.engine.train.run import train_model\n"
        "train_model(TrainConfig.model_validate_json(sys.argv[1]), Silence())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, config_for(dataset, wandb="streets").model_dump_json(exclude={"about"})],
        env={**os.environ, "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    (folder,) = Path("m.run/wandb").glob("offline-run-*")
    (log,) = folder.glob("run-*.wandb")
    assert log.stat().st_size > 1000
    assert len(list((folder / "files" / "media" / "images").rglob("*.png"))) == 6
