"""A grid from end to end on tiny images: what its cells are worth, what it survives, what it shares."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stego_cli.checkpoints.native import load_checkpoint, read_safetensors
from stego_cli.config.ablate import AblateConfig
from stego_cli.config.evaluate import EvalConfig
from stego_cli.engine.ablate import validation, workers
from stego_cli.engine.ablate.ground import open_ground, prepare_ground
from stego_cli.engine.ablate.plan import make_ablation_plan
from stego_cli.engine.ablate.run import run_ablation
from stego_cli.engine.ablate.workers import Crew, Task
from stego_cli.engine.evaluate.run import evaluate_models
from stego_cli.engine.train.run import train_model
from stego_cli.errors import ConfigError, OutputError, StegoError
from stego_cli.features.store import FeatureStore
from stego_cli.methods.dimred import pca
from stego_cli.progress import Silence
from stego_cli.report.ablation_results import read_lines, read_variance

TRAIN: dict[str, Any] = {"steps": 3, "batch_size": 4, "resolution": 32, "eval_resolution": 32, "dtype": "fp32"}


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Images of three sizes with a light and a dark half; one corner is no class."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for kind in ("imgs", "labels"):
            (tmp_path / "scenes" / kind / split).mkdir(parents=True)
        for number in range(count):
            height, width = (40 + 8 * (number % 3 == 1), 48 + 8 * (number % 3 == 2))
            pixels = draw.integers(0, 60, (height, width, 3), dtype=np.uint8)
            pixels[height // 2 :, :, number % 3] += 150
            labels = np.zeros((height, width), np.uint8)
            labels[height // 2 :] = 1
            labels[:6, :6] = 255
            Image.fromarray(pixels).save(tmp_path / "scenes" / "imgs" / split / f"{number}.png")
            Image.fromarray(labels).save(tmp_path / "scenes" / "labels" / split / f"{number}.png")
    return tmp_path / "scenes"


def config_for(folder: Path, **changes: Any) -> AblateConfig:
    values: dict[str, Any] = {
        "datasets": [str(folder)],
        "backbones": ["filterbank"],
        "methods": ["dino", "stego"],
        "dims": [3, 6],
        "seeds": 1,
        "classes": 2,
        "protocol": "native",
        "device": "cpu",
        "jobs": 1,
        "workers": 0,
        "out": "results",
        "train": {**TRAIN, **changes.pop("train", {})},
    }
    return AblateConfig.model_validate({**values, **changes})


def without_seconds(path: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read_lines(path)]


def test_cells_are_recorded_with_all_that_made_them(scenes: Path) -> None:
    result = run_ablation(config_for(scenes, seeds=2, methods=["dino", "pca", "stego"]), Silence())
    keys = [line["key"].removeprefix("scenes/filterbank/") for line in result.lines]
    assert keys[:4] == ["dino-108/seed-0", "dino-108/seed-1", "pca-3/seed-0", "pca-3/seed-1"]
    assert len(keys) == 10
    assert [line["key"] for line in read_lines(Path("results/results.jsonl"))] == [line["key"] for line in result.lines]
    for line in result.lines:
        assert line["status"] == "done"
        assert 0 <= line["cluster"]["miou"] <= 1
        assert set(line["linear"]["per_class"]) == {"class 0", "class 1"}
        assert line["cluster_crf"] is None
        assert line["settings"]["train"]["steps"] == 3
        assert line["provenance"]["images"] == 6
        assert line["provenance"]["measured"] == 3
        assert line["provenance"]["backbone_sha256"]
        assert {"stego", "torch"} <= line["versions"].keys()
        assert line["seconds"]["total"] > 0
    ratio = read_variance(Path("results"))["scenes/filterbank"]["ratio"]
    assert len(ratio) == 108
    assert sum(ratio) == pytest.approx(1.0, abs=1e-4)
    assert ratio == sorted(ratio, reverse=True)


@pytest.mark.parametrize("protocol", ["native", "paper"])
@pytest.mark.parametrize("method", ["dino", "pca", "stego"])
def test_a_cell_is_worth_what_eval_says_of_its_model(scenes: Path, protocol: str, method: str) -> None:
    config = config_for(
        scenes, methods=[method], dims=[6], crf=True, protocol=protocol, keep_models=True, train={"resolution": 40}
    )
    (line,) = run_ablation(config, Silence()).lines
    (model,) = Path("results/models").glob("*.safetensors")
    how = EvalConfig.model_validate(
        {
            "checkpoints": [str(model)],
            "dataset": str(scenes),
            "protocol": protocol,
            "resolution": 32,
            "crf": True,
            "classes": 2,
            "device": "cpu",
            "batch_size": 1,
        }
    )
    entry = evaluate_models(how, Silence()).entries[0]
    for head in ("cluster", "linear", "cluster_crf", "linear_crf"):
        assert line[head]["accuracy"] == pytest.approx(entry[head]["accuracy"], abs=2e-3), head
        assert line[head]["miou"] == pytest.approx(entry[head]["miou"], abs=2e-3), head


@pytest.mark.parametrize("method", ["dino", "pca", "rp", "stego"])
@pytest.mark.parametrize("protocol", ["native", "paper"])
def test_a_cell_learns_what_train_learns(scenes: Path, method: str, protocol: str) -> None:
    how = {"shifts": "auto" if method == "stego" and protocol == "native" else "given"}
    config = config_for(scenes, methods=[method], dims=[6], seed=3, protocol=protocol, keep_models=True, train=how)
    run_ablation(config, Silence())
    (model,) = Path("results/models").glob("*.safetensors")
    settings = config.for_ground(str(scenes), config.all_backbones[0])
    alone = {"method": config.method_config(method, 6), "eval_resolution": 320, "out": Path("alone.safetensors")}
    train_model(settings.model_copy(update=alone), Silence())
    cell, train = load_checkpoint(model), load_checkpoint(Path("alone.safetensors"))
    assert cell.config.method == train.config.method
    assert cell.config.cluster_to_class == train.config.cluster_to_class
    assert cell.tensors.keys() == train.tensors.keys()
    for name, tensor in cell.tensors.items():
        torch.testing.assert_close(tensor, train.tensors[name], atol=1e-5, rtol=1e-5, msg=name)


def test_the_backbone_sees_each_image_once_for_all_cells(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = validation._compute
    monkeypatch.setattr(validation, "_compute", lambda look, images: seen.append(len(images)) or real(look, images))
    run_ablation(config_for(scenes, seeds=2), Silence())
    assert sum(seen) == 3
    run_ablation(config_for(scenes, seeds=2, out="again"), Silence())
    assert sum(seen) == 3


def test_components_are_found_once_for_cells_and_explained_variance(
    scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[int] = []
    real = pca.moments
    monkeypatch.setattr(pca, "moments", lambda vectors, **how: fits.append(1) or real(vectors, **how))
    run_ablation(config_for(scenes, methods=["pca"]), Silence())
    assert len(fits) == 1
    (stored,) = (Path("home") / "fitted").glob("*-pca-*")
    variances = read_safetensors(stored)[1]["variances"]
    ratio = read_variance(Path("results"))["scenes/filterbank"]["ratio"]
    assert ratio == pytest.approx((variances / variances.sum()).tolist())


def test_a_finished_grid_is_left_alone_and_a_larger_one_goes_on(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_ablation(config_for(scenes, dims=[3]), Silence())
    assert first.done == 2
    done: list[str] = []
    real = workers.run_cell
    monkeypatch.setattr(workers, "run_cell", lambda c, g, cell, keep: done.append(cell.key) or real(c, g, cell, keep))
    assert run_ablation(config_for(scenes, dims=[3]), Silence()).done == 0
    assert done == []
    run_ablation(config_for(scenes, dims=[3, 6], resume=True), Silence())
    assert done == ["scenes/filterbank/stego-6/seed-0"]


def test_other_settings_do_not_mix(scenes: Path) -> None:
    run_ablation(config_for(scenes, methods=["dino"]), Silence())
    with pytest.raises(OutputError, match=r"train.steps: 3 before, 4 now"):
        run_ablation(config_for(scenes, methods=["dino"], train={"steps": 4}), Silence())
    with pytest.raises(OutputError, match=r"crf: no before, yes now"):
        run_ablation(config_for(scenes, methods=["dino"], crf=True), Silence())
    assert run_ablation(config_for(scenes, methods=["dino"], train={"steps": 4}, overwrite=True), Silence()).done == 1


def test_other_images_do_not_mix(scenes: Path) -> None:
    run_ablation(config_for(scenes, methods=["dino"]), Silence())
    Image.new("RGB", (48, 40)).save(scenes / "imgs" / "train" / "9.png")
    with pytest.raises(OutputError, match="images"):
        run_ablation(config_for(scenes, methods=["dino"]), Silence())


def test_a_failing_cell_is_recorded_and_the_others_go_on(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = workers.run_cell

    def broken(config: Any, ground: Any, cell: Any, keep: Any) -> Any:
        if cell.method == "stego" and cell.dim == 3:
            raise RuntimeError("a bug")
        if cell.method == "dino":
            raise StegoError("its own fault\n\nhint: none")
        return real(config, ground, cell, keep)

    monkeypatch.setattr(workers, "run_cell", broken)
    result = run_ablation(config_for(scenes), Silence())
    assert [line["status"] for line in result.lines] == ["failed", "failed", "done"]
    by_user, by_us = result.failed
    assert by_user["error"].startswith("its own fault")
    assert "trace" not in by_user
    assert by_us["error"] == "RuntimeError: a bug"
    assert "in broken" in by_us["trace"]
    monkeypatch.setattr(workers, "run_cell", real)
    again = run_ablation(config_for(scenes), Silence())
    assert again.done == 2
    assert not again.failed


def test_a_loss_that_is_no_number_fails_its_cell(scenes: Path) -> None:
    result = run_ablation(config_for(scenes, methods=["stego"], train={"optimiser": {"lr": 1e38}}), Silence())
    assert all("no finite number at step" in line["error"] for line in result.failed)
    assert len(result.failed) == 2


def test_killed_in_the_middle_it_goes_on_at_the_cell(scenes: Path) -> None:
    Path("grid.yaml").write_text(
        json.dumps(config_for(scenes, seeds=2, train={"steps": 8}).model_dump(mode="json", exclude_unset=True))
    )
    command = [sys.executable, "-m", "stego_cli", "ablate", "run", "--config", "grid.yaml", "--quiet"]
    subprocess.run([*command, "--out", "whole"], check=True, capture_output=True, timeout=300)
    process = subprocess.Popen([*command, "--out", "killed"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    results = Path("killed/results.jsonl")
    end = time.monotonic() + 120
    while time.monotonic() < end and not (results.exists() and results.read_bytes().count(b"\n") >= 2):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = results.read_bytes().count(b"\n")
    assert 2 <= done < 6
    with results.open("ab") as file:
        file.write(b'{"format": 1, "key": "scenes/filt')  # as if it had been killed while it wrote
    subprocess.run([*command, "--out", "killed", "--resume"], check=True, capture_output=True, timeout=300)
    assert without_seconds(results) == without_seconds(Path("whole/results.jsonl"))


def test_cells_at_the_same_time_are_those_done_one_by_one(scenes: Path) -> None:
    run_ablation(config_for(scenes, out="one"), Silence())
    run_ablation(config_for(scenes, out="two", jobs=2), Silence())
    one, two = without_seconds(Path("one/results.jsonl")), without_seconds(Path("two/results.jsonl"))
    assert [line["key"] for line in one] == [line["key"] for line in two]
    for first, second in zip(one, two, strict=True):
        assert second["linear"]["accuracy"] == pytest.approx(first["linear"]["accuracy"], abs=0.02)


def test_a_process_that_is_killed_costs_one_cell(scenes: Path) -> None:
    config = config_for(scenes, jobs=2, methods=["stego"])
    plan = make_ablation_plan(config, Silence()).grounds[0]
    ground = prepare_ground(config, plan.ground, plan.plan, Silence()).ground
    tasks = [Task(cell, ground) for cell in plan.grid.cells]
    with Crew(config, ("cpu", "cpu")) as crew:
        # Half a second after it was given its task a process is still loading libraries.
        timer = threading.Timer(0.5, lambda: os.kill(crew._team[0].process.pid or 0, signal.SIGKILL))
        timer.start()
        found = list(crew.do(tasks))
    failed = [outcome for outcome in found if outcome.found is None]
    assert [outcome.task for outcome in failed] == tasks[:1]
    assert "its process was ended by signal 9" in failed[0].error


def test_dimensions_above_the_channels_are_left_out(scenes: Path) -> None:
    plan = make_ablation_plan(config_for(scenes, dims=[6, 192], methods=["dino", "pca"]), Silence())
    assert [(cell.method, cell.dim) for cell in plan.cells] == [("dino", 108), ("pca", 6)]
    assert plan.grounds[0].grid.left_out == (192,)
    with pytest.raises(ConfigError, match="192"):
        make_ablation_plan(config_for(scenes, dims=[192], methods=["pca"]), Silence())


def test_a_plan_writes_nothing(scenes: Path, tmp_path: Path) -> None:
    plan = make_ablation_plan(config_for(scenes), Silence())
    assert plan.seconds > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scenes"]


def test_a_dataset_without_labels_to_measure_on_is_refused(scenes: Path) -> None:
    for path in (scenes / "labels" / "val").iterdir():
        path.unlink()
    with pytest.raises(StegoError, match="labels/val"):
        make_ablation_plan(config_for(scenes), Silence())


def test_nothing_to_resume_is_said(scenes: Path) -> None:
    with pytest.raises(StegoError, match="nothing to go on with"):
        run_ablation(config_for(scenes, resume=True), Silence())


def test_images_that_cannot_be_read_are_named_once_and_left_out(scenes: Path) -> None:
    (scenes / "imgs" / "val" / "1.png").write_bytes(b"no image")
    Image.new("L", (3, 3)).save(scenes / "labels" / "val" / "2.png")
    result = run_ablation(config_for(scenes, methods=["dino"]), Silence())
    assert [line.partition(" ")[0] for line in result.skipped] == ["1.png", "2.png"]
    assert not result.failed


def test_finished_models_are_measured_beside_the_grid(scenes: Path, tiny_model: Path) -> None:
    rows = [
        {"model": str(tiny_model), "dataset": str(scenes)},
        {"model": "cocostuff27_vit_base_5", "dataset": str(scenes)},
        {"model": "mine.safetensors", "dataset": str(scenes), "method": "dino", "made_by": "stego train there"},
    ]
    result = run_ablation(config_for(scenes, methods=[], checkpoints=rows), Silence())
    found, published, own = result.lines
    assert found["status"] == "done"
    assert found["dim"] == 108
    assert 0 <= found["cluster"]["accuracy"] <= 1
    assert "stego download models cocostuff27_vit_base_5" in published["error"]
    assert "run `stego train there`" in own["error"]


@pytest.mark.parametrize("stride", [1, 4])
def test_thin_labels_are_those_in_the_middle_of_their_cells(scenes: Path, stride: int) -> None:
    config = config_for(scenes, train={"label_stride": stride})
    plan = make_ablation_plan(config, Silence()).grounds[0]
    ground = prepare_ground(config, plan.ground, plan.plan, Silence())
    opened = open_ground(config, ground.ground, ground.device, 1, Silence())
    assert opened.labels is not None
    assert opened.supply.labels is not None
    numbers = np.arange(3)
    whole, thin = opened.labels.read(numbers), opened.supply.labels.read(numbers)
    assert thin.shape == (3, 32 // stride, 32 // stride)
    np.testing.assert_array_equal(thin, whole[:, stride // 2 :: stride, stride // 2 :: stride])


def test_codes_of_slow_methods_are_found_once(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hnne")
    written: list[str] = []
    real = FeatureStore.write

    def write(self: FeatureStore, shard: int, records: Any) -> None:
        written.append(str(self.place))
        real(self, shard, records)

    monkeypatch.setattr(FeatureStore, "write", write)
    config = config_for(scenes, methods=["hnne"], dims=[3], seeds=3, method={"hnne": {"landmarks": 60}})
    result = run_ablation(config, Silence())
    assert not result.failed, result.failed
    codes = [place for place in written if "/home/codes/" in place]
    assert len(codes) == len(set(codes)) == 4  # of the training images, and of each of three sizes
    run_ablation(config.model_copy(update={"out": Path("again")}), Silence())
    assert [place for place in written if "/home/codes/" in place] == codes
