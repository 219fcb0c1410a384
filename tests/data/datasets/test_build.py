"""From a config to a dataset: splits, label spaces, notes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stego_cli.config.data import DataConfig
from stego_cli.data.datasets.build import available_splits, open_dataset
from stego_cli.data.labels import load_label_space
from stego_cli.errors import ConfigError, StegoError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A labelled folder with two splits."""
    for split in ("train", "val"):
        for folder in ("imgs", "labels"):
            (tmp_path / "own" / folder / split).mkdir(parents=True)
        Image.new("RGB", (3, 1)).save(tmp_path / "own/imgs" / split / "a.png")
        Image.fromarray(np.array([[0, 2, 255]], np.uint8)).save(tmp_path / "own/labels" / split / "a.png")
    return tmp_path / "own"


@pytest.fixture
def cocostuff(tmp_path: Path) -> Path:
    root = tmp_path / "sets" / "cocostuff"
    for folder, suffix in (("images", ".jpg"), ("annotations", ".png")):
        (root / folder / "train2017").mkdir(parents=True)
        Image.new("L", (3, 1), 105).save(root / folder / "train2017" / f"1{suffix}")
    (root / "curated/train2017").mkdir(parents=True)
    (root / "curated/train2017/Coco164kFull_Stuff_Coarse.txt").write_text("1")
    return root


def test_a_folder_s_values_are_its_class_ids(own: Path) -> None:
    config = DataConfig(dataset=str(own))
    assert available_splits(config) == ("train", "val")
    dataset = open_dataset(config, "val")
    assert (dataset.name, dataset.split, dataset.root) == ("own", "val", own)
    assert dataset.label_space is None
    np.testing.assert_array_equal(dataset.labels(0, (1, 3)), [[0, 2, 255]])


def test_with_a_label_space_values_beyond_it_are_ignored(own: Path) -> None:
    dataset = open_dataset(DataConfig(dataset=str(own), label_space="cocostuff3"), "val")
    assert dataset.label_space == load_label_space("cocostuff3")
    np.testing.assert_array_equal(dataset.labels(0, (1, 3)), [[0, 2, -1]])  # class ids, not COCO's stored values


def test_a_folder_named_like_a_label_space_has_it(own: Path) -> None:
    folder = own.rename(own.with_name("potsdam"))
    dataset = open_dataset(DataConfig(dataset=str(folder)), "train")
    assert dataset.label_space == load_label_space("potsdam")
    assert dataset.labels(0, (1, 3)).tolist() == [[0, 2, -1]]


def test_a_known_layout_is_read_as_such_and_a_note_says_so(cocostuff: Path) -> None:
    by_name = open_dataset(DataConfig(dataset="cocostuff27", data_dir=cocostuff.parent), "train")
    by_folder = open_dataset(DataConfig(dataset=str(cocostuff)), "train")
    assert by_name.notes == ()
    assert by_folder.notes == ("the folder is laid out as cocostuff27 and read as such",)
    assert by_name.samples == by_folder.samples
    for dataset in (by_name, by_folder):
        assert dataset.labels(0, (1, 3)).tolist() == [[23, 23, 23]]


def test_another_label_space_must_have_as_many_classes(cocostuff: Path) -> None:
    same = DataConfig(dataset="cocostuff27", data_dir=cocostuff.parent, label_space="cityscapes")
    assert open_dataset(same, "train").label_space == load_label_space("cityscapes")
    other = DataConfig(dataset="cocostuff27", data_dir=cocostuff.parent, label_space="camvid")
    with pytest.raises(ConfigError, match=r"(?s)cocostuff27 has 27 classes, .*`camvid` has 11.*hint: leave out"):
        open_dataset(other, "train")
    with pytest.raises(ConfigError, match="did you mean `camvid`"):
        open_dataset(DataConfig(dataset=str(cocostuff), label_space="camvit"), "train")


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("validation", "there are: `train`, `val`\n\nhint: did you mean `val`"),
        ("vall", "did you mean `val`"),
        ("test", "into `imgs/test/`"),
        ("../own", "no split"),
        ("", "no split"),
    ],
)
def test_a_split_that_is_not_there_names_those_that_are(own: Path, split: str, words: str) -> None:
    with pytest.raises(StegoError) as caught:
        open_dataset(DataConfig(dataset=str(own)), split)
    assert words in str(caught.value)


def test_another_spelling_of_a_split_is_to_be_renamed(own: Path) -> None:
    (own / "imgs" / "val").rename(own / "imgs" / "validation")
    with pytest.raises(StegoError, match=r"did you mean `validation`\? .*rename `imgs/validation/`"):
        open_dataset(DataConfig(dataset=str(own)), "val")


def test_a_folder_without_images_to_learn_from_is_not_fitted_to_its_validation_images(own: Path) -> None:
    (own / "imgs" / "train").rename(own / "elsewhere")
    with pytest.raises(StegoError, match=r"no split `train`; there are: `val`[^$]*hint: .*into `imgs/train/`"):
        open_dataset(DataConfig(dataset=str(own)), "train")


def test_a_split_of_a_known_dataset_that_is_not_there(cocostuff: Path) -> None:
    with pytest.raises(StegoError, match=r"no split `val`; there are: `train`\n\nhint: .*unpack"):
        open_dataset(DataConfig(dataset="cocostuff27", data_dir=cocostuff.parent), "val")


def test_every_kind_of_dataset_can_be_sent_to_other_processes(own: Path, cocostuff: Path) -> None:
    for name in (own, cocostuff):
        dataset = open_dataset(DataConfig(dataset=str(name)), "train")
        assert pickle.loads(pickle.dumps(dataset)) == dataset
