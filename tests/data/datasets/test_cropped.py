"""Crops: where they lie, in which order they are read, and what they say about themselves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stego_cli.config.data import DataConfig
from stego_cli.data.datasets.build import available_splits, open_dataset
from stego_cli.data.datasets.cropped import JOURNAL, crop_origin, crop_samples, crop_splits, crops_folder, is_crops
from stego_cli.data.datasets.known import place_of
from stego_cli.data.labels import load_label_space
from stego_cli.engine.crop import record as crop_record
from stego_cli.errors import StegoError

STORED = np.array([[0, 1, 2], [3, 27, 255]], np.uint8)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def make(root: Path, split: str = "train", numbers: tuple[int, ...] = (0, 1, 2), *, labelled: bool = True) -> Path:
    for folder, suffix, values in (("img", "jpg", np.zeros((2, 3, 3), np.uint8)), ("label", "png", STORED)):
        (root / folder / split).mkdir(parents=True, exist_ok=True)
        for number in numbers if folder == "img" or labelled else ():
            Image.fromarray(values).save(root / folder / split / f"{number}.{suffix}")
    return root


def test_crops_of_known_datasets_lie_beside_them_as_in_the_reference(tmp_path: Path, home: Path) -> None:
    here = DataConfig(dataset="potsdam", data_dir=tmp_path)
    assert crops_folder(here, "five", 0.5) == tmp_path / "cropped" / "potsdam_five_crop_0.5"
    assert crops_folder(here, "random", 0.7) == tmp_path / "cropped" / "potsdam_random_crop_0.7"
    assert crops_folder(DataConfig(dataset="potsdam"), "five", 0.5).parent == home / "datasets" / "cropped"


def test_crops_of_people_s_own_folders_lie_in_our_folder_and_are_told_apart(tmp_path: Path, home: Path) -> None:
    for name in ("a/photos", "b/photos"):
        (tmp_path / name).mkdir(parents=True)
    configs = [DataConfig(dataset=str(tmp_path / name)) for name in ("a/photos", "b/photos")]
    found = [crops_folder(config, "five", 0.5) for config in configs]
    assert {path.parent for path in found} == {home / "cropped"}
    assert found == [home / "cropped" / f"{place_of(config).slug}_five_crop_0.5" for config in configs]
    assert found[0] != found[1]


def test_they_are_read_in_the_order_of_their_numbers_which_may_have_holes(tmp_path: Path) -> None:
    make(tmp_path, numbers=(10, 9, 2, 100))
    (tmp_path / "label" / "train" / "9.png").unlink()
    for name in ("notes.txt", ".writing-3.jpg", "x.jpg", "Thumbs.db"):
        (tmp_path / "img" / "train" / name).touch()
    found = crop_samples(tmp_path, "train")
    assert [(sample.name, sample.label and sample.label.name) for sample in found.samples] == [
        ("2.jpg", "2.png"),
        ("9.jpg", None),
        ("10.jpg", "10.png"),
        ("100.jpg", "100.png"),
    ]
    assert found.notes[0].startswith("1 of 4 images have no label map")


def test_crops_of_images_without_labels_need_no_note(tmp_path: Path) -> None:
    assert crop_samples(make(tmp_path, labelled=False), "train").notes == ()


def test_a_known_dataset_with_its_crops(tmp_path: Path) -> None:
    make(tmp_path / "cropped" / "cocostuff27_five_crop_0.5", "val")
    make(tmp_path / "cropped" / "cocostuff27_five_crop_0.5", "train")
    config = DataConfig(dataset="cocostuff27", data_dir=tmp_path, crop="five", bands=(4, 3, 2))
    assert available_splits(config) == ("train", "val")
    dataset = open_dataset(config, "train")
    assert dataset.name == "cocostuff27"
    assert dataset.label_space == load_label_space("cocostuff27")
    np.testing.assert_array_equal(dataset.labels(1, (2, 3)), [[-1, 0, 1], [2, 26, -1]])
    assert dataset.image(0).shape == (2, 3, 3)  # bands were chosen when the crops were cut
    whole = place_of(DataConfig(dataset="cocostuff27", data_dir=tmp_path)).slug
    assert dataset.slug == f"{whole}_five_crop_0.5"


def test_a_folder_with_its_crops(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    config = DataConfig(dataset=str(tmp_path / "photos"), crop="random", crop_ratio=0.25)
    make(crops_folder(config, "random", 0.25))
    dataset = open_dataset(config, "train")
    assert dataset.name == "photos"
    assert dataset.label_space is None
    np.testing.assert_array_equal(dataset.labels(0, (2, 3)), [[-1, 0, 1], [2, 26, 254]])


def test_crops_that_were_not_made_are_answered_with_the_command(tmp_path: Path) -> None:
    config = DataConfig(dataset="potsdam", data_dir=tmp_path, crop="five")
    for ask in (available_splits, lambda config: open_dataset(config, "train")):
        with pytest.raises(StegoError, match=rf"run `stego crop potsdam --five --ratio 0\.5 --data-dir {tmp_path}`"):
            ask(config)
    make(tmp_path / "cropped" / "potsdam_five_crop_0.7")
    make(tmp_path / "cropped" / "potsdamraw_five_crop_0.5")
    with pytest.raises(StegoError, match=r"there are potsdam_five_crop_0\.7\n"):
        open_dataset(config, "train")


def test_a_split_without_crops_names_those_that_have_some(tmp_path: Path) -> None:
    make(tmp_path / "cropped" / "potsdam_five_crop_0.5")
    with pytest.raises(StegoError, match="no split `val`; there are: `train`"):
        open_dataset(DataConfig(dataset="potsdam", data_dir=tmp_path, crop="five"), "val")


def test_crops_of_a_run_that_was_cut_off_are_not_taken_for_all(tmp_path: Path) -> None:
    root = make(tmp_path / "cropped" / "potsdam_five_crop_0.5")
    (root / JOURNAL).touch()
    with pytest.raises(StegoError, match=r"(?s)not finished.*hint: .*goes on where it stopped"):
        open_dataset(DataConfig(dataset="potsdam", data_dir=tmp_path, crop="five"), "train")
    assert crop_record.JOURNAL == JOURNAL  # who writes it and who heeds it mean the same file


@pytest.mark.parametrize(
    ("manifest", "name", "space"),
    [
        ({"dataset": "potsdamraw", "label_space": "potsdam"}, "potsdamraw", "potsdam"),
        ({"dataset": "mine", "label_space": None}, "mine", None),
        ({"dataset": "cocostuff27"}, "cocostuff27", "cocostuff27"),
    ],
)
def test_a_folder_of_crops_can_be_named_itself(
    tmp_path: Path, manifest: dict[str, str], name: str, space: str | None
) -> None:
    root = make(tmp_path / "some crops")
    (root / "manifest.json").write_text(json.dumps(manifest))
    dataset = open_dataset(DataConfig(dataset=str(root)), "train")
    assert dataset.name == name
    assert (dataset.label_space and dataset.label_space.name) == space
    assert dataset.labels(0, (2, 3))[0].tolist() == [-1, 0, 1]
    assert available_splits(DataConfig(dataset=str(root))) == ("train",)


def test_the_user_s_label_space_goes_before_that_of_the_manifest(tmp_path: Path) -> None:
    root = make(tmp_path / "some crops")
    (root / "manifest.json").write_text(json.dumps({"dataset": "mine", "label_space": "potsdam"}))
    dataset = open_dataset(DataConfig(dataset=str(root), label_space="camvid"), "train")
    assert dataset.label_space == load_label_space("camvid")


def test_crops_of_the_reference_are_known_by_the_name_of_their_folder(tmp_path: Path) -> None:
    root = make(tmp_path / "cityscapes_five_crop_0.5")
    assert is_crops(root)
    assert crop_origin(root) == ("cityscapes", None)
    assert open_dataset(DataConfig(dataset=str(root)), "train").label_space == load_label_space("cityscapes")
    assert not is_crops(make(tmp_path / "cityscapes"))
    (tmp_path / "x_five_crop_0.5" / "imgs").mkdir(parents=True)
    assert not is_crops(tmp_path / "x_five_crop_0.5")


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b'{"dataset": 3, "label_space": ["x"]}'])
def test_a_manifest_that_says_nothing_usable_costs_nothing(tmp_path: Path, content: bytes) -> None:
    root = make(tmp_path / "voc2012_five_crop_0.5")
    (root / "manifest.json").write_bytes(content)
    assert crop_origin(root) == ("voc2012", None)
    assert open_dataset(DataConfig(dataset=str(root)), "train").label_space == load_label_space("voc2012")


def test_an_empty_split_says_so(tmp_path: Path) -> None:
    make(tmp_path, numbers=())
    assert crop_splits(tmp_path) == ("train",)
    with pytest.raises(StegoError, match=r"(?s)no crops in .*train.*hint: run `stego crop`"):
        crop_samples(tmp_path, "train")
