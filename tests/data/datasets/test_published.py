"""The known datasets, each as a tiny copy of its published layout with made-up content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from stego_cli.config.data import DataConfig
from stego_cli.data.datasets.build import available_splits, open_dataset
from stego_cli.data.labels import load_label_space
from stego_cli.errors import StegoError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 4), dtype=np.uint8)


def image(path: Path, values: np.ndarray = PIXELS[:, :, :3]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def labels(path: Path, *rows: list[int]) -> None:
    image(path, np.array(rows, np.uint8))


def names(config: DataConfig, split: str) -> list[str]:
    return [sample.name for sample in open_dataset(config, split).samples]


def test_real_cocostuff_gives_only_its_classes(testdata: Path) -> None:
    for config in (
        DataConfig(dataset="cocostuff27", data_dir=testdata),
        DataConfig(dataset="cocostuff27", data_dir=testdata / "cocostuff"),
        DataConfig(dataset=str(testdata / "cocostuff")),
    ):
        assert available_splits(config) == ("train", "val", "train+val")
        for split, count in (("train", 13), ("val", 8)):
            dataset = open_dataset(config, split)
            assert dataset.name == "cocostuff27"
            assert dataset.label_space == load_label_space("cocostuff27")
            assert len(dataset) == count
            found = set()
            for pixels, ids in dataset:
                assert ids.shape == pixels.shape[:2]
                found |= set(np.unique(ids))
            assert found <= set(range(-1, 27))
            assert len(found) > 5


@pytest.mark.parametrize(("name", "classes"), [("cocostuff15", 15), ("cocostuff3", 3)])
def test_real_cocostuff_with_fewer_classes(testdata: Path, name: str, classes: int) -> None:
    dataset = open_dataset(DataConfig(dataset=name, data_dir=testdata), "val")
    found = {value for _, ids in dataset for value in np.unique(ids)}
    assert found <= set(range(-1, classes))
    assert len(found) > 1


def test_real_camvid_is_a_plain_folder_with_a_label_space_of_its_name(testdata: Path) -> None:
    dataset = open_dataset(DataConfig(dataset="camvid", data_dir=testdata), "val")
    assert len(dataset) == 101
    assert dataset.label_space == load_label_space("camvid")
    assert dataset.notes == ()
    assert set(np.unique(dataset[0][1])) <= set(range(-1, 11))
    assert 11 in dataset.stored_labels(0)  # unlabelled


def test_cocostuff_without_annotations_is_there_without_labels(tmp_path: Path) -> None:
    image(tmp_path / "cocostuff/images/train2017/1.jpg")
    (tmp_path / "cocostuff/curated/train2017").mkdir(parents=True)
    (tmp_path / "cocostuff/curated/train2017/Coco164kFull_Stuff_Coarse.txt").write_text("1\n2\n")
    config = DataConfig(dataset="cocostuff27", data_dir=tmp_path)
    assert available_splits(config) == ("train",)
    dataset = open_dataset(config, "train")
    assert not dataset.is_labelled
    assert [note.split(" in ")[0] for note in dataset.notes] == [
        "1 of 2 listed images are not",
        "2 of 2 images have no label map",
    ]


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    root = tmp_path / "cityscapes"
    for place in ("train/zurich/zurich_1", "train/aachen/aachen_2", "train/aachen/aachen_1", "val/ulm/ulm_1"):
        image(root / f"leftImg8bit/{place}_leftImg8bit.png")
        labels(root / f"gtFine/{place}_gtFine_labelIds.png", [0, 6, 7, 33, 34, 255])
        labels(root / f"gtFine/{place}_gtFine_instanceIds.png", [1, 1, 1, 1, 1, 1])
    (root / "gtFine/train/zurich/zurich_1_gtFine_labelIds.png").unlink()
    image(root / "leftImg8bit/train/aachen/preview.png")
    return tmp_path


def test_cityscapes_is_sorted_by_city_and_counts_27_classes(cityscapes: Path) -> None:
    config = DataConfig(dataset="cityscapes", data_dir=cityscapes)
    assert available_splits(config) == ("train", "val")
    assert names(config, "train") == [
        "train/aachen/aachen_1_leftImg8bit.png",
        "train/aachen/aachen_2_leftImg8bit.png",
        "train/zurich/zurich_1_leftImg8bit.png",
    ]
    dataset = open_dataset(config, "train")
    np.testing.assert_array_equal(dataset.labels(0, (1, 6)), [[-1, -1, 0, 26, -1, -1]])
    assert dataset.samples[2].label is None
    assert dataset.notes[0].startswith("1 of 3 images have no label map")
    assert len(dataset.label_space or ()) == 27


def test_cityscapes_with_images_in_the_wrong_place_says_what_is_expected(cityscapes: Path) -> None:
    image(cityscapes / "cityscapes/leftImg8bit/test/berlin_1_leftImg8bit.png")
    with pytest.raises(StegoError, match=r"(?s)no `\*_leftImg8bit\.png` in the folders of .*test.*hint: .*city"):
        open_dataset(DataConfig(dataset="cityscapes", data_dir=cityscapes), "test")


@pytest.fixture
def potsdam(tmp_path: Path) -> Path:
    root = tmp_path / "potsdam"
    for folder in ("imgs", "gt"):
        (root / folder).mkdir(parents=True)
    for number in range(5):
        savemat(root / f"imgs/{number}.mat", {"img": PIXELS})
    for number in range(4):
        savemat(
            root / f"gt/{number}.mat", {"gt": np.array([[0, 1, 2, 3, 4, 5], [255, 6, 254, 0, 0, number]], np.uint8)}
        )
    lists = {"labelled_train": "2 0", "labelled_test": "3 1", "unlabelled_train": "4", "all": "0 1 2 3 4"}
    for name, numbers in lists.items():
        (root / f"{name}.txt").write_text(numbers.replace(" ", "\n"))
    return tmp_path


def test_potsdam_reads_its_lists_and_matlab_files(potsdam: Path) -> None:
    config = DataConfig(dataset="potsdam", data_dir=potsdam)
    assert available_splits(config) == ("train", "val", "train+val", "unlabelled_train", "all")
    assert names(config, "train+val") == ["2.mat", "0.mat", "3.mat", "1.mat"]
    dataset = open_dataset(config, "train")
    np.testing.assert_array_equal(dataset.image(0), PIXELS[:, :, :3])
    np.testing.assert_array_equal(dataset.labels(0, (2, 6)), [[0, 1, 2, 2, 0, 1], [-1, -1, -1, 0, 0, 2]])
    assert not open_dataset(config, "unlabelled_train").is_labelled
    infrared = open_dataset(DataConfig(dataset="potsdam", data_dir=potsdam, bands=(4, 1, 2)), "train")
    np.testing.assert_array_equal(infrared.image(0), PIXELS[:, :, [3, 0, 1]])


def test_potsdamraw_goes_by_tile_row_and_column_as_numbers(tmp_path: Path) -> None:
    root = tmp_path / "potsdamraw" / "processed"
    for folder, key, values in (("imgs", "img", PIXELS), ("gt", "gt", np.full((4, 6), 5, np.uint8))):
        (root / folder).mkdir(parents=True)
        for name in ("0_10_2", "0_2_10", "10_0_0", "2_0_0", "0_2_9"):
            savemat(root / folder / f"{name}.mat", {key: values})
    (root / "imgs" / "readme.mat").touch()
    config = DataConfig(dataset="potsdamraw", data_dir=tmp_path)
    assert names(config, "train") == ["0_2_9.mat", "0_2_10.mat", "0_10_2.mat", "2_0_0.mat", "10_0_0.mat"]
    assert names(config, "val") == names(config, "train")
    dataset = open_dataset(config, "val")
    assert "no splits" in dataset.notes[0]
    assert (dataset.labels(0, (4, 6)) == 1).all()
    assert dataset.label_space == load_label_space("potsdam")
    assert dataset.name == "potsdamraw"


def test_potsdamraw_without_its_files_says_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "potsdamraw/processed/imgs").mkdir(parents=True)
    with pytest.raises(StegoError, match=r"(?s)no `<tile>_<row>_<column>\.mat`.*0 file.*hint: "):
        open_dataset(DataConfig(dataset="potsdamraw", data_dir=tmp_path), "train")


def test_voc_palette_pictures_give_classes_and_the_border_none(tmp_path: Path) -> None:
    root = tmp_path / "voc2012" / "VOCdevkit" / "VOC2012"
    for name in ("2007_000032", "2007_000033", "2008_1"):
        image(root / f"JPEGImages/{name}.jpg")
    picture = Image.fromarray(np.array([[0, 20, 21, 255]], np.uint8))
    picture.putpalette([9, 9, 9] * 256)
    (root / "SegmentationClass").mkdir()
    picture.save(root / "SegmentationClass/2007_000033.png")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/val.txt").write_text("2007_000033\n2007_000032\n")
    (root / "ImageSets/Segmentation/trainval.txt").write_text("2008_1\n2007_000033\n")
    config = DataConfig(dataset="voc2012", data_dir=tmp_path)
    assert available_splits(config) == ("val", "train+val")
    assert names(config, "val") == ["2007_000033.jpg", "2007_000032.jpg"]
    assert names(config, "train+val") == ["2008_1.jpg", "2007_000033.jpg"]
    np.testing.assert_array_equal(open_dataset(config, "val").labels(0, (1, 4)), [[0, 20, -1, -1]])
