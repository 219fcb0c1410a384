"""The main job from files to files, with everything that people's folders hold."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import stego_cli.engine.outputs as outputs_module
import stego_cli.engine.predict as predict_module
from stego_cli.checkpoints.native import Checkpoint, load_checkpoint, save_checkpoint
from stego_cli.config.load import load_config
from stego_cli.config.model import LabelSpace
from stego_cli.config.predict import PredictConfig
from stego_cli.engine.predict import PredictResult, predict_folder
from stego_cli.errors import OutputError, StegoError
from stego_cli.progress import Silence


def picture(path: Path, height: int = 40, width: int = 56, seed: int = 0) -> Path:
    """Write a picture with a bright upper and a dark lower half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 60, (height, width, 3)).astype(np.uint8)
    pixels[: height // 2] += 150
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(5):
        picture(tmp_path / "imgs" / f"{index}.png", seed=index)
    picture(tmp_path / "imgs" / "deep" / "wide.jpg", 30, 90)
    return tmp_path / "imgs"


class Runner:
    """Runs predictions with the tiny model into one folder."""

    def __init__(self, model: Path, out: Path) -> None:
        self.model = model
        self.out = out

    def __call__(self, *paths: str | Path, **options: Any) -> PredictResult:
        given = {"model": str(self.model), "out": self.out, "workers": 2, "batch_size": 2} | options
        return predict_folder(load_config(PredictConfig, options=given), list(paths), Silence())


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path) -> Runner:
    return Runner(tiny_model, tmp_path / "out")


def files(out: Path) -> dict[str, float]:
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in sorted(out.rglob("*")) if path.is_file()}


def test_every_image_gets_a_mask_of_its_own_size(folder: Path, run: Runner) -> None:
    result = run(folder)
    assert (result.done, result.skipped, result.failed) == (6, 0, [])
    for record in result.content["images"]:
        with Image.open(run.out / record["outputs"]["cluster"]["labels"]) as mask, Image.open(record["input"]) as image:
            assert mask.size == image.size
            assert mask.mode == "P"
            assert set(np.unique(np.asarray(mask))) <= {0, 1, 2}
        assert (run.out / record["outputs"]["cluster"]["overlay"]).is_file()
        assert sum(record["shares"]["cluster"].values()) == pytest.approx(1, abs=1e-5)
    assert (run.out / "labels" / "deep" / "wide.png").is_file()
    assert json.loads((run.out / "predictions.json").read_text())["images"] == result.content["images"]
    assert result.gallery == run.out / "index.html"
    assert not (run.out / ".predictions.journal").exists()


def test_shares_are_those_of_the_mask(folder: Path, run: Runner) -> None:
    record = run(folder / "0.png").content["images"][0]
    mask = np.asarray(Image.open(run.out / record["outputs"]["cluster"]["labels"]))
    for value, name in enumerate(("stone", "leaf", "cloud")):
        assert record["shares"]["cluster"].get(name, 0) == pytest.approx((mask == value).mean(), abs=1e-5)


def test_a_second_run_does_nothing_and_says_so(folder: Path, run: Runner) -> None:
    run(folder)
    before = {name: stamp for name, stamp in files(run.out).items() if name.startswith(("labels", "overlays"))}
    second = run(folder)
    assert (second.done, second.skipped) == (0, 6)
    assert {name: stamp for name, stamp in files(run.out).items() if name in before} == before
    assert all(record["shares"] for record in second.content["images"])


def test_a_damaged_mask_and_a_changed_image_are_done_again(folder: Path, run: Runner) -> None:
    run(folder)
    mask = run.out / "labels" / "0.png"
    mask.write_bytes(mask.read_bytes()[:-20])
    (run.out / "overlays" / "1.jpg").unlink()
    picture(folder / "2.png", 24, 24, seed=9)
    second = run(folder)
    assert (second.done, second.skipped) == (3, 3)
    with Image.open(run.out / "labels" / "2.png") as image:
        assert image.size == (24, 24)


def test_overwrite_does_everything_again(folder: Path, run: Runner) -> None:
    run(folder)
    assert run(folder, overwrite=True).done == 6


def test_other_settings_are_not_mixed_in(folder: Path, run: Runner) -> None:
    run(folder)
    with pytest.raises(OutputError, match="mirror: yes there, no now"):
        run(folder, mirror=False)


def test_more_kinds_of_output_are_added_to_what_is_there(folder: Path, run: Runner) -> None:
    run(folder, save="labels")
    result = run(folder, save="labels,probs")
    assert result.done == 6
    with np.load(run.out / "probs" / "0.npz") as file:
        assert file["probs"].shape[0] == 3
        assert tuple(file["image_size"]) == (40, 56)


def test_results_for_other_inputs_stay(folder: Path, run: Runner) -> None:
    run(folder / "0.png")
    second = run(folder / "1.png")
    assert second.content["summary"]["kept"] == 1
    assert [record["status"] for record in second.content["images"]] == ["done", "kept"]
    assert run(folder).skipped == 2


def test_both_probes_have_their_own_folders(folder: Path, run: Runner) -> None:
    result = run(folder, probe="both")
    assert set(result.content["label_spaces"]) == {"cluster", "linear"}
    assert (run.out / "labels" / "0.png").is_file()
    assert (run.out / "labels_linear" / "0.png").is_file()


def test_the_crf_makes_up_its_mind(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    sure = []
    for crf in (False, True):
        result = Runner(tiny_model, tmp_path / str(crf))(folder / "0.png", crf=crf, save="labels,probs")
        with np.load(result.out / "probs" / "0.npz") as file:
            probs = file["probs"].astype(np.float32)
        np.testing.assert_allclose(probs.sum(0), 1, atol=2e-3)
        sure.append(probs.max(0).mean())
        with Image.open(result.out / "labels" / "0.png") as mask:
            assert mask.size == (56, 40)
    assert sure[1] > sure[0] + 0.1


def test_paper_crops_and_marks_what_is_outside(folder: Path, run: Runner) -> None:
    run(folder, protocol="paper", resolution=32)
    mask = np.asarray(Image.open(run.out / "labels" / "deep" / "wide.png"))
    assert mask.shape == (30, 90)
    assert (mask[:, :25] == 255).all()
    assert (mask[:, 40:50] != 255).all()


def test_workers_make_no_difference(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    results = [Runner(tiny_model, tmp_path / str(n))(folder, workers=n, batch_size=n + 1) for n in (0, 3)]
    for first, second in zip(*(result.content["images"] for result in results), strict=True):
        assert first["shares"] == second["shares"]


# --- bad input -------------------------------------------------------------------------------------------------------


def failures(result: PredictResult) -> dict[str, str]:
    return {Path(path).name: reason for path, reason in result.failed}


def test_unreadable_images_are_named_and_the_rest_is_finished(folder: Path, run: Runner) -> None:
    whole = (folder / "0.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("hello")
    result = run(folder)
    assert result.done == 6
    assert set(failures(result)) == {"truncated.png", "empty.jpg", "text.png"}
    assert all(reason and "Traceback" not in reason for reason in failures(result).values())
    assert not list(run.out.rglob("*truncated*"))


def test_a_failed_image_is_tried_again_next_time(folder: Path, run: Runner) -> None:
    (folder / "late.png").write_bytes(b"")
    assert run(folder).failed
    picture(folder / "late.png")
    second = run(folder)
    assert (second.done, second.skipped, second.failed) == (1, 6, [])


def test_a_folder_named_like_an_image_is_a_folder(tmp_path: Path, run: Runner) -> None:
    picture(tmp_path / "x.jpg" / "inside.png")
    assert run(tmp_path / "x.jpg").done == 1


@pytest.mark.parametrize(("height", "width"), [(1, 1), (10, 4000), (3, 7)])
def test_odd_sizes(tmp_path: Path, run: Runner, height: int, width: int) -> None:
    picture(tmp_path / "a.png", height, width)
    record = run(tmp_path / "a.png").content["images"][0]
    assert record["status"] == "done"
    with Image.open(run.out / "labels" / "a.png") as mask:
        assert mask.size == (width, height)


ONE_PIXEL = np.full((1, 1, 3), 200, np.uint8)
ONE_COLOUR = np.full((40, 56, 3), 77, np.uint8)
SIXTEEN_BITS = np.arange(40 * 56, dtype=np.uint16).reshape(40, 56) * 29
WIDE = np.repeat(np.arange(40, dtype=np.uint8), 31_000).reshape(40, 31_000, 1).repeat(3, 2) * 6


@pytest.mark.parametrize("protocol", ["native", "paper"])
@pytest.mark.parametrize(
    "pixels",
    [ONE_PIXEL, ONE_COLOUR, SIXTEEN_BITS, WIDE, WIDE[:1]],
    ids=["one pixel", "one colour", "16 bits", "31,000 pixels wide", "31,000 pixels in one row"],
)
def test_odd_images_go_through_the_crf(tmp_path: Path, run: Runner, pixels: np.ndarray, protocol: str) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    result = run(tmp_path / "a.png", crf=True, probe="both", protocol=protocol, save=("labels",))
    assert (result.done, result.failed) == (1, [])
    for place in ("labels", "labels_linear"):
        with Image.open(run.out / place / "a.png") as mask:
            assert mask.size == pixels.shape[1::-1]


@pytest.mark.parametrize("crf", [False, True])
def test_a_model_of_one_class_gives_it_to_every_pixel(folder: Path, run: Runner, tmp_path: Path, crf: bool) -> None:
    known = load_checkpoint(run.model)
    space = LabelSpace(name="one", names=("thing",), colours=((1, 2, 3),))
    config = known.config.model_copy(update={"num_clusters": 1, "label_space": space, "cluster_to_class": (0,)})
    tensors = {
        name: values[:1].clone() if name.startswith(("cluster_probe", "linear_probe")) else values
        for name, values in known.tensors.items()
    }
    save_checkpoint(Checkpoint(config, tensors), tmp_path / "one.safetensors")
    result = run(folder / "0.png", model=str(tmp_path / "one.safetensors"), crf=crf, probe="both")
    assert result.failed == []
    for record in result.content["images"]:
        assert record["shares"] == {"cluster": {"thing": 1.0}, "linear": {"thing": 1.0}}


@pytest.mark.parametrize("crf", [False, True])
def test_scores_that_are_no_numbers_end_the_run_and_leave_no_mask(
    folder: Path, run: Runner, crf: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = predict_module.Segmenter.log_probs

    def overflowed(self: Any, *given: Any, **more: Any) -> Any:
        return original(self, *given, **more) * float("nan")

    monkeypatch.setattr(predict_module.Segmenter, "log_probs", overflowed)
    with pytest.raises(StegoError, match="NaN or infinity"):
        run(folder, crf=crf)
    assert not list(run.out.rglob("*.png"))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "I;16"])
def test_every_kind_of_pixel(tmp_path: Path, run: Runner, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    source = Image.open(picture(tmp_path / "source" / "rgb.png"))
    image = (
        Image.fromarray(np.asarray(source.convert("L")).astype(np.uint16) * 257)
        if mode == "I;16"
        else source.convert(mode)
    )
    image.save(path)
    record = run(path).content["images"][0]
    assert record["status"] == "done"
    assert record["notes"]


def test_a_rotated_photograph_is_turned_upright(tmp_path: Path, run: Runner) -> None:
    path = tmp_path / "phone.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(picture(tmp_path / "source" / "rgb.png", 40, 56)).save(path, exif=exif)
    record = run(path).content["images"][0]
    assert (record["height"], record["width"]) == (56, 40)


def test_inputs_that_would_share_a_mask_are_both_kept(tmp_path: Path, run: Runner) -> None:
    for name in ("one/a.jpg", "one/a.png", "two/a.jpg"):
        picture(tmp_path / name)
    result = run(tmp_path / "one", tmp_path / "two")
    masks = [record["outputs"]["cluster"]["labels"] for record in result.content["images"]]
    assert len({mask.lower() for mask in masks}) == 3
    assert all((run.out / mask).is_file() for mask in masks)


def test_names_given_once_stay_when_a_rival_appears(tmp_path: Path, run: Runner) -> None:
    picture(tmp_path / "imgs" / "a.jpg")
    first = run(tmp_path / "imgs").content["images"][0]["outputs"]
    picture(tmp_path / "imgs" / "a.png")
    second = run(tmp_path / "imgs")
    kept = next(record for record in second.content["images"] if record["input"].endswith("a.jpg"))
    assert kept["status"] == "skipped"
    assert kept["outputs"] == first
    assert len({record["outputs"]["cluster"]["labels"] for record in second.content["images"]}) == 2


def test_the_same_name_from_another_folder_later_does_not_replace_a_mask(tmp_path: Path, run: Runner) -> None:
    picture(tmp_path / "one" / "a.png", seed=1)
    picture(tmp_path / "two" / "a.png", 24, 24, seed=2)
    run(tmp_path / "one")
    second = run(tmp_path / "two")
    assert len({record["outputs"]["cluster"]["labels"] for record in second.content["images"]}) == 2
    with Image.open(run.out / "labels" / "a.png") as mask:
        assert mask.size == (56, 40)


@pytest.mark.skipif(os.name == "nt", reason="file names are text there")
def test_a_name_that_is_not_utf8(tmp_path: Path, run: Runner) -> None:
    picture(tmp_path / "imgs" / "x.png").rename(Path(os.fsdecode(os.fsencode(tmp_path / "imgs") + b"/caf\xe9.png")))
    result = run(tmp_path / "imgs")
    assert (result.done, result.failed) == (1, [])
    assert [os.fsencode(path.name) for path in (run.out / "labels").iterdir()] == [b"caf\xe9.png"]
    assert run(tmp_path / "imgs").skipped == 1


def test_the_output_folder_is_never_an_input(folder: Path, tiny_model: Path) -> None:
    inside = Runner(tiny_model, folder / "masks")
    inside(folder)
    assert inside(folder).skipped == 6


def test_nothing_to_segment_is_an_error(tmp_path: Path, run: Runner) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(StegoError, match="none"):
        run(tmp_path / "none")
    with pytest.raises(StegoError, match="missing"):
        run(tmp_path / "missing")
    assert not run.out.exists()


def test_an_output_folder_that_is_a_file(folder: Path, run: Runner) -> None:
    run.out.write_text("")
    with pytest.raises(OutputError, match="file"):
        run(folder)


def test_a_model_without_a_linear_probe_says_so(folder: Path, run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    original = predict_module.Segmenter.from_checkpoint

    def without(*args: Any) -> Any:
        model = original(*args)
        model.linear_probe = None
        return model

    monkeypatch.setattr(predict_module.Segmenter, "from_checkpoint", without)
    with pytest.raises(StegoError, match="no linear probe"):
        run(folder, probe="linear")


def test_a_full_disk_keeps_what_is_finished(folder: Path, run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    original, written = outputs_module.write_label_png, []

    def until_full(path: Path, *args: Any, **kwargs: Any) -> None:
        if len(written) == 3:
            raise OutputError(f"cannot write `{path}`: no space left on the disk")
        written.append(path)
        original(path, *args, **kwargs)

    monkeypatch.setattr(outputs_module, "write_label_png", until_full)
    with pytest.raises(OutputError, match="no space left"):
        run(folder, workers=0)
    monkeypatch.undo()
    assert not list(run.out.rglob(".writing-*"))
    content = json.loads((run.out / "predictions.json").read_text())
    finished = content["summary"]["done"]
    assert finished + content["summary"]["remaining"] == 6
    second = run(folder)
    assert second.skipped == finished
    assert second.done == 6 - finished


def test_a_disk_that_is_full_for_every_file_leaves_no_half_file(
    folder: Path, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder / "0.png")
    before = (run.out / "predictions.json").read_text()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="no space left"):
        run(folder)
    monkeypatch.undo()
    assert (run.out / "predictions.json").read_text() == before
    assert not list(run.out.rglob(".writing-*"))
    assert run(folder).done == 5


def test_an_interrupt_in_the_middle_keeps_what_is_finished(
    folder: Path, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient(Silence):
        def track(self, items: Any, doing: str, total: int) -> Any:
            for index, item in enumerate(items):
                yield item
                if doing == "Segmenting images" and index == 1:
                    raise KeyboardInterrupt

    given = {"model": str(run.model), "out": run.out, "workers": 2, "batch_size": 1}
    with pytest.raises(KeyboardInterrupt):
        predict_folder(load_config(PredictConfig, options=given), [folder], Impatient())
    content = json.loads((run.out / "predictions.json").read_text())
    assert content["summary"]["done"] == 2
    assert content["summary"]["remaining"] == 4
    assert not list(run.out.rglob(".writing-*"))
    assert run(folder).skipped == 2


def test_memory_that_runs_out_halves_the_batch_and_loses_nothing(
    folder: Path, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, batches = predict_module.Segmenter.scores, []

    def small(self: Any, working: Any, settings: Any) -> Any:
        batches.append(len(working))
        if len(working) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return original(self, working, settings)

    monkeypatch.setattr(predict_module.Segmenter, "scores", small)
    assert run(folder, batch_size=8).done == 6
    assert max(batches) > 1


def test_an_image_for_which_memory_is_short_is_seen_in_windows_and_its_record_says_so(
    tmp_path: Path, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = predict_module.Segmenter.scores

    def small(self: Any, working: Any, settings: Any) -> Any:
        if max(working[0].shape) > 200 and settings.tile is None:
            raise MemoryError
        return original(self, working, settings)

    monkeypatch.setattr(predict_module.Segmenter, "scores", small)
    picture(tmp_path / "imgs" / "large.png", 160, 320)
    picture(tmp_path / "imgs" / "small.png", 160, 160)
    result = run(tmp_path / "imgs", resolution=160)
    notes = {Path(record["input"]).stem: record["notes"] for record in result.content["images"]}
    assert notes == {"large": ["memory was short, so seen in windows of 160 pixels"], "small": []}
    with Image.open(run.out / "labels" / "large.png") as mask:
        assert mask.size == (320, 160)


def test_an_answer_that_memory_does_not_hold_costs_one_image(
    folder: Path, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = predict_module.Segmenter.answer

    def small(self: Any, scored: Any, working: Any, view: Any, settings: Any) -> Any:
        if view.input_width == 90:
            raise MemoryError
        return original(self, scored, working, view, settings)

    monkeypatch.setattr(predict_module.Segmenter, "answer", small)
    result = run(folder)
    assert result.done == 5
    assert "smaller --res" in failures(result)["wide.jpg"]


def test_windows_that_were_asked_for_are_a_setting_of_the_run(folder: Path, run: Runner) -> None:
    run(folder / "0.png", tile=16)
    assert json.loads((run.out / "predictions.json").read_text())["settings"]["tile"] == 16
    with pytest.raises(OutputError, match="tile: 16 there, none now"):
        run(folder / "0.png")
    with pytest.raises(StegoError, match="smaller than one patch of 8"):
        run(folder / "0.png", tile=3, overwrite=True)


def test_a_network_that_cannot_be_compiled_is_an_error_in_words(
    folder: Path, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled(self: torch.nn.Module) -> None:
        raise RuntimeError("No working C++ compiler found\nand a long story")

    monkeypatch.setattr(torch.nn.Module, "compile", compiled)
    with pytest.raises(StegoError, match="cannot be compiled here: No working C.. compiler found\n\nhint: leave out"):
        run(folder, compile="on")
    assert run(folder).done == 6


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_neither_cores_nor_batches_change_a_mask(folder: Path, tiny_model: Path, tmp_path: Path, cores: int) -> None:
    one = Runner(tiny_model, tmp_path / "one")(folder, workers=0, batch_size=1, crf=True, probe="both")
    before = torch.get_num_threads()
    torch.set_num_threads(cores)
    try:
        many = Runner(tiny_model, tmp_path / "many")(folder, workers=3, batch_size=4, crf=True, probe="both")
        assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)
    assert [record["shares"] for record in one.content["images"]] == [
        record["shares"] for record in many.content["images"]
    ]
    for mask in (tmp_path / "one").glob("labels*/**/*.png"):
        other = tmp_path / "many" / mask.relative_to(tmp_path / "one")
        assert mask.read_bytes() == other.read_bytes()


def test_a_dry_run_writes_nothing(folder: Path, run: Runner) -> None:
    given = {"model": str(run.model), "out": run.out}
    result = predict_folder(load_config(PredictConfig, options=given), [folder], Silence(), dry_run=True)
    assert result.planned is not None
    assert len(result.planned) == 6
    assert not run.out.exists()


def test_the_report_hears_of_the_model(folder: Path, run: Runner) -> None:
    notes: list[str] = []

    class Heard(Silence):
        def note(self, message: str) -> None:
            notes.append(message)

    given = {"model": str(run.model), "out": run.out}
    predict_folder(load_config(PredictConfig, options=given), [folder], Heard())
    assert any(re.search(r"model: .*tiny\.safetensors", note) for note in notes)


def test_seconds_are_those_of_the_run(folder: Path, run: Runner) -> None:
    started = time.perf_counter()
    result = run(folder)
    assert 0 < result.seconds <= time.perf_counter() - started
