"""`stego crop` from end to end, in one process: what is made, what is kept, what is refused, and what is mended."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stego_cli.config.crops import CropsConfig
from stego_cli.config.data import DataConfig
from stego_cli.config.load import load_config
from stego_cli.data.datasets.build import open_dataset
from stego_cli.engine.crop import files as crop_files
from stego_cli.engine.crop import plan as crop_plan
from stego_cli.engine.crop import run as engine
from stego_cli.engine.crop import workers as crop_workers
from stego_cli.engine.crop.run import CropResult, estimate_crops, make_crops
from stego_cli.engine.workplace import workplace
from stego_cli.errors import OutputError, StegoError
from stego_cli.progress import Silence
from support import Heard

IMAGES = 7


def picture(path: Path, seed: int, size: tuple[int, int] = (40, 56), *, changed: int = 10**18) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    os.utime(path, ns=(changed, changed))


def label(path: Path, seed: int, size: tuple[int, int] = (40, 56), *, changed: int = 10**18) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    classes = np.random.default_rng(seed).integers(0, 5, (size[0] // 8, size[1] // 8)).repeat(8, 0).repeat(8, 1)
    Image.fromarray(classes.astype(np.uint8)).save(path)
    os.utime(path, ns=(changed, changed))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A labelled folder with `train` and `val`."""
    for split, count in (("train", IMAGES), ("val", 2)):
        for number in range(count):
            picture(tmp_path / "set" / "imgs" / split / f"{number}.png", number)
            label(tmp_path / "set" / "labels" / split / f"{number}.png", number)
    return tmp_path / "set"


def configured(source: Path, **options: Any) -> CropsConfig:
    given = {"dataset": str(source), "workers": 0, "out": source.parent / "crops"} | options
    return load_config(CropsConfig, options={name: value for name, value in given.items() if value is not None})


def crop(source: Path, report: Any = None, **options: Any) -> CropResult:
    return make_crops(configured(source, **options), report or Silence())


def content(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def times(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start other processes for a single image already."""
    monkeypatch.setattr(crop_workers, "WORTH", 1)


@pytest.fixture
def whole(source: Path) -> dict[str, bytes]:
    """What an uninterrupted run leaves."""
    crop(source, out=source.parent / "reference")
    return content(source.parent / "reference")


def interrupted_after(monkeypatch: pytest.MonkeyPatch, files: int, error: BaseException) -> None:
    """Let writing fail from some file on, half way through it."""
    original, written = crop_files.write_crop, iter(range(10**6))

    def failing(*arguments: Any) -> tuple[int, int]:
        if next(written) >= files:
            raise error
        return original(*arguments)

    monkeypatch.setattr(crop_workers, "write_crop", failing)


# --- what is made ----------------------------------------------------------------------------------------------------


def test_every_image_gives_five_crops_with_labels(source: Path) -> None:
    result = crop(source)
    out = source.parent / "crops"
    assert {name: (one.images, one.made, one.kept, one.missing) for name, one in result.splits.items()} == {
        "train": (IMAGES, 5 * IMAGES, 0, 0),
        "val": (2, 10, 0, 0),
    }
    assert {path.name for path in (out / "img" / "train").iterdir()} == {f"{k}.jpg" for k in range(5 * IMAGES)}
    assert {path.name for path in (out / "label" / "val").iterdir()} == {f"{k}.png" for k in range(10)}
    with Image.open(source / "labels" / "train" / "3.png") as whole_map:
        classes = np.asarray(whole_map)
    for place, (top, left) in enumerate([(0, 0), (0, 28), (20, 0), (20, 28), (10, 14)]):
        with Image.open(out / "label" / "train" / f"{15 + place}.png") as one:
            np.testing.assert_array_equal(np.asarray(one), classes[top : top + 20, left : left + 28] + 1)


def test_the_crops_are_a_dataset_that_other_commands_find(source: Path) -> None:
    out = crop(source, out=None, crop="random", crop_ratio=0.7).out
    assert out.parent == Path(os.environ["STEGO_HOME"]) / "cropped"
    for config in (DataConfig(dataset=str(source), crop="random", crop_ratio=0.7), DataConfig(dataset=str(out))):
        dataset = open_dataset(config, "val")
        assert len(dataset) == 10
        assert dataset.image(9).shape == (28, 39, 3)
        assert dataset.labels(9, (28, 39)).max() <= 4


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_writes_the_same_bytes(source: Path, whole: dict[str, bytes], workers: int) -> None:
    crop(source, workers=workers)
    assert content(source.parent / "crops") == whole


def test_images_without_labels_give_images_only(source: Path) -> None:
    shutil.rmtree(source / "labels")
    out = crop(source).out
    assert not (out / "label").exists()
    assert len(list((out / "img" / "train").iterdir())) == 5 * IMAGES


def test_an_image_without_a_label_map_among_others_has_no_class_anywhere(source: Path) -> None:
    (source / "labels" / "train" / "2.png").unlink()
    heard = Heard()
    out = crop(source, heard).out
    assert any("1 of 7 images have no label map" in note for note in heard.notes)
    with Image.open(out / "label" / "train" / "12.png") as labels:
        assert not np.asarray(labels).any()


def test_only_the_splits_that_are_asked_for_are_made_and_the_others_stay(source: Path, whole: dict[str, bytes]) -> None:
    assert list(crop(source, splits=["val"]).splits) == ["val"]
    out = source.parent / "crops"
    assert [path.name for path in (out / "img").iterdir()] == ["val"]
    before = times(out / "img")
    crop(source, splits=["train"])
    assert times(out / "img").items() >= before.items()
    assert content(out) == whole


def test_an_unknown_split_is_named_with_those_there_are(source: Path) -> None:
    with pytest.raises(StegoError, match=r"no split `trian`; there are: `train`, `val`"):
        crop(source, splits=["trian"])
    assert not (source.parent / "crops").exists()


def test_the_manifest_says_what_was_made_from_what(source: Path) -> None:
    out = crop(source, crop="random", quality=80, label_space="camvid").out
    manifest = json.loads((out / "manifest.json").read_text())
    expected = {"format": 1, "dataset": "set", "crop": "random", "ratio": 0.5, "quality": 80, "hash_rule": "python38"}
    assert manifest.items() >= (expected | {"label_space": "camvid", "root": str(source.resolve())}).items()
    assert manifest["splits"]["train"] == {"images": 7, "crops": 35, "complete": True, "skipped": []}
    lines = [json.loads(line) for line in (out / "images_train.jsonl").read_text().splitlines()]
    assert [(line["index"], line["name"]) for line in lines] == [(k, f"{k}.png") for k in range(IMAGES)]
    status = (source / "imgs" / "train" / "4.png").stat()
    assert lines[4]["image"] == [status.st_size, status.st_mtime_ns]
    assert lines[4]["image_bytes"] == [(out / "img" / "train" / f"{k}.jpg").stat().st_size for k in range(20, 25)]


def test_a_name_that_is_no_text_is_kept(source: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    try:
        picture(source / "imgs" / "val" / name, 9)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes text only")
    label(source / "labels" / "val" / name, 9)
    assert crop(source).splits["val"].made == 15
    assert crop(source).splits["val"].kept == 15


# --- what is kept, and resumed ---------------------------------------------------------------------------------------


def test_a_second_run_keeps_everything_and_writes_nothing(source: Path) -> None:
    out = crop(source).out
    before = times(out)
    result = crop(source)
    assert [(one.made, one.kept) for one in result.splits.values()] == [(0, 35), (0, 10)]
    assert times(out) == before


@pytest.mark.parametrize("files", [0, 1, 4, 5, 13, 30])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OutputError("cannot write")], ids=["ctrl-c", "error"])
def test_a_run_that_was_cut_off_is_continued(
    source: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, files: int, error: BaseException
) -> None:
    out = source.parent / "crops"
    with monkeypatch.context() as patch, pytest.raises(type(error)):
        interrupted_after(patch, files, error)
        crop(source)
    assert not (out / "manifest.json").exists()
    assert crop(source).splits["train"].kept == 5 * (files // 5)
    assert content(out) == whole


def test_a_half_written_line_of_the_journal_costs_its_own_image_only(
    source: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = source.parent / "crops"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupted_after(patch, 15, KeyboardInterrupt())
        crop(source)
    journal = out / ".crops.journal"
    journal.write_text(journal.read_text()[:-20])
    assert crop(source).splits["train"].kept == 10
    assert content(out) == whole


@pytest.mark.parametrize("end", [0, 10, 100])
def test_a_journal_without_a_beginning_is_no_record(source: Path, monkeypatch: pytest.MonkeyPatch, end: int) -> None:
    out = source.parent / "crops"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupted_after(patch, 15, KeyboardInterrupt())
        crop(source)
    journal = out / ".crops.journal"
    journal.write_text(journal.read_text()[:end])
    with pytest.raises(OutputError, match="(?s)no record says .*--overwrite"):
        crop(source)


@pytest.mark.parametrize("damage", ["gone", "empty", "short"])
def test_a_crop_that_is_not_whole_is_made_again(source: Path, whole: dict[str, bytes], damage: str) -> None:
    out = crop(source).out
    for file in (out / "img" / "train" / "7.jpg", out / "label" / "val" / "0.png"):
        if damage == "gone":
            file.unlink()
        else:
            os.truncate(file, 0 if damage == "empty" else file.stat().st_size - 1)
    result = crop(source)
    assert [one.made for one in result.splits.values()] == [5, 5]
    assert content(out) == whole


def test_what_a_killed_run_left_behind_is_swept_away(source: Path, whole: dict[str, bytes]) -> None:
    out = crop(source).out
    for name in ("img/train/.writing-3.jpg", "label/val/.writing-1.png", "img/train/99.jpg"):
        (out / name).write_bytes(b"half")
    (out / "img" / "train" / "notes.txt").write_text("mine")
    crop(source)
    found = content(out)
    assert found.pop("img/train/notes.txt") == b"mine"
    assert found == whole


def test_an_image_added_at_the_end_is_the_only_one_that_is_cut(source: Path) -> None:
    crop(source)
    picture(source / "imgs" / "val" / "9.png", 9)
    label(source / "labels" / "val" / "9.png", 9)
    assert [(one.made, one.kept) for one in crop(source).splits.values()] == [(0, 35), (5, 10)]
    crop(source, out=source.parent / "fresh")
    assert content(source.parent / "crops") == content(source.parent / "fresh")


# --- other processes -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("eager")
def test_other_processes_name_what_they_leave_out(source: Path) -> None:
    (source / "imgs" / "train" / "5.png").write_bytes(b"")
    (source / "labels" / "train" / "2.png").write_bytes(b"")
    result = crop(source, workers=3)
    assert [one.name for one in result.skipped["train"]] == ["2.png", "5.png"]


@pytest.mark.usefixtures("eager")
def test_what_another_process_cannot_write_is_said_as_here(source: Path, whole: dict[str, bytes]) -> None:
    there = source.parent / "crops" / "img" / "train" / "17.jpg"
    there.mkdir(parents=True)
    for workers in (0, 2):
        with pytest.raises(OutputError, match="17.jpg`: a folder is in its place"):
            crop(source, workers=workers)
    assert not multiprocessing.active_children()
    there.rmdir()
    crop(source, workers=2)
    assert content(source.parent / "crops") == whole


@pytest.mark.usefixtures("eager")
def test_a_process_that_is_ended_from_outside_is_said_and_the_run_continues(
    source: Path, whole: dict[str, bytes]
) -> None:
    class Ending(Silence):
        def track(self, items: Any, doing: str, total: int) -> Iterator[Any]:
            for item in items:
                yield item
                for process in multiprocessing.active_children():
                    process.kill()

    with pytest.raises(StegoError, match=r"was ended, perhaps because memory ran out\n\nhint: .*fewer --workers"):
        crop(source, Ending(), workers=2)
    assert crop(source).splits["train"].kept >= 5
    assert content(source.parent / "crops") == whole


@pytest.mark.usefixtures("eager")
def test_ctrl_c_ends_all_processes_before_the_command_ends(source: Path, whole: dict[str, bytes]) -> None:
    class Interrupting(Silence):
        def track(self, items: Any, doing: str, total: int) -> Iterator[Any]:
            yield next(items)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crop(source, Interrupting(), workers=2)
    assert not multiprocessing.active_children()
    assert not list((source.parent / "crops").rglob(".writing-*"))
    assert crop(source).splits["train"].kept == 5
    assert content(source.parent / "crops") == whole


@pytest.mark.usefixtures("eager")
def test_a_bug_in_another_process_keeps_its_traceback(source: Path) -> None:
    dataset = open_dataset(DataConfig(dataset=str(source)), "train")
    cutter = crop_workers.Cutter(None, 75, source, replace(dataset, samples=()), labelled=True)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="(?s)Traceback.*'NoneType' object has no attribute 'cut'"):
        list(crop_workers.cut_all(cutter, list(enumerate(dataset.samples)), 2))


def test_a_run_waits_for_processes_that_a_killed_one_has_left(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    out = crop(source, splits=["val"]).out
    held = os.open(out / "img", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    with monkeypatch.context() as patch, pytest.raises(OutputError, match="another run is writing to"):
        patch.setattr(crop_workers, "_PATIENCE", 0.1)
        crop(source)
    assert not (out / "img" / "train").exists()
    timer = threading.Timer(0.3, os.close, [held])
    begin = time.monotonic()
    timer.start()
    assert crop(source).splits["train"].made == 35
    assert time.monotonic() - begin >= 0.3


# --- what is refused -------------------------------------------------------------------------------------------------

OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"crop_ratio": 0.7}, "ratio: 0.5 there, 0.7 now"),
    ({"crop": "random"}, "crop: five there, random now"),
    ({"quality": 90}, "quality: 75 there, 90 now"),
    ({"label_space": "camvid"}, "label_space: none there, camvid now"),
    ({"bands": "3,2,1"}, r"bands: none there, \[3, 2, 1\] now"),
]


@pytest.mark.parametrize(("other", "words"), OTHERS, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("finished", [True, False])
def test_crops_made_otherwise_are_refused_by_name_and_replaced_when_asked(
    source: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any], words: str, finished: bool
) -> None:
    out = source.parent / "crops"
    with monkeypatch.context() as patch:
        if not finished:
            interrupted_after(patch, 12, KeyboardInterrupt())
            with pytest.raises(KeyboardInterrupt):
                crop(source)
        else:
            crop(source)
    before = content(out)
    with pytest.raises(OutputError, match=rf"(?s)made with other settings:.*{words}.*hint: add --overwrite"):
        crop(source, **other)
    assert content(out) == before
    crop(source, **other, overwrite=True)
    crop(source, **other, out=source.parent / "fresh")
    assert content(out) == content(source.parent / "fresh")


def test_the_hash_rule_matters_for_random_crops_only(source: Path) -> None:
    crop(source)
    assert crop(source, hash_rule="python37").splits["train"].kept == 35
    out = crop(source, crop="random", out=source.parent / "random").out
    with pytest.raises(OutputError, match="hash_rule: python38 there, python37 now"):
        crop(source, crop="random", out=out, hash_rule="python37")


def test_settings_with_which_nothing_was_finished_do_not_bind_the_folder(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupted_after(patch, 3, KeyboardInterrupt())
        crop(source, quality=20)
    crop(source, crop_ratio=0.7)
    crop(source, crop_ratio=0.7, out=source.parent / "fresh")
    assert content(source.parent / "crops") == content(source.parent / "fresh")


def test_overwriting_one_split_does_not_leave_another_made_otherwise(source: Path) -> None:
    crop(source)
    with pytest.raises(OutputError, match="(?s)crops of val made with other settings.*add --split val"):
        crop(source, quality=90, splits=["train"], overwrite=True)
    crop(source, splits=["train"], overwrite=True)  # with the same settings it may
    assert crop(source, quality=90, overwrite=True).splits["val"].made == 10


def test_an_overwriting_run_that_was_cut_off_is_continued_without_the_word(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = crop(source).out
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupted_after(patch, 22, KeyboardInterrupt())
        crop(source, quality=90, overwrite=True)
    assert crop(source, quality=90).splits["train"].kept == 20
    crop(source, quality=90, out=source.parent / "fresh")
    assert content(out) == content(source.parent / "fresh")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "edited": (lambda root: picture(root / "imgs/train/3.png", 33, (40, 60)), "image of `3.png` was .* bytes of"),
    "touched": (lambda root: picture(root / "imgs/train/3.png", 3, changed=10**18 + 1), "image of `3.png` was"),
    "label": (lambda root: label(root / "labels/train/3.png", 3, changed=10**18 + 1), "label map of `3.png` was"),
    "unlabelled": (lambda root: (root / "labels/train/3.png").unlink(), "label map of `3.png` was .* it is none now"),
    "added": (lambda root: picture(root / "imgs/train/00.png", 9), "image 1 was `1.png`, it is `00.png` now"),
    "removed": (lambda root: (root / "imgs/train/6.png").unlink(), "image 6 was `6.png`; there are only 6 now"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_crops_of_images_that_have_changed_are_refused_by_name(source: Path, change: str) -> None:
    out = crop(source).out
    before = content(out)
    apply, words = CHANGES[change]
    apply(source)
    with pytest.raises(OutputError, match=rf"(?s)images have changed.*{words}.*hint: add --overwrite"):
        crop(source)
    assert content(out) == before
    crop(source, overwrite=True)
    crop(source, out=source.parent / "fresh")
    assert content(out) == content(source.parent / "fresh")


@pytest.mark.parametrize("kind", ["img", "label"])
def test_crops_of_the_reference_are_never_replaced_unasked(source: Path, whole: dict[str, bytes], kind: str) -> None:
    out = source.parent / "crops"
    (out / kind / "train").mkdir(parents=True)
    for number in (0, 40):
        (out / kind / "train" / f"{number}.{'jpg' if kind == 'img' else 'png'}").write_bytes(b"of the reference")
    before = content(out)
    with pytest.raises(OutputError, match=r"(?s)holds 2 files, and no record .*hint: .*--overwrite"):
        crop(source)
    assert content(out) == before
    crop(source, overwrite=True)
    assert content(out) == whole


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "splits": {"train": 3}}', "\x00"])
def test_a_damaged_manifest_is_named_with_a_way_out(source: Path, whole: dict[str, bytes], text: str) -> None:
    out = crop(source).out
    (out / "manifest.json").write_text(text)
    with pytest.raises(OutputError, match=r"(?s)manifest.json`.* cannot be read.*hint: add --overwrite"):
        crop(source)
    crop(source, overwrite=True)
    assert content(out) == whole


def test_a_manifest_of_another_version_is_named(source: Path) -> None:
    path = crop(source).out / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(OutputError, match="has format 99, this version knows 1"):
        crop(source)


@pytest.mark.parametrize("damage", ["cut off", "gone", "no list", "other line"])
def test_images_that_a_damaged_list_does_not_know_are_cut_again(
    source: Path, whole: dict[str, bytes], damage: str
) -> None:
    out = crop(source).out
    path = out / "images_train.jsonl"
    text = path.read_text()
    if damage == "gone":
        path.unlink()
    else:
        line = text.splitlines(keepends=True)[3]
        path.write_text(
            {"cut off": text[:-30], "no list": '"nonsense"\n', "other line": text.replace(line, '{"index": "x"}\n')}[
                damage
            ]
        )
    result = crop(source)
    assert result.splits["train"].made == {"gone": 35, "no list": 35, "cut off": 5, "other line": 5}[damage]
    assert content(out) == whole


def test_two_runs_never_work_in_one_folder(source: Path) -> None:
    with workplace(source.parent / "crops"), pytest.raises(OutputError, match="another run is writing to"):
        crop(source)
    assert crop(source).splits["train"].made == 35


def test_crops_are_not_put_among_the_images(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / "photos" / f"{number}.png", number)
    for inside in ("photos", "photos/crops"):
        with pytest.raises(OutputError, match="among the images.*\n\nhint: choose a folder beside them"):
            crop(tmp_path / "photos", out=tmp_path / inside)
    assert crop(tmp_path / "photos").splits["train"].made == 15


@pytest.mark.parametrize("run", [crop, lambda source: estimate_crops(configured(source))])
def test_a_file_in_the_place_of_the_folder_is_named(source: Path, run: Callable[[Path], object]) -> None:
    (source.parent / "crops").write_text("mine")
    with pytest.raises(OutputError, match="a part of the path is a file"):
        run(source)


def test_more_classes_than_fit_are_refused_before_anything_is_made(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Many:
        name = "many"

        def __init__(self, count: int) -> None:
            self.count = count

        def __len__(self) -> int:
            return self.count

    original = crop_plan.open_dataset
    for count in (255, 256):
        monkeypatch.setattr(
            crop_plan,
            "open_dataset",
            lambda *given, count=count: replace(original(*given), label_space=Many(count)),  # type: ignore[arg-type]
        )
        if count == 255:
            assert crop(source).splits["train"].made == 35
        else:
            with pytest.raises(StegoError, match="`many` has 256 classes; .* enough for 255"):
                crop(source, out=source.parent / "others")
    assert not (source.parent / "others").exists()


# --- what cannot be used ---------------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "empty": (lambda image, _: image.write_bytes(b""), "the file is empty"),
    "truncated": (lambda image, _: os.truncate(image, image.stat().st_size // 2), "damaged or cut short"),
    "no image": (lambda image, _: image.write_text("hello, this is text"), "text file"),
    "one pixel": (lambda image, labels: (picture(image, 1, (1, 1)), labels.unlink()), "1x1 pixels"),
    "other size": (lambda _, labels: label(labels, 1, (40, 64)), "label map of `3.png` is 40x64"),
    "broken label": (lambda _, labels: os.truncate(labels, 50), "label map .* cannot be read"),
    "large id": (lambda _, labels: Image.fromarray(np.full((40, 56), 300, np.uint16)).save(labels), "class id 300"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_an_image_that_cannot_be_used_is_named_and_tried_again(source: Path, whole: dict[str, bytes], how: str) -> None:
    image, labels = (source / kind / "train" / "3.png" for kind in ("imgs", "labels"))
    BROKEN[how][0](image, labels)
    out, heard = source.parent / "crops", Heard()
    for again in range(2):
        result = crop(source, heard)
        train = result.splits["train"]
        assert (train.made, train.kept, train.missing) == ((0, 30, 5) if again else (30, 0, 5))
        (skipped,) = result.skipped["train"]
        assert (skipped.index, skipped.name) == (3, "3.png")
    assert len(heard.warnings) == 2
    assert all(warning.startswith("3.png was skipped: ") and "\n" not in warning for warning in heard.warnings)
    assert re.search(BROKEN[how][1], heard.warnings[0])
    numbers = {int(path.stem) for path in (out / "img" / "train").iterdir()}
    assert numbers == set(range(35)) - set(range(15, 20))  # a hole: the others keep their numbers
    entry = json.loads((out / "manifest.json").read_text())["splits"]["train"]
    assert [one["name"] for one in entry["skipped"]] == ["3.png"]
    assert entry["crops"] == 30
    picture(image, 3)
    label(labels, 3)
    assert crop(source).splits["train"].made == 5
    assert content(out) == whole


def test_an_image_that_a_list_names_and_that_is_not_there_leaves_a_hole(tmp_path: Path) -> None:
    root = tmp_path / "data" / "cocostuff"
    for number in (0, 2):
        picture(root / "images" / "train2017" / f"{number}.jpg", number)
        label(root / "annotations" / "train2017" / f"{number}.png", number)
    (root / "curated" / "train2017").mkdir(parents=True)
    (root / "curated" / "train2017" / "Coco164kFull_Stuff_Coarse.txt").write_text("0\n1\n2\n")
    result = make_crops(load_config(CropsConfig, options={"data_dir": tmp_path / "data"}), Silence())
    assert result.out == tmp_path / "data" / "cropped" / "cocostuff27_five_crop_0.5"
    (skipped,) = result.skipped["train"]
    assert (skipped.index, skipped.name) == (1, "train2017/1.jpg")
    assert "1.jpg`: No such file" in skipped.reason
    numbers = {int(path.stem) for path in (result.out / "label" / "train").iterdir()}
    assert numbers == {*range(5), *range(10, 15)}


def test_memory_that_runs_out_costs_only_one_image(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = crop_plan.CropRule.cut

    def cut(self: Any, pixels: Any, class_ids: Any, index: int, **options: Any) -> Any:
        if index == 1:
            raise MemoryError
        return original(self, pixels, class_ids, index, **options)

    monkeypatch.setattr(crop_plan.CropRule, "cut", cut)
    result = crop(source, splits=["train"])
    assert [(one.index, one.reason) for one in result.skipped["train"]] == [(1, "there is not enough memory to cut it")]


# --- space -----------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_it_takes_and_does_nothing(source: Path, tmp_path: Path) -> None:
    before = content(tmp_path)
    result = estimate_crops(configured(source))
    assert content(tmp_path) == before
    assert not (source.parent / "crops").exists()
    assert {name: (one.images, one.missing) for name, one in result.splits.items()} == {
        "train": (7, 35),
        "val": (2, 10),
    }
    assert result.bytes_free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)
    out = crop(source).out
    blocks = sum(-(-path.stat().st_size // 4096) * 4096 for path in out.rglob("*.*g"))
    assert result.bytes_needed == pytest.approx(blocks, rel=0.1)
    after = estimate_crops(configured(source))
    assert (after.bytes_needed, [one.kept for one in after.splits.values()]) == (0, [35, 10])


def test_a_dry_run_refuses_what_a_run_would_refuse(source: Path) -> None:
    crop(source)
    with pytest.raises(OutputError, match="other settings"):
        estimate_crops(configured(source, quality=9))


def test_a_disk_that_is_too_small_is_refused_before_anything_is_made(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crop_plan.shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000))
    with pytest.raises(
        OutputError, match=r"take about \d+ MB, but there are only 0 MB free.*\n\nhint: free some space"
    ):
        crop(source)
    assert not content(source.parent / "crops")


def test_space_that_old_crops_give_back_counts_as_free(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = estimate_crops(configured(source))
    crop(source, quality=100)
    monkeypatch.setattr(crop_plan.shutil, "disk_usage", lambda _: SimpleNamespace(free=result.bytes_needed - 10_000))
    with pytest.raises(OutputError, match="MB free"):
        crop(source, out=source.parent / "others")
    assert crop(source, overwrite=True).splits["train"].made == 35


def test_a_disk_that_fills_up_is_said_and_nothing_is_lost(
    source: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, full = source.parent / "crops", OSError(errno.ENOSPC, "No space left on device")
    original, written = Path.replace, iter(range(10**6))

    def replacing(self: Path, target: Path) -> Path:
        if self.name.startswith(".writing-") and self.suffix in {".jpg", ".png"} and next(written) >= 33:
            raise full
        return original(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replacing)
        with pytest.raises(OutputError, match=r"no space left on the disk\n\nhint: free some space, then run the same"):
            crop(source)
    assert not list(out.rglob(".writing-*"))
    assert crop(source).splits["train"].kept == 15
    assert content(out) == whole


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only the superuser may make a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.usefixtures("eager")
def test_a_real_disk_that_fills_up_is_said_and_the_run_continues_elsewhere(
    source: Path, whole: dict[str, bytes], tiny_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_refuse_too_little", lambda *_: None)  # as if somebody else took the space
    out = tiny_disk / "crops"
    with pytest.raises(OutputError, match="no space left on the disk"):
        crop(source, out=out, workers=2)
    assert not list(out.rglob(".writing-*"))
    there = content(out)
    assert all(whole[name] == data for name, data in there.items() if name != ".crops.journal")
    shutil.copytree(out, source.parent / "crops")
    assert crop(source).splits["train"].kept > 0
    assert content(source.parent / "crops") == whole


# --- many ------------------------------------------------------------------------------------------------------------


def test_crops_are_checked_without_being_opened(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crop(source)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(Image, "open", refuse)
    monkeypatch.setattr(crop_plan.CropRule, "cut", refuse)
    assert crop(source).splits["train"].kept == 35


def test_random_damage_to_the_folder_is_always_mended(source: Path, whole: dict[str, bytes]) -> None:
    out = crop(source).out
    chance = random.Random(0)
    for _ in range(8):
        for path in chance.sample([path for path in out.rglob("*g") if path.is_file()], 6):
            if chance.random() < 0.5:
                path.unlink()
            else:
                os.truncate(path, chance.randrange(path.stat().st_size))
        crop(source)
        assert content(out) == whole
