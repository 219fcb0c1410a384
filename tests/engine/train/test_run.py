"""`stego train` from end to end on small images: what it makes, reuses, survives, and refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stego_cli.catalog.models import choose_model
from stego_cli.checkpoints.native import load_checkpoint
from stego_cli.config.model import FilterbankConfig
from stego_cli.config.train import TrainConfig
from stego_cli.engine.saved_state import read_tensors, write_tensors
from stego_cli.engine.train import features as train_features
from stego_cli.engine.train.data import Sampler
from stego_cli.engine.train.features import choose
from stego_cli.engine.train.measure import label_free_score
from stego_cli.engine.train.run import TrainResult, train_model
from stego_cli.engine.train.state import KEY, load_state, read_progress, save_state
from stego_cli.engine.train.step import TrainState, train_step
from stego_cli.engine.workplace import workplace
from stego_cli.errors import CheckpointError, ConfigError, MissingDependencyError, OutputError, StegoError
from stego_cli.progress import Silence
from stego_cli.segmenter import Segmenter
from support import Heard

BASE: dict[str, Any] = {
    "backbone": FilterbankConfig(),
    "method": {"kind": "stego", "code_dim": 6},
    "resolution": 32,
    "eval_resolution": 32,
    "workers": 0,
    "device": "cpu",
    "batch_size": 4,
    "steps": 6,
    "features": "memory",
}


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def draw_images(folder: Path, count: int, size: tuple[int, int] = (40, 48), mode: str = "RGB") -> Path:
    """Draw images of a light and a dark half with noise, all different."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    for number in range(count):
        pixels = draw.integers(0, 60, (*size, 3), dtype=np.uint8)
        pixels[size[0] // 2 :, :, number % 3] += 150
        Image.fromarray(pixels).convert(mode).save(folder / f"{number:03d}.png")
    return folder


def draw_labels(folder: Path, count: int, size: tuple[int, int] = (40, 48), lower: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        labels = np.zeros(size, np.uint8)
        labels[size[0] // 2 :] = lower
        Image.fromarray(labels).save(folder / f"{number:03d}.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw_images(tmp_path / "photos", 6)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    root = tmp_path / "labelled"
    for split, count in (("train", 6), ("val", 2)):
        draw_images(root / "imgs" / split, count)
        draw_labels(root / "labels" / split, count)
    return root


def config_for(folder: Path, **changes: Any) -> TrainConfig:
    return TrainConfig(**{**BASE, "dataset": str(folder), **changes})


def train(folder: Path, report: Any = None, **changes: Any) -> TrainResult:
    return train_model(config_for(folder, **changes), report or Silence())


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).tensors


def assert_same_model(first: Path, second: Path) -> None:
    one, other = tensors(first), tensors(second)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_nothing_but_images_become_a_model_that_predict_finds(photos: Path) -> None:
    result = train(photos, classes=3, features="auto")
    assert result.model == Path("runs/train-photos-filterbank/model.safetensors")
    assert choose_model().path == result.model
    model = Segmenter.from_checkpoint(load_checkpoint(result.model))
    assert model.linear_probe is None
    assert model.config.num_clusters == 3
    assert model.predict(photos / "000.png").label_map.shape == (40, 48)
    assert set(result.best.scores) == {"score"}
    assert json.loads((result.folder / "run.json").read_text())["provenance"]["images"] == 6


def test_features_and_neighbours_are_reused_whatever_else_changes(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(photos, classes=3, features="auto")
    monkeypatch.setattr(train_features, "fill", None)
    monkeypatch.setattr("stego_cli.engine.backbone_run.fill", None)  # any computation would fail
    heard = Heard()
    changed = {"classes": 2, "method": {"kind": "stego", "code_dim": 3}, "loss": {"knn_shift": 0.4}}
    train(photos, heard, **changed, features="auto", out="other.safetensors")
    assert any("using the 6 feature maps" in note for note in heard.notes)
    assert any("index is there" in note for note in heard.notes)


def test_images_that_were_added_are_noticed_and_all_is_made_anew(photos: Path) -> None:
    train(photos, classes=2, features="auto")
    draw_images(photos, 7)
    heard = Heard()
    result = train(photos, heard, classes=2, features="auto", out="other.safetensors")
    assert any("made anew" in note for note in heard.notes)
    assert json.loads((result.folder / "run.json").read_text())["provenance"]["images"] == 7


def test_without_a_number_of_classes_it_says_what_to_add(photos: Path) -> None:
    with pytest.raises(StegoError, match="hint: add --classes"):
        train(photos)
    assert not Path("runs").exists()


def test_labels_measure_and_name_and_never_change_the_code(labelled: Path, tmp_path: Path) -> None:
    result = train(labelled, classes=2, keep="last")
    plain = draw_images(tmp_path / "plain", 6)
    without = train(plain, classes=2, keep="last")
    assert result.best.scores["val cluster miou"] <= 1
    assert {"val linear miou", "val linear accuracy", "val cluster_named miou"} <= set(result.best.scores)
    head = {name: value for name, value in tensors(without.model).items() if not name.startswith("linear")}
    assert all(torch.equal(value, tensors(result.model)[name]) for name, value in head.items())
    assert load_checkpoint(result.model).config.cluster_to_class is not None


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 29, 31])
def test_datasets_of_any_size(tmp_path: Path, count: int) -> None:
    folder = draw_images(tmp_path / "few", count)
    result = train(folder, classes=2, batch_size=16, steps=3)
    assert result.best.progress.step == 3
    assert all(np.isfinite(value) for row in result.best.progress.history for value in row.values())


def test_a_batch_larger_than_the_dataset_is_made_smaller(photos: Path) -> None:
    heard = Heard()
    train(photos, heard, classes=2, batch_size=100)
    assert any("batches have 6" in note for note in heard.notes)


def test_one_class(labelled: Path) -> None:
    assert train(labelled, classes=1).best.progress.step == 6


def test_labels_that_are_all_ignored_leave_no_linear_probe(tmp_path: Path) -> None:
    draw_images(tmp_path / "d" / "imgs" / "train", 4)
    draw_labels(tmp_path / "d" / "labels" / "train", 4)
    for path in (tmp_path / "d" / "labels" / "train").iterdir():
        Image.fromarray(np.full((40, 48), 255, np.uint8)).save(path)
    result = train(tmp_path / "d", classes=2)
    assert not load_checkpoint(result.model).config.has_linear_probe
    assert set(result.best.scores) == {"score"}


def test_batches_without_any_label_are_steps_like_any_other(labelled: Path) -> None:
    """Only the last of six images has labels that count, so most batches of two have none."""
    for number in range(5):
        Image.fromarray(np.full((40, 48), 255, np.uint8)).save(labelled / "labels" / "train" / f"{number:03d}.png")
    result = train(labelled, classes=2, batch_size=2, steps=40)
    rows = result.best.progress.history
    assert len(rows) == 2
    assert all(np.isfinite(value) for row in rows for value in row.values())
    assert load_checkpoint(result.model).config.has_linear_probe
    assert np.isfinite(result.best.scores["val linear miou"])


@pytest.mark.parametrize("features", ["cache", "live"])
def test_threads_that_read_change_nothing(labelled: Path, features: str) -> None:
    models = [
        train(labelled, classes=2, workers=workers, features=features, dtype="fp32", out=f"{workers}.safetensors").model
        for workers in (0, 8)
    ]
    assert_same_model(*models)


def test_the_cpu_is_taken_where_there_is_no_card(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert train(photos, classes=2, device="auto").config.device == "cpu"


@pytest.mark.parametrize(("size", "mode"), [((40, 48), "L"), ((5, 9), "RGB"), ((33, 31), "RGB")], ids=str)
def test_grey_small_and_odd_images(tmp_path: Path, size: tuple[int, int], mode: str) -> None:
    folder = draw_images(tmp_path / "odd", 5, size, mode)
    assert train(folder, classes=2, workers=2).best.progress.step == 6


def test_a_missing_val_split_is_said_and_the_score_needs_none(labelled: Path) -> None:
    heard = Heard()
    result = train(labelled, heard, classes=2, val_split="dev")
    assert any("`dev`" in note for note in heard.notes)
    assert set(result.best.scores) == {"score"}


def test_an_image_that_cannot_be_read_is_named_and_left_out(photos: Path) -> None:
    (photos / "002.png").write_bytes(b"no image")
    result = train(photos, classes=2)
    assert any("002.png" in line for line in result.skipped)


def test_one_image_that_can_be_read_is_enough(tmp_path: Path) -> None:
    folder = draw_images(tmp_path / "two", 2)
    (folder / "001.png").write_bytes(b"no image")
    assert train(folder, classes=2).best.progress.step == 6
    (folder / "000.png").write_bytes(b"no image")
    with pytest.raises(StegoError, match="no image could be used"):
        train(folder, classes=2, out="none.safetensors")


def test_the_folder_of_the_images_may_be_read_only(photos: Path) -> None:
    before = sorted(path.name for path in photos.iterdir())
    photos.chmod(0o555)
    try:
        assert train(photos, classes=2).best.progress.step == 6
    finally:
        photos.chmod(0o755)
    assert sorted(path.name for path in photos.iterdir()) == before


def test_the_same_seed_gives_the_same_model_and_another_another(photos: Path) -> None:
    first = train(photos, classes=2, seed=3, out="a.safetensors")
    second = train(photos, classes=2, seed=3, out="b.safetensors", workers=2)
    other = train(photos, classes=2, seed=4, out="c.safetensors")
    assert_same_model(first.model, second.model)
    assert not torch.equal(tensors(first.model)["head.linear.weight"], tensors(other.model)["head.linear.weight"])


@pytest.mark.parametrize("mode", ["cache", "memory", "live"])
def test_where_features_come_from_changes_nothing(photos: Path, mode: str) -> None:
    reference = train(photos, classes=2, dtype="fp32", features="auto", out="a.safetensors")
    result = train(photos, classes=2, dtype="fp32", features=mode, out="b.safetensors")
    for name, value in tensors(reference.model).items():
        torch.testing.assert_close(tensors(result.model)[name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("disk", "memory", "augmented", "mode"),
    [
        (True, True, False, "held"),
        (True, False, False, "cache"),
        (False, True, False, "memory"),
        (False, False, False, "live"),
        (True, True, True, "live"),
    ],
)
def test_auto_takes_the_fastest_that_fits_and_says_why(disk: bool, memory: bool, augmented: bool, mode: str) -> None:
    choice = choose("auto", 3 * 10**9, fits_disk=disk, fits_memory=memory, augmented=augmented)
    assert choice.mode == mode
    assert ("augmented" if augmented else "3.0 GB") in choice.why


def test_memory_that_does_not_suffice_is_refused_when_asked_for() -> None:
    with pytest.raises(ConfigError, match="do not fit into memory"):
        choose("memory", 10**9, fits_disk=True, fits_memory=False, augmented=False)


def test_memory_alone_writes_no_features(photos: Path, tmp_path: Path) -> None:
    train(photos, classes=2, features="memory")
    assert not list((tmp_path / "home").rglob("*-maps"))


COMMAND = """
import sys
from stego_cli.config.train import TrainConfig
from stego_cli.engine.train.run import train_model
from stego_cli.progress import Silence
train_model(TrainConfig.model_validate_json(sys.argv[1]), Silence())
"""


def started(config: TrainConfig, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, config.model_dump_json(exclude={"about"})],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
    )


def wait_for(path: Path, process: subprocess.Popen[bytes], least: int) -> None:
    """Wait until a run has saved a state of at least so many steps."""
    until = time.monotonic() + 100
    while time.monotonic() < until and process.poll() is None:
        if path.is_file() and read_progress(path).step >= least:
            return
        time.sleep(0.01)
    raise AssertionError(f"no state of {least} steps: {process.communicate()[1]!r}")


def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(labelled: Path) -> None:
    common = {"classes": 2, "steps": 400, "checkpoint_every": 7, "eval_every": 150, "features": "auto"}
    # Every run in a process of its own, as with the command: what else a process has done may set its arithmetic up
    # in another way, by the last bit.
    finish(started(config_for(labelled, **common, out="whole.safetensors")))
    config = config_for(labelled, **common, out="killed.safetensors")
    state = Path("killed.run/state.safetensors")
    draw = np.random.default_rng()  # a moment that nobody chose
    for least in (1, int(draw.integers(50, 350))):
        process = started(config)
        wait_for(state, process, least)
        time.sleep(float(draw.uniform(0, 0.05)))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert read_progress(state).step < 400
    finish(started(config))
    assert Path("killed.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()
    assert Path("killed.run/last.safetensors").read_bytes() == Path("whole.run/last.safetensors").read_bytes()
    resumed, whole = (json.loads(Path(f"{name}.run/run.json").read_text()) for name in ("killed", "whole"))
    assert resumed["history"] == whole["history"]
    assert resumed["measured"] == whole["measured"]


def finish(process: subprocess.Popen[bytes]) -> None:
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 0, said


def test_ctrl_c_saves_and_the_same_command_goes_on(photos: Path) -> None:
    config = config_for(photos, classes=2, steps=100_000, checkpoint_every=5, out="m.safetensors")
    process = started(config)
    wait_for(Path("m.run/state.safetensors"), process, 5)
    process.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in process.communicate(timeout=60)[1]
    done = read_progress(Path("m.run/state.safetensors")).step
    assert 5 <= done < 100_000
    heard = Heard()
    result = train_model(config.model_copy(update={"steps": done + 3}), heard)
    assert any(f"going on after step {done}" in note for note in heard.notes)
    assert result.best.progress.step == done + 3


def test_a_finished_run_is_kept_unless_told_otherwise(photos: Path) -> None:
    first = train(photos, classes=2)
    before = first.model.read_bytes()
    with pytest.raises(OutputError, match="--overwrite"):
        train(photos, classes=2)
    with pytest.raises(StegoError, match="classes: 2 before, 3 now"):
        train(photos, classes=3, resume=True)
    assert first.model.read_bytes() == before
    longer = train(photos, classes=2, steps=9, resume=True)
    assert longer.best.progress.step == 9
    assert train(photos, classes=3, overwrite=True).best.progress.step == 6


def test_to_resume_nothing_is_refused(photos: Path) -> None:
    with pytest.raises(StegoError, match="no run to go on with"):
        train(photos, classes=2, resume=True)


def test_a_model_of_somebody_else_is_not_replaced(photos: Path) -> None:
    Path("mine.safetensors").write_bytes(b"mine")
    with pytest.raises(OutputError, match="is there"):
        train(photos, classes=2, out="mine.safetensors")
    assert Path("mine.safetensors").read_bytes() == b"mine"


def test_a_loss_that_is_no_number_stops_the_run_with_the_state_before_it(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = train(photos, classes=2, steps=3, out="good.safetensors")

    def broken(state: TrainState, step: Any, number: int, *rest: Any) -> Any:
        if number == 3:
            step.features[:] = torch.nan
        return train_step(state, step, number, *rest)

    monkeypatch.setattr("stego_cli.engine.train.loop.train_step", broken)
    with pytest.raises(StegoError, match=r"at step 3, with the images `00\d.png`") as raised:
        train(photos, classes=2, out="bad.safetensors")
    assert str(raised.value).count(".png`") == 4
    state = Path("bad.run/state.safetensors")
    assert read_progress(state).step == 3
    from stego_cli.checkpoints.native import read_safetensors

    kept, wanted = read_safetensors(state)[1], read_safetensors(Path("good.run/state.safetensors"))[1]
    assert all(torch.equal(value, kept[name]) for name, value in wanted.items() if not name.startswith("window"))
    assert good.best.progress.step == 3


def test_time_that_is_up_ends_in_good_order(photos: Path) -> None:
    result = train(photos, classes=2, steps=100_000, minutes=0.005)
    assert result.best.ending == "minutes"
    assert 0 < result.best.progress.step < 100_000
    assert result.model.is_file()
    assert train(photos, classes=2, steps=result.best.progress.step + 2, resume=True).best.ending == "done"


def test_every_start_has_the_time_that_it_is_given(photos: Path) -> None:
    first = train(photos, classes=2, steps=3)
    state = first.folder / "state.safetensors"
    metadata, values = read_tensors(state)
    about = json.loads(metadata[KEY])
    write_tensors(state, values, {KEY: json.dumps({**about, "seconds": 1e6})})  # as if they had taken days
    assert train(photos, classes=2, minutes=10).best.ending == "done"


def test_time_that_is_up_leaves_the_seeds_after_it_for_the_same_command(photos: Path) -> None:
    heard = Heard()
    first = train(photos, heard, classes=2, steps=4, seeds=2, minutes=1e-9)
    assert [(run.seed, run.progress.step) for run in first.runs] == [(0, 1)]
    assert "time is up after step 1 of 4 of seed 0; the same command goes on" in heard.notes
    assert_same_model(first.model, first.best.model)
    second = train(photos, classes=2, steps=4, seeds=2)
    assert [(run.seed, run.progress.step) for run in second.runs] == [(0, 4), (1, 4)]
    assert (second.folder / "seed-1" / "losses.png").is_file()


def test_a_run_at_work_keeps_its_files_whatever_others_are_told_to_do(photos: Path) -> None:
    first = train(photos, classes=2)
    files = {path: path.read_bytes() for path in (first.model, *first.folder.iterdir())}
    with workplace(first.folder), pytest.raises(OutputError, match="another run is writing to"):
        train(photos, classes=2, overwrite=True)
    assert {path: path.read_bytes() for path in files} == files


def test_what_is_refused_leaves_no_folders(photos: Path) -> None:
    with pytest.raises(StegoError, match="no run to go on with"):
        train(photos, classes=2, resume=True, out="a/b/m.safetensors")
    assert not Path("a").exists()


@pytest.mark.parametrize(("steps", "rows"), [(7, [7]), (20, [20]), (25, [20, 25])])
def test_every_step_is_in_the_picture_of_the_losses(
    photos: Path, steps: int, rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(
        "stego_cli.engine.train.run.draw_loss_curve", lambda history, _path, title: drawn.append((history, title))
    )
    result = train(photos, classes=2, steps=steps, out="models/m.safetensors")
    ((history, title),) = drawn
    assert [row["step"] for row in history] == rows
    assert all(np.isfinite(row["total"]) for row in history)
    assert title == "models/m, seed 0"
    assert [row["step"] for row in result.best.progress.history] == [step for step in rows if step % 20 == 0]


def test_seeds_are_trained_compared_and_the_best_by_the_label_free_score_kept(photos: Path) -> None:
    result = train(photos, classes=2, seeds=3, seed=5)
    assert [run.seed for run in result.runs] == [5, 6, 7]
    scores = [run.scores["score"] for run in result.runs]
    assert result.best.scores["score"] == max(scores)
    assert result.spread["score"] == (pytest.approx(np.mean(scores)), pytest.approx(np.std(scores, ddof=1)))
    assert_same_model(result.model, result.best.model)
    single = train(photos, classes=2, seed=6, out="single.safetensors")
    assert_same_model(single.model, result.runs[1].model)


def test_probes_are_reset_at_their_step(photos: Path) -> None:
    first = train(photos, classes=2, reset_probes_at=5, out="a.safetensors")
    second = train(photos, classes=2, out="b.safetensors")
    one, other = tensors(first.model), tensors(second.model)
    assert torch.equal(one["head.linear.weight"], other["head.linear.weight"])
    assert not torch.equal(one["cluster_probe.centroids"], other["cluster_probe.centroids"])


@pytest.mark.parametrize(
    "loss",
    [
        {"crf_weight": 0.5, "crf": {"samples": 20}},
        {"rec_weight": 1.0},
        {"aug_weight": 1.0},
        {"correspondence_weight": 0.0, "rec_weight": 1.0},
        {"stabilise": True, "pointwise": False},
    ],
    ids=str,
)
def test_every_term_of_the_loss(photos: Path, loss: dict[str, Any]) -> None:
    result = train(photos, classes=2, steps=20, loss=loss, features="auto")
    row = result.best.progress.history[-1]
    for term in ("crf", "rec", "aug"):
        assert (term in row) == (f"{term}_weight" in loss)
    assert ("self" in row) == (loss.get("correspondence_weight", 1) > 0)


def test_true_labels_instead_of_features(labelled: Path, photos: Path) -> None:
    assert train(labelled, classes=2, loss={"use_true_labels": True}).best.progress.step == 6
    with pytest.raises(StegoError, match="there are none"):
        train(photos, classes=2, loss={"use_true_labels": True})


def test_automatic_shifts_are_shown_and_used(photos: Path) -> None:
    heard = Heard()
    result = train(photos, heard, classes=2, shifts="auto")
    shifts = [result.loss.self_shift, result.loss.knn_shift, result.loss.random_shift]
    for name, shift in zip(("self", "knn", "random"), shifts, strict=True):
        assert any(note.strip().startswith(name) and f"{shift:.3f}" in note for note in heard.notes)
    assert shifts != [0.18, 0.12, 0.46]


def test_a_baseline_without_head(photos: Path) -> None:
    result = train(photos, classes=2, method={"kind": "dino"}, loss={"correspondence_weight": 0.0})
    assert not any(name.startswith("head.") for name in tensors(result.model))


def test_labels_of_the_val_split_alone_measure_clusters(labelled: Path) -> None:
    shutil.rmtree(labelled / "labels" / "train")
    heard = Heard()
    result = train(labelled, heard, classes=2)
    assert "2 to measure on; only the latter have labels" in " ".join(heard.notes)
    assert {"val cluster miou", "val cluster accuracy"} <= result.runs[0].scores.keys()
    assert load_checkpoint(result.model).config.cluster_to_class is None


def test_extra_clusters(labelled: Path) -> None:
    result = train(labelled, classes=2, extra_clusters=2)
    config = load_checkpoint(result.model).config
    assert config.num_clusters == 4
    assert sorted(config.cluster_to_class or ()) == [-1, -1, 0, 1]


def test_extra_clusters_share_names_where_each_is_called_what_most_of_it_is(labelled: Path) -> None:
    result = train(labelled, classes=2, extra_clusters=2, names="majority", final_probes="refit")
    named = load_checkpoint(result.model).config.cluster_to_class or ()
    assert sorted(set(named)) == [0, 1]
    assert len(named) == 4


def test_tensorboard_is_optional(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match="pip install tensorboard"):
        train(photos, classes=2, tensorboard=True)


def test_every_epoch_shows_every_image_once() -> None:
    sampler = Sampler(np.arange(10, 22), np.full((22, 0), -1), 4)
    seen = [sampler.images(7, step) for step in range(6)]
    assert sorted(np.concatenate(seen[:3])) == list(range(10, 22))
    assert sorted(np.concatenate(seen[3:])) == list(range(10, 22))
    assert not np.array_equal(np.concatenate(seen[:3]), np.concatenate(seen[3:]))
    assert np.array_equal(sampler.images(7, 4), seen[4])


def test_partners_are_neighbours_one_as_likely_as_the_other() -> None:
    neighbors = np.array([[1, 2, 3], [0, -1, -1], [-1, -1, -1], [0, 1, -1]])
    sampler = Sampler(np.arange(4), neighbors, 4)
    images = np.arange(4)
    drawn = np.stack([sampler.partners(1, step, images) for step in range(3000)])
    assert np.array_equal(drawn[:, 1], np.zeros(3000))
    assert np.array_equal(drawn[:, 2], np.full(3000, 2))  # it has none, so it is its own
    for image, choices in ((0, (1, 2, 3)), (3, (0, 1))):
        found, counts = np.unique(drawn[:, image], return_counts=True)
        assert tuple(found) == choices
        assert counts.min() > 0.85 * 3000 / len(choices)


def test_states_of_other_sizes_are_refused(photos: Path) -> None:
    from stego_cli.config.losses import LossConfig, OptimiserConfig
    from stego_cli.config.model import StegoConfig
    from stego_cli.engine.train.state import Progress
    from stego_cli.engine.train.step import build_train_state

    def state(dim: int) -> TrainState:
        return build_train_state(StegoConfig(code_dim=dim), LossConfig(), OptimiserConfig(), 5, 2, None, 0)

    save_state(state(4), Progress({"a": 1}, step=3), Path("s.safetensors"))
    assert load_state(Path("s.safetensors"), state(4)).step == 3
    with pytest.raises(CheckpointError, match="other sizes"):
        load_state(Path("s.safetensors"), state(3))
    Path("s.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError):
        read_progress(Path("s.safetensors"))


def trainee_of(centroids: torch.Tensor) -> Any:
    """Return a trainee whose code is the feature map itself."""
    from stego_cli.config.losses import LossConfig, OptimiserConfig
    from stego_cli.config.model import DinoConfig
    from stego_cli.engine.train.step import build_train_state

    state = build_train_state(
        DinoConfig(), LossConfig(), OptimiserConfig(), centroids.shape[1], len(centroids), None, 0
    )
    with torch.no_grad():
        state.trainee.cluster_probe.centroids.copy_(centroids)
    return state.trainee


class _Given:
    """Features in the place of a `Supply`."""

    def __init__(self, features: torch.Tensor) -> None:
        self.features = features
        self.sampler = Sampler(np.arange(len(features)), np.full((len(features), 0), -1), 2)

    def features_of(self, images: Any, device: Any) -> torch.Tensor:
        return self.features[images]


def test_the_label_free_score_wants_clear_and_balanced_clusters() -> None:
    axes = torch.eye(4)
    kinds = torch.arange(64).remainder(4).view(4, 4, 4)
    cpu = torch.device("cpu")

    def score(features: torch.Tensor, centroids: torch.Tensor) -> float:
        return label_free_score(trainee_of(centroids), _Given(features), cpu)  # type: ignore[arg-type]

    clear = axes[kinds].movedim(-1, 1)
    assert score(clear, axes) > 0.99
    assert score(clear[:, [0, 0, 0, 0]], axes) == pytest.approx(0, abs=1e-6)  # everything is alike
    collapsed = torch.zeros_like(clear)
    collapsed[:, 0] = 1
    assert score(collapsed, axes) < 0.01
    two = axes[kinds.remainder(2)].movedim(-1, 1)
    assert score(two, axes) == pytest.approx(0.5, abs=0.01)  # one bit of two


def test_a_vision_transformer_with_weights_of_ones_own(photos: Path) -> None:
    from safetensors.torch import save_file

    from stego_cli.backbones.registry import build_backbone
    from stego_cli.config.model import VitArchitecture, VitConfig

    sizes = VitArchitecture(patch_size=8, width=12, depth=2, heads=3, image_size=32)
    backbone = VitConfig(name="mine", architecture=sizes)
    torch.manual_seed(0)
    save_file(build_backbone(backbone).network.state_dict(), "vit.safetensors")
    for features in ("auto", "live"):
        changes = {"classes": 2, "backbone": backbone, "weights": "vit.safetensors", "features": features}
        result = train(photos, **changes, out=f"{features}.safetensors", dtype="fp32")
        model = Segmenter.from_checkpoint(load_checkpoint(result.model))
        assert model.predict(photos / "000.png").label_map.shape == (40, 48)
    for name, value in tensors(Path("auto.safetensors")).items():
        torch.testing.assert_close(tensors(Path("live.safetensors"))[name], value, atol=1e-5, rtol=1e-4)
