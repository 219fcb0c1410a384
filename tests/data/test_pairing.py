from __future__ import annotations

from pathlib import Path

from stego_cli.data.dataset import Dataset, Sample
from stego_cli.data.pairing import pair_up


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def dataset(root: Path, *samples: Sample, split: str = "train") -> Dataset:
    return Dataset("d", "d", split, root, samples)


def test_names_of_pairs_that_differ_in_their_end_are_understood(tmp_path: Path) -> None:
    """As in Cityscapes, where further files lie beside the label maps."""
    images, labels = tmp_path / "leftImg8bit/train", tmp_path / "gtFine/train"
    pair = touch(images / "aachen/aachen_1_leftImg8bit.png"), touch(labels / "aachen/aachen_1_gtFine_labelIds.png")
    touch(labels / "aachen/aachen_1_gtFine_color.png")
    bare = touch(images / "bochum/bochum_2_leftImg8bit.png")
    spare = touch(labels / "bochum/bochum_3_gtFine_labelIds.png")
    found = pair_up(dataset(tmp_path, Sample("1", *pair), Sample("2", bare)))
    # `bochum` has no label map of a sample, so only the folder of the one that has is known to hold label maps.
    assert found.orphans == ()
    touch(labels / "bochum/bochum_2_gtFine_labelIds.png")
    both = pair_up(
        dataset(tmp_path, Sample("1", *pair), Sample("2", bare, labels / "bochum/bochum_2_gtFine_labelIds.png"))
    )
    assert both.orphans == (spare,)
    assert both.unlabelled == ()


def test_images_that_a_list_leaves_out_are_images_all_the_same(tmp_path: Path) -> None:
    """As in COCO-Stuff, whose curated lists name a part of the images."""
    image, label = touch(tmp_path / "images/val/1.jpg"), touch(tmp_path / "annotations/val/1.png")
    touch(tmp_path / "images/val/2.jpg")
    touch(tmp_path / "annotations/val/2.png")
    lost = touch(tmp_path / "annotations/val/3.png")
    found = pair_up(dataset(tmp_path, Sample("images/val/1.jpg", image, label)))
    assert found.orphans == (lost,)


def test_plain_folders_are_looked_through_below_their_split(tmp_path: Path) -> None:
    image = touch(tmp_path / "imgs/train/sub/a.jpg")
    label = touch(tmp_path / "labels/train/sub/a.png")
    touch(tmp_path / "labels/val/other.png")
    lost = touch(tmp_path / "labels/train/a.png")
    touch(tmp_path / "labels/train/readme.txt")
    touch(tmp_path / "labels/train/.hidden.png")
    found = pair_up(dataset(tmp_path, Sample("sub/a.jpg", image, label)))
    assert found.orphans == (lost,)


def test_crops_are_paired_in_their_own_folders(tmp_path: Path) -> None:
    pair = touch(tmp_path / "img/train/0.jpg"), touch(tmp_path / "label/train/0.png")
    spare = touch(tmp_path / "label/train/1.png")
    assert pair_up(dataset(tmp_path, Sample("0.jpg", *pair))).orphans == (spare,)


def test_stems_are_compared_within_folders(tmp_path: Path) -> None:
    names = ["a.jpg", "a.png", "sub/a.jpg", "b.v1.jpg", "b.v2.jpg"]
    found = pair_up(dataset(tmp_path, *(Sample(name, touch(tmp_path / name)) for name in names)))
    assert found.same_stem == (("a.jpg", "a.png"),)
    assert len(found.unlabelled) == 5
