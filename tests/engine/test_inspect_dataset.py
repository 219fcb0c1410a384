"""A dataset is looked through before anything long starts; each way in which a folder can be broken is named."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stego_cli.config.inspect import InspectConfig
from stego_cli.data.findings import Finding
from stego_cli.engine import inspect_dataset as engine
from stego_cli.engine.inspect_dataset import Inspection, inspect_dataset
from stego_cli.errors import StegoError
from stego_cli.progress import Silence

SIZE = (40, 60)


def picture(path: Path, seed: int = 0, size: tuple[int, int] = SIZE, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def labels(path: Path, values: Any = (0, 1, 2), size: tuple[int, int] = SIZE, dtype: Any = np.uint8) -> Path:
    """Write a label map of stripes, as many as there are values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stripes = np.array_split(np.zeros(size, dtype), len(values))
    Image.fromarray(
        np.concatenate([stripe + dtype(value) for stripe, value in zip(stripes, values, strict=True)])
    ).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A sound dataset of two splits and three classes."""
    made = tmp_path / "mine"
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            picture(made / "imgs" / split / f"{number}.jpg", seed=number + len(split))
            labels(made / "labels" / split / f"{number}.png")
    return made


def inspect(root: Path, **settings: Any) -> Inspection:
    return inspect_dataset(InspectConfig(dataset=str(root), resolution=40, **settings), Silence())


def found(result: Inspection, kind: str) -> Finding:
    (finding,) = [finding for finding in result.findings if finding.kind == kind]
    return finding


def kinds(result: Inspection) -> set[str]:
    return {finding.kind for finding in result.problems}


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_sound_dataset_has_no_problems(root: Path, full: bool, workers: int) -> None:
    result = inspect(root, full=full, workers=workers, classes=3)
    assert result.problems == ()
    said = json.loads(json.dumps(result.to_json()))
    train = said["splits"]["train"]
    assert (train["images"], train["labelled"]) == (4, 4)
    assert train["looked_at"] == {"headers": 4, "decoded": 4 if full else 1, "label_maps": 4}
    assert train["sizes"] == {"kinds": 1, "min": [40, 60], "median": [40, 60], "max": [40, 60]}
    assert [entry["share"] for entry in train["classes"]] == pytest.approx([14 / 40, 13 / 40, 13 / 40])
    assert train["ignored_share"] == 0
    assert set(said["splits"]) == {"train", "val"}


def test_a_quick_look_and_a_full_one_count_the_same_where_the_sample_is_everything(root: Path) -> None:
    quick, full = inspect(root).to_json(), inspect(root, full=True).to_json()
    assert quick["splits"]["val"]["classes"] == full["splits"]["val"]["classes"]


def test_only_the_splits_that_were_asked_for_are_looked_at(root: Path) -> None:
    assert set(inspect(root, split=["val"]).to_json()["splits"]) == {"val"}
    with pytest.raises(StegoError, match="vall"):
        inspect(root, split=["vall"])


def test_a_missing_dataset_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StegoError, match="hint"):
        inspect(tmp_path / "nowhere")


def test_a_split_that_cannot_be_opened_is_named_beside_the_others(root: Path) -> None:
    for file in (root / "imgs" / "val").iterdir():
        file.unlink()
    result = inspect(root)
    assert found(result, "unusable-split").split == "val"
    assert set(result.to_json()["splits"]) == {"train"}


def test_an_image_cut_short_shows_when_everything_is_decoded(root: Path) -> None:
    whole = (root / "imgs/train/2.jpg").read_bytes()
    (root / "imgs/train/2.jpg").write_bytes(whole[: len(whole) // 2])
    assert "image-unreadable" not in kinds(inspect(root))
    damaged = found(inspect(root, full=True), "image-unreadable")
    assert damaged.split == "train"
    assert len(damaged.items) == 1
    assert damaged.items[0].startswith("imgs/train/2.jpg: it is damaged or cut short")


@pytest.mark.parametrize(("content", "words"), [(b"", "empty"), (b"<html>", "web page")])
def test_an_image_without_a_sound_header_shows_at_once(root: Path, content: bytes, words: str) -> None:
    (root / "imgs/train/2.jpg").write_bytes(content)
    assert words in found(inspect(root), "image-unreadable").items[0]


def test_label_maps_that_cannot_be_used_are_named_with_the_reason(root: Path) -> None:
    picture(root / "labels/train/1.png")
    (root / "labels/train/2.png").write_bytes(b"")
    unusable = found(inspect(root), "label-unreadable")
    assert [item.partition(":")[0] for item in unusable.items] == ["labels/train/1.png", "labels/train/2.png"]
    assert "RGB" in unusable.items[0]
    assert "empty" in unusable.items[1]


def test_label_maps_of_another_size_are_named_with_both_sizes(root: Path) -> None:
    labels(root / "labels/train/0.png", size=(80, 120))
    labels(root / "labels/train/1.png", size=(20, 30))
    labels(root / "labels/val/1.png", size=(60, 40))
    larger, smaller = next(f for f in inspect(root).findings if f.kind == "label-size" and f.split == "train").items
    assert larger == "labels/train/0.png: 80x120, larger than the 40x60 of its image"
    assert "20x30, smaller than" in smaller
    (turned,) = next(f for f in inspect(root).findings if f.kind == "label-size" and f.split == "val").items
    assert "60x40, unlike the 40x60" in turned


def test_sizes_are_compared_for_images_whose_label_values_are_not_sampled(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "MOST_MAPS", 1)
    for number in range(4):
        labels(root / f"labels/train/{number}.png", size=(20, 30))
    result = inspect(root, split=["train"])
    assert result.surveys[0].tally.maps == 1
    assert len(found(result, "label-size").items) == 4


def test_values_outside_the_classes_are_named_with_how_many_and_where(root: Path) -> None:
    labels(root / "labels/train/1.png", values=(0, 1, 2, 9))
    labels(root / "labels/train/3.png", values=(0, 1, 2, 9))
    result = inspect(root, classes=3, full=True)
    stray = found(result, "stray-value")
    assert stray.items == ("9: 12.5 % of the pixels, in 2 label maps such as labels/train/1.png",)
    assert "--classes 10" in stray.hint
    assert inspect(root, classes=10).problems == ()


def test_255_is_ignored_and_no_problem(root: Path) -> None:
    labels(root / "labels/train/1.png", values=(0, 1, 2, 255))
    result = inspect(root, classes=3)
    assert result.problems == ()
    train = result.to_json()["splits"]["train"]
    assert train["ignored_values"] == {"255": 600}
    assert train["ignored_share"] == pytest.approx(600 / 9600)


def test_one_value_after_the_last_class_is_taken_for_unlabelled(root: Path) -> None:
    result = inspect(root, classes=2, split=["train"])
    assert result.problems == ()
    assert "value 2" in found(result, "unlabelled-value").message
    assert result.to_json()["splits"]["train"]["ignored_values"] == {"2": 4 * 780}


def test_labels_that_count_from_1_are_recognised(root: Path) -> None:
    for path in (root / "labels").rglob("*.png"):
        labels(path, values=(1, 2, 3))
    assert kinds(inspect(root, classes=3)) == {"counts-from-one"}


def test_classes_that_never_occur_are_flagged(root: Path) -> None:
    absent = found(inspect(root, classes=5), "absent-class")
    assert absent.items == ("3 class 3", "4 class 4")
    assert absent.split == "train, val"  # said once


def test_label_maps_without_a_class_are_a_problem(root: Path) -> None:
    for path in (root / "labels").rglob("*.png"):
        labels(path, values=(255,))
    assert kinds(inspect(root)) == {"nothing-labelled"}


def test_who_said_how_many_classes_there_are_is_not_guessed(root: Path) -> None:
    assert any("--classes 3" in step for step in inspect(root).next_steps)
    assert not any("--classes" in step for step in inspect(root, classes=3).next_steps)


def test_values_that_cannot_be_class_ids_are_stray_whoever_said_nothing(root: Path) -> None:
    labels(root / "labels/train/1.png", values=(0, 40_000), dtype=np.uint16)
    result = inspect(root)
    assert found(result, "stray-value").items[0].startswith("40000: ")
    assert "--classes" not in found(result, "stray-value").hint


def test_pairs_that_miss_a_part_are_named(root: Path) -> None:
    (root / "labels/train/0.png").rename(root / "labels/train/zero.png")
    (root / "imgs/val/1.jpg").unlink()
    result = inspect(root)
    bare = found(result, "image-without-label")
    assert (bare.split, bare.items) == ("train", ("imgs/train/0.jpg",))
    orphans = {f.split: f.items for f in result.findings if f.kind == "label-without-image"}
    assert orphans == {"train": ("labels/train/zero.png",), "val": ("labels/val/1.png",)}


def test_a_file_that_may_have_been_meant_as_label_map_is_named(root: Path) -> None:
    (root / "labels/train/0.png").rename(root / "labels/train/0.npy")
    assert found(inspect(root), "image-without-label").items == ("imgs/train/0.jpg (there is labels/train/0.npy)",)


def test_label_folders_in_which_no_name_fits_are_not_taken_for_no_labels(root: Path) -> None:
    for path in list((root / "labels/train").iterdir()):
        path.rename(path.with_name(f"{path.stem}_L.png"))
    result = inspect(root, split=["train"])
    assert kinds(result) == {"image-without-label", "label-without-image"}
    assert len(found(result, "label-without-image").items) == 4


def test_a_folder_of_photographs_is_sound(tmp_path: Path) -> None:
    picture(tmp_path / "photos" / "a.jpg")
    picture(tmp_path / "photos" / "sub" / "b.png", seed=1)
    result = inspect(tmp_path / "photos")
    assert result.problems == ()
    assert found(result, "no-labels").severity == "note"
    assert any(step.startswith("`stego fit ") for step in result.next_steps)


def test_images_that_differ_in_the_suffix_only_are_a_problem(root: Path) -> None:
    picture(root / "imgs/val/7.png")
    picture(root / "imgs/val/7.jpg")
    assert found(inspect(root), "same-stem").items == ("7.jpg and 7.png",)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_to_nothing_are_named(root: Path) -> None:
    (root / "imgs/train/gone.jpg").symlink_to(root / "nowhere.jpg")
    (root / "labels/train/gone.png").symlink_to(root / "nowhere.png")
    (root / "imgs/train/loop.jpg").symlink_to("loop.jpg")
    (root / "imgs/train/fine.jpg").symlink_to("0.jpg")
    (root / "imgs/train/notes.txt").symlink_to("gone")
    broken = found(inspect(root), "broken-link")
    assert broken.items == ("imgs/train/gone.jpg", "imgs/train/loop.jpg", "labels/train/gone.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may look into every folder")
def test_folders_that_cannot_be_looked_into_are_named(root: Path) -> None:
    locked = root / "imgs/train/locked"
    picture(locked / "a.jpg")
    locked.chmod(0)
    try:
        assert found(inspect(root), "unreadable-folder").items[0].startswith("imgs/train/locked: ")
    finally:
        locked.chmod(0o755)


def test_what_reading_does_to_unusual_images_is_said(root: Path) -> None:
    Image.fromarray(np.full(SIZE, 40_000, np.uint16)).save(root / "imgs/train/0.png")
    (root / "imgs/train/0.jpg").unlink()
    (converted,) = found(inspect(root), "converted").items
    assert converted.startswith("PNG, 16-bit grey (1 image, such as imgs/train/0.png): ")
    assert "16-bit" in converted.partition("): ")[2]


def test_which_bands_are_used_is_said(tmp_path: Path) -> None:
    import tifffile

    (tmp_path / "sat").mkdir()
    bands = np.random.default_rng(0).integers(0, 255, (40, 60, 5)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "sat/a.tif", bands, photometric="rgb", extrasamples=[0, 0])
    assert "5 bands: the first" in found(inspect(tmp_path / "sat"), "converted").items[0]
    chosen = found(inspect(tmp_path / "sat", bands=[5, 3, 1]), "converted").items[0]
    assert "bands 5, 3, 1" in chosen
    with_too_many = inspect(tmp_path / "sat", bands=[6, 3, 1])
    assert "a.tif" in found(with_too_many, "image-unreadable").items[0]


def test_images_much_smaller_than_the_working_size_are_pointed_out(root: Path) -> None:
    picture(root / "imgs/train/0.jpg", size=(10, 15))
    labels(root / "labels/train/0.png", size=(10, 15))
    assert found(inspect(root), "small-image").items == ("imgs/train/0.jpg",)


def test_the_same_image_twice_is_a_note_within_a_split_and_a_problem_across(root: Path) -> None:
    first = (root / "imgs/train/0.jpg").read_bytes()
    (root / "imgs/train/1.jpg").write_bytes(first)
    result = inspect(root, full=True)
    assert result.problems == ()
    assert found(result, "duplicate-image").items == ("imgs/train/0.jpg = imgs/train/1.jpg",)
    (root / "imgs/val/1.jpg").write_bytes(first)
    shared = found(inspect(root, full=True), "shared-image")
    assert (shared.split, shared.items) == ("train, val", ("imgs/train/0.jpg = imgs/val/1.jpg",))


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="names are text there")
def test_names_that_are_no_text_can_be_said(root: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.jpg")
    picture(root / "imgs/train/0.jpg").rename(root / "imgs/train" / odd)
    said = json.dumps(inspect(root).to_json())
    assert said.encode("ascii")
    assert r"caf\\udce9.jpg" in said


def test_lists_are_complete_however_long(tmp_path: Path) -> None:
    for number in range(50):
        (picture(tmp_path / "many" / f"{number}.jpg", seed=number, size=(8, 8))).write_bytes(b"no")
    picture(tmp_path / "many" / "fine.jpg")
    assert len(found(inspect(tmp_path / "many"), "image-unreadable").to_json()["items"]) == 50


def test_a_quick_look_is_bounded_in_number(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MOST_HEADERS", 2)
    monkeypatch.setattr(engine, "MOST_MAPS", 1)
    tally = inspect(root, split=["train"]).surveys[0].tally
    assert (tally.headers, tally.maps) == (3, 1)
    everything = inspect(root, split=["train"], full=True).surveys[0].tally
    assert (everything.headers, everything.maps, everything.decoded) == (4, 4, 4)


def test_a_quick_look_is_bounded_in_time_and_a_full_one_is_not(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_BATCH", 1)
    seconds = iter(range(0, 100_000, 1000))

    def slow_clock() -> float:
        return next(seconds)

    config = InspectConfig(dataset=str(root), split=["train"], workers=0)
    assert inspect_dataset(config, Silence(), slow_clock).surveys[0].tally.headers == 1
    everything = config.model_copy(update={"full": True})
    assert inspect_dataset(everything, Silence(), slow_clock).surveys[0].tally.headers == 4


def test_problems_come_first_and_decide_what_is_next(root: Path) -> None:
    (root / "imgs/val/1.jpg").unlink()
    result = inspect(root, classes=4)
    assert [finding.severity for finding in result.findings] == ["problem", "note"]
    assert result.next_steps == (f"mend the problem above, then look again: `stego info dataset {root} --full`",)


def test_what_is_next_after_a_full_look_at_a_sound_dataset(root: Path) -> None:
    steps = inspect(root, full=True, classes=3).next_steps
    assert [step.split("`")[1] for step in steps] == [
        f"stego crop {root} --five",
        f"stego knn build {root} --crop five",
    ]


def test_real_road_scenes_are_sound(testdata: Path) -> None:
    result = inspect_dataset(InspectConfig(dataset=str(testdata / "camvid")), Silence())
    assert result.problems == ()
    said = result.to_json()
    assert said["label_space"] == "camvid"
    assert {name: split["images"] for name, split in said["splits"].items()} == {"train": 367, "val": 101}
    assert said["splits"]["train"]["classes"][3]["name"] == "road"
    assert said["splits"]["train"]["classes"][3]["share"] > 0.2


def test_real_photographs_in_the_layout_of_a_known_dataset_are_sound(testdata: Path) -> None:
    result = inspect_dataset(InspectConfig(dataset=str(testdata / "cocostuff"), full=True), Silence())
    assert result.problems == ()
    said = result.to_json()
    assert {name: split["images"] for name, split in said["splits"].items()} == {"train": 13, "val": 8}
    assert set(said["splits"]["train"]["ignored_values"]) == {"255"}
