"""Datasets that are folders: splits, and pairs of images and label maps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stego_cli.data.datasets.folder import folder_samples, folder_splits, has_split
from stego_cli.errors import StegoError


def touch(root: Path, *names: str) -> None:
    """Make empty files; what is in them does not matter for finding them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def pairs(root: Path, split: str = "train") -> dict[str, str | None]:
    """Return label map by image, both relative to the root."""
    return {
        sample.image.relative_to(root).as_posix(): sample.label and sample.label.relative_to(root).as_posix()
        for sample in folder_samples(root, split).samples
    }


def test_splits_are_kept_apart_and_label_maps_have_the_image_s_name(tmp_path: Path) -> None:
    touch(tmp_path, "imgs/train/b.jpg", "imgs/train/a.b.JPG", "imgs/val/c.png", "imgs/test/d.png")
    touch(tmp_path, "labels/train/a.b.png", "labels/val/b.png", "labels/val/c.png", "labels/train/spare.png")
    assert pairs(tmp_path) == {"imgs/train/a.b.JPG": "labels/train/a.b.png", "imgs/train/b.jpg": None}
    assert pairs(tmp_path, "val") == {"imgs/val/c.png": "labels/val/c.png"}
    assert folder_splits(tmp_path) == ("train", "val", "test")
    assert [sample.name for sample in folder_samples(tmp_path, "train").samples] == ["a.b.JPG", "b.jpg"]


def test_folders_inside_a_split_are_paired_by_their_whole_path(tmp_path: Path) -> None:
    touch(tmp_path, "imgs/train/x/1.png", "imgs/train/y/z/1.png", "labels/train/y/z/1.png", "labels/train/1.png")
    assert pairs(tmp_path) == {"imgs/train/x/1.png": None, "imgs/train/y/z/1.png": "labels/train/y/z/1.png"}


def test_images_without_splits_are_all_for_training(tmp_path: Path) -> None:
    touch(tmp_path, "imgs/a.png", "imgs/deep/b.png", "labels/a.png", "other/c.png")
    assert pairs(tmp_path) == {"imgs/a.png": "labels/a.png", "imgs/deep/b.png": None}
    assert folder_splits(tmp_path) == ("train",)


def test_a_folder_of_images_is_a_dataset_and_its_label_maps_and_crops_are_no_images(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "trip/b.jpg", "labels/a.png", "labels/trip/b.png", "notes.txt", "cropped/x/img/0.jpg")
    assert pairs(tmp_path) == {"a.jpg": "labels/a.png", "trip/b.jpg": "labels/trip/b.png"}
    assert folder_splits(tmp_path) == ("train",)


def test_the_order_is_that_of_the_names_whatever_the_system_says(tmp_path: Path) -> None:
    touch(tmp_path, *(f"imgs/{name}.png" for name in ("10", "b", "2", "a/z", "B")))
    assert [sample.name for sample in folder_samples(tmp_path, "train").samples] == [
        "10.png", "2.png", "B.png", "a/z.png", "b.png",
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".tif", ".tiff", ".bmp"])
def test_label_maps_of_every_lossless_format_are_found(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, "imgs/a.jpg", f"labels/a{suffix}", "labels/a.txt")
    assert pairs(tmp_path) == {"imgs/a.jpg": f"labels/a{suffix}"}


def test_png_comes_first_where_there_are_several(tmp_path: Path) -> None:
    touch(tmp_path, "imgs/a.jpg", "labels/a.tif", "labels/a.png", "labels/a.jpg")
    assert pairs(tmp_path) == {"imgs/a.jpg": "labels/a.png"}


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp", ".gif"])
def test_label_maps_that_do_not_keep_ids_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, "imgs/a.jpg", f"labels/a{suffix}")
    with pytest.raises(StegoError, match=rf"(?s)a\{suffix}.* class ids.*hint: .*PNG"):
        folder_samples(tmp_path, "train")


def test_two_images_of_one_name_are_both_used_unless_a_label_map_is_claimed_by_both(tmp_path: Path) -> None:
    touch(tmp_path, "imgs/a.jpg", "imgs/a.png", "imgs/x/a.png", "labels/x/a.png")
    assert pairs(tmp_path) == {"imgs/a.jpg": None, "imgs/a.png": None, "imgs/x/a.png": "labels/x/a.png"}
    touch(tmp_path, "labels/a.png")
    with pytest.raises(StegoError, match=r"(?s)imgs/a\.jpg` and `.*imgs/a\.png`.*hint: .*rename"):
        folder_samples(tmp_path, "train")


def test_images_and_label_maps_without_the_other_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "imgs/a.png", "imgs/b.png", "imgs/c.png", "labels/a.png", "labels/x.png", "labels/y.txt")
    spare, missing = folder_samples(tmp_path, "train").notes
    assert spare.startswith("1 label maps belong to no image")
    assert "x.png" in spare
    assert missing.startswith("2 of 3 images have no label map")


def test_nothing_is_said_of_what_is_whole_or_has_no_labels_at_all(tmp_path: Path) -> None:
    touch(tmp_path, "a/imgs/1.png", "a/labels/1.png", "b/1.png")
    assert folder_samples(tmp_path / "a", "train").notes == ()
    assert folder_samples(tmp_path / "b", "train").notes == ()


def test_a_folder_in_the_place_of_a_label_map_is_none(tmp_path: Path) -> None:
    touch(tmp_path, "imgs/a.png", "labels/a.png/inside.txt")
    assert pairs(tmp_path) == {"imgs/a.png": None}


def test_a_broken_link_stays_in_the_list_so_that_reading_can_name_it(tmp_path: Path) -> None:
    touch(tmp_path, "imgs/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.png").symlink_to(tmp_path / "gone.png")
    assert pairs(tmp_path) == {"imgs/a.png": "labels/a.png"}


def test_other_folders_beside_the_usual_splits_are_splits_too(tmp_path: Path) -> None:
    touch(tmp_path, "imgs/val/a.png", "imgs/train/b.png", "imgs/snow/c.png", "imgs/.cache/d.png")
    assert folder_splits(tmp_path) == ("train", "val", "snow")
    assert pairs(tmp_path, "snow") == {"imgs/snow/c.png": None}
    touch(tmp_path, "imgs/loose.png")
    assert folder_splits(tmp_path) == ("train", "val")


def test_folders_of_other_names_alone_are_no_splits_but_can_be_asked_for(tmp_path: Path) -> None:
    touch(tmp_path, "imgs/day/a.png", "imgs/night/b.png", "labels/day/a.png")
    assert folder_splits(tmp_path) == ("train",)
    assert pairs(tmp_path) == {"imgs/day/a.png": "labels/day/a.png", "imgs/night/b.png": None}
    assert has_split(tmp_path, "day")
    assert pairs(tmp_path, "day") == {"imgs/day/a.png": "labels/day/a.png"}
    for wrong in ("dusk", "..", "day/deep", ""):
        assert not has_split(tmp_path, wrong)


def test_other_spellings_of_the_usual_splits_are_shown_as_they_are(tmp_path: Path) -> None:
    touch(tmp_path, "imgs/training/a.png", "imgs/validation/b.png")
    assert folder_splits(tmp_path) == ("training", "validation")


def test_splits_that_are_not_in_imgs_are_pointed_out(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.png", "val/b.png")
    found = folder_samples(tmp_path, "train")
    assert len(found.samples) == 2
    assert "splits lie in `imgs/`" in found.notes[0]


def test_a_folder_without_images_says_what_there_is(tmp_path: Path) -> None:
    touch(tmp_path, "imgs/train/readme.txt")
    with pytest.raises(StegoError, match=r"(?s)no images in .*train.*1 \.txt.*hint: "):
        folder_samples(tmp_path, "train")


def test_a_folder_of_label_maps_that_the_system_does_not_show_is_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's answer is made up, as nothing is locked to some of the users who run tests."""
    touch(tmp_path, "imgs/a.png", "labels/a.png")
    scandir = os.scandir

    def locked(path: os.PathLike[str]) -> object:
        if Path(path).name == "labels":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(StegoError, match=r"(?s)labels.*Permission denied.*hint: "):
        folder_samples(tmp_path, "train")
