"""Datasets that are folders: pairs of images and label maps, and the kinds of label maps that are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stego_cli.data.folder_dataset import LabelledImage, folder_split, has_split, read_label_map
from stego_cli.errors import ImageError, StegoError

IDS = np.array([[0, 1, 2], [2, 255, 7]], dtype=np.uint8)


def touch(root: Path, *names: str) -> None:
    """Make empty files; what is in them does not matter for finding them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def pairs(root: Path, split: str = "train") -> dict[str, str | None]:
    """Return label map by image, both relative to the root."""
    return {
        image.path.relative_to(root).as_posix(): image.label_path and image.label_path.relative_to(root).as_posix()
        for image in folder_split(root, split)
    }


def test_splits_are_kept_apart_and_label_maps_have_the_image_s_name(tmp_path: Path) -> None:
    touch(tmp_path, "imgs/train/b.jpg", "imgs/train/a.b.JPG", "imgs/val/c.png", "imgs/test/d.png")
    touch(tmp_path, "labels/train/a.b.png", "labels/val/b.png", "labels/val/c.png", "labels/train/spare.png")
    assert pairs(tmp_path) == {"imgs/train/a.b.JPG": "labels/train/a.b.png", "imgs/train/b.jpg": None}
    assert pairs(tmp_path, "val") == {"imgs/val/c.png": "labels/val/c.png"}
    assert has_split(tmp_path, "val")
    assert not has_split(tmp_path, "dev")


def test_folders_inside_a_split_are_paired_by_their_whole_path(tmp_path: Path) -> None:
    touch(tmp_path, "imgs/train/x/1.png", "imgs/train/y/z/1.png", "labels/train/y/z/1.png", "labels/train/1.png")
    assert pairs(tmp_path) == {"imgs/train/x/1.png": None, "imgs/train/y/z/1.png": "labels/train/y/z/1.png"}


def test_images_without_splits_are_all_for_training(tmp_path: Path) -> None:
    touch(tmp_path, "imgs/a.png", "imgs/deep/b.png", "labels/a.png", "other/c.png")
    assert pairs(tmp_path) == {"imgs/a.png": "labels/a.png", "imgs/deep/b.png": None}
    assert not has_split(tmp_path, "val")


def test_a_folder_of_images_is_a_dataset_and_its_label_maps_are_no_images(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "trip/b.jpg", "labels/a.png", "labels/trip/b.png", "notes.txt")
    assert pairs(tmp_path) == {"a.jpg": "labels/a.png", "trip/b.jpg": "labels/trip/b.png"}


def test_the_order_is_that_of_the_names_whatever_the_system_says(tmp_path: Path) -> None:
    touch(tmp_path, *(f"imgs/{name}.png" for name in ("10", "b", "2", "a/z", "B")))
    found = folder_split(tmp_path, "train")
    assert found == sorted(found, key=lambda image: image.path.relative_to(tmp_path))
    assert len(found) == 5


def test_a_folder_in_the_place_of_a_label_map_is_none(tmp_path: Path) -> None:
    touch(tmp_path, "imgs/a.png", "labels/a.png/inside.txt")
    assert folder_split(tmp_path, "train") == [LabelledImage(tmp_path / "imgs" / "a.png")]


def test_what_is_missing_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StegoError, match=r"no folder .*nowhere[^$]*hint: give a folder of images"):
        folder_split(tmp_path / "nowhere", "train")
    touch(tmp_path, "imgs/train/a.png")
    with pytest.raises(StegoError, match=r"imgs[/\\]val[^$]*hint: .*imgs/val/"):
        folder_split(tmp_path, "val")
    (tmp_path / "empty" / "imgs").mkdir(parents=True)
    with pytest.raises(StegoError, match="imgs"):
        folder_split(tmp_path / "empty", "train")


def test_a_palette_image_gives_its_indices_not_its_colours(tmp_path: Path) -> None:
    picture = Image.fromarray(IDS)
    picture.putpalette([200, 100, 50] * 256)  # all colours equal: only the indices tell the classes apart
    picture.save(tmp_path / "p.png")
    ids = read_label_map(tmp_path / "p.png")
    assert ids.dtype == np.int64
    np.testing.assert_array_equal(ids, IDS)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32], ids=["8 bits", "16 bits", "32 bits"])
def test_grey_images_give_their_values(tmp_path: Path, dtype: type[np.integer]) -> None:
    values = IDS.astype(dtype) if dtype is np.uint8 else IDS.astype(dtype) * 257
    path = tmp_path / ("a.tif" if dtype is np.int32 else "a.png")
    Image.fromarray(values).save(path)
    np.testing.assert_array_equal(read_label_map(path), values)


def test_black_and_white_is_zero_and_one(tmp_path: Path) -> None:
    Image.fromarray(IDS > 1).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png"), IDS > 1)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colours_are_no_class_ids(tmp_path: Path, mode: str) -> None:
    Image.fromarray(IDS).convert(mode).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=rf"a\.png.* {mode} colours[^$]*hint: .*one channel"):
        read_label_map(tmp_path / "a.png")


@pytest.mark.parametrize("keep", [0, 20, 60])
def test_a_damaged_label_map_is_named(tmp_path: Path, keep: int) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (40, 40), dtype=np.uint8)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:keep])
    with pytest.raises(ImageError, match=r"cut\.png.* cannot be read"):
        read_label_map(tmp_path / "cut.png")


def test_a_dataset_without_images_to_learn_from_is_not_fitted_to_its_validation_images(tmp_path: Path) -> None:
    touch(tmp_path, "imgs/val/a.png")
    with pytest.raises(StegoError, match="`imgs/val` but no `imgs/train`"):
        folder_split(tmp_path, "train")
