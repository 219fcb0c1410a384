"""Labels, masks, image lists and colours of the reference: every array and every fact of the golden case `labels`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from stego_cli.config.data import DataConfig
from stego_cli.data.datasets.build import available_splits, open_dataset
from stego_cli.data.datasets.cropped import crops_folder
from stego_cli.data.label_codes import load_label_code
from stego_cli.data.labels import IGNORE_LABEL, load_label_space
from stego_cli.data.matlab import read_matlab_image
from stego_cli.data.reference_labels import (
    reference_colours,
    reference_labels,
    reference_mask,
    reference_missing_labels,
)
from stego_cli.data.views import apply_to_labels, paper_view

ALL = ["cocostuff27", "cocostuff15", "cocostuff3", "potsdam", "cityscapes"]


@pytest.fixture(scope="module")
def facts(golden: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((golden / "stego" / "labels" / "facts.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "stego" / "labels" / "mappings.npz", allow_pickle=False) as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def stored(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return arrays["label_in"].astype(np.int64)


@pytest.mark.parametrize("name", [*ALL, "directory"])
def test_labels_and_masks_of_the_reference(arrays: dict[str, np.ndarray], stored: np.ndarray, name: str) -> None:
    labels = reference_labels(name, stored)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, arrays[f"{name}_label"])
    np.testing.assert_array_equal(reference_mask(name, labels), arrays[f"{name}_mask"].astype(bool))


def test_potsdamraw_is_read_like_potsdam(arrays: dict[str, np.ndarray], stored: np.ndarray) -> None:
    labels = reference_labels("potsdamraw", stored)
    np.testing.assert_array_equal(labels, arrays["potsdam_label"])
    np.testing.assert_array_equal(reference_mask("potsdamraw", labels), arrays["potsdam_mask"].astype(bool))


@pytest.mark.parametrize("key", ["potsdam_missing_gt_label", "directory_missing_label"])
def test_missing_label_files_of_the_reference(arrays: dict[str, np.ndarray], key: str) -> None:
    expected = arrays[key]
    np.testing.assert_array_equal(reference_missing_labels(expected.shape), expected)


@pytest.fixture(scope="module")
def crops(golden: Path, whole_set: bool) -> dict[str, Any]:
    folder = golden / "stego" / "transforms"
    if not (folder / "cropped_dataset.json").is_file() and not whole_set:
        pytest.skip("the travelling set has no crops")
    loaded: dict[str, Any] = json.loads((folder / "cropped_dataset.json").read_text())
    with np.load(folder / "cropped_dataset.npz", allow_pickle=False) as arrays:
        return loaded | {"arrays": dict(arrays)}


def test_crops_of_the_reference_are_found_and_read(crops: dict[str, Any], tmp_path: Path) -> None:
    runs = {key: run for key, run in crops["runs"].items() if "directory" in run}
    assert runs
    for key, run in runs.items():
        for kind, files in (("img", run["image_files"]), ("label", run["label_files"])):
            folder = tmp_path / run["directory"] / kind / "train"
            folder.mkdir(parents=True)
            arrays = crops["arrays"][f"{'images' if kind == 'img' else 'labels'}_{key}"]
            for name, values in zip(files, arrays, strict=True):
                Image.fromarray(values).save(folder / name)
        match = Path(run["directory"]).name.split("_")
        config = DataConfig(dataset=match[0], data_dir=tmp_path, crop=match[1], crop_ratio=float(match[3]))
        assert crops_folder(config, config.crop, config.crop_ratio) == tmp_path / run["directory"]
        dataset = open_dataset(config, "train")
        assert [sample.name for sample in dataset.samples] == run["image_files"]
        for index, stored in enumerate(crops["arrays"][f"labels_{key}"]):
            np.testing.assert_array_equal(dataset.labels(index, stored.shape), stored.astype(np.int64) - 1)


def test_crops_read_through_the_training_transform(crops: dict[str, Any]) -> None:
    """The nearest pixel of the stored label, and a mask that is true where there is no class."""
    found = 0
    for key, expected in crops["arrays"].items():
        if not key.startswith("read_back_labels_"):
            continue
        side = int(key.rsplit("_", 1)[1])
        stored = crops["arrays"]["labels_five_0p5"].astype(np.int64)
        for index, labels in enumerate(stored - 1):
            seen = apply_to_labels(paper_view(*labels.shape, side), labels)
            np.testing.assert_array_equal(seen, expected[index])
            mask = crops["arrays"][key.replace("labels", "mask")][index]
            np.testing.assert_array_equal(reference_mask("cocostuff27", seen, cropped=True), mask.astype(bool))
            found += 1
    assert found


def test_fine_labels_are_left_as_they_are(arrays: dict[str, np.ndarray], stored: np.ndarray) -> None:
    np.testing.assert_array_equal(stored, arrays["potsdam_fine_label"])


def test_the_first_three_of_four_channels_are_the_image(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"img": arrays["potsdam_rgbi_in"]})
    pixels = read_matlab_image(tmp_path / "a.mat").pixels
    expected = arrays["potsdam_image"]
    np.testing.assert_allclose(np.moveaxis(pixels.astype(np.float32) / 255, -1, 0), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("key", "table"), [("pascal", "pascal_colormap"), ("cityscapes", "cityscapes_colormap")])
def test_colours_of_the_reference(arrays: dict[str, np.ndarray], facts: dict[str, Any], key: str, table: str) -> None:
    ids = arrays["colour_in" if key == "pascal" else "colour_in_cityscapes"]
    rows = tuple(tuple(row) for row in facts[table])
    np.testing.assert_array_equal(reference_colours(ids, rows), arrays[f"colour_{key}"])
    np.testing.assert_array_equal(reference_colours(np.array([[-1]]), rows)[0, 0], rows[-1])


@pytest.mark.parametrize("name", ALL)
def test_ours_differs_from_the_reference_only_where_nothing_is_counted(stored: np.ndarray, name: str) -> None:
    """Each quirk by its name: where we say "no class", the reference has an id that metrics leave out, or a value
    that no published file holds gets a class by accident."""
    classes = len(load_label_space(name))
    ours, theirs = load_label_code(name).class_ids(stored), reference_labels(name, stored)
    differs = ours != theirs
    assert set(np.unique(ours[differs])) <= {IGNORE_LABEL}  # where both give a class, it is the same
    counted = differs & (theirs >= 0) & (theirs < classes)
    accidents = {
        "cocostuff27": range(182, 255),  # become class 0
        "cocostuff15": range(0),
        "cocostuff3": range(0),
        "potsdam": range(6, 255),  # become class 0
        "cityscapes": range(0),
    }[name]
    assert set(stored[counted]) <= set(accidents)
    np.testing.assert_array_equal(theirs[counted], 0)
    below, beyond = differs & (theirs < 0), differs & (theirs >= classes)
    assert set(theirs[below]) <= (set(range(-13, -1)) if name == "cocostuff15" else set())
    assert set(stored[beyond]) <= (set(range(34, 256)) if name == "cityscapes" else set())


@pytest.mark.parametrize("name", ["cocostuff27", "cocostuff15", "cocostuff3"])
def test_fine_to_coarse(facts: dict[str, Any], name: str) -> None:
    order = {
        "cocostuff27": range(facts["n_classes"]["cocostuff27"]),
        "cocostuff15": range(facts["cocostuff_first_stuff_index"], facts["n_classes"]["cocostuff27"]),
        "cocostuff3": facts["cocostuff3"]["coarse_ids_in_order"],
    }[name]
    class_of = {coarse: class_id for class_id, coarse in enumerate(order)}
    fine = facts["cocostuff_fine_to_coarse"]
    values = np.array([[int(value) for value in fine]])
    expected = [class_of.get(coarse, IGNORE_LABEL) for coarse in fine.values()]
    np.testing.assert_array_equal(load_label_code(name).class_ids(values)[0], expected)


def test_potsdam_and_cityscapes_tables(facts: dict[str, Any]) -> None:
    table = facts["potsdam_fine_to_coarse"]
    values = np.array([[int(value) for value in table]])
    np.testing.assert_array_equal(load_label_code("potsdam").class_ids(values)[0], list(table.values()))
    first, classes = facts["cityscapes_first_nonvoid"], facts["n_classes"]["cityscapes"]
    ids = load_label_code("cityscapes").class_ids(np.arange(first - 1, first + classes + 1)[None])[0]
    np.testing.assert_array_equal(ids, [IGNORE_LABEL, *range(classes), IGNORE_LABEL])


@pytest.mark.parametrize("name", ["cocostuff27", "cocostuff15", "cocostuff3"])
@pytest.mark.parametrize("split", ["train", "val", "train+val"])
def test_each_split_of_cocostuff_is_read_from_its_lists(
    facts: dict[str, Any], tmp_path: Path, name: str, split: str
) -> None:
    """Every list names other images, so that the right ones can be told from the wrong ones."""
    entries = {json.dumps(part): part for key in facts["cocostuff_image_lists"].values() for part in key}.values()
    names: dict[str, list[str]] = {}
    for number, entry in enumerate(entries):
        names[entry["list_file"]] = [f"{number:012d}", f"{number + 500:012d}"]
        for folder, suffix in ((entry["image_dir"], ".jpg"), (entry["annotation_dir"], ".png")):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for stem in names[entry["list_file"]]:
                (tmp_path / folder / (stem + suffix)).touch()
        path = tmp_path / entry["list_file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names[entry["list_file"]]))
    config = DataConfig(dataset=name, data_dir=tmp_path)
    expected = [
        (tmp_path / part["image_dir"] / f"{stem}.jpg", tmp_path / part["annotation_dir"] / f"{stem}.png")
        for part in facts["cocostuff_image_lists"][f"{name}/{split}"]
        for stem in names[part["list_file"]]
    ]
    assert available_splits(config) == ("train", "val", "train+val")
    assert [(sample.image, sample.label) for sample in open_dataset(config, split).samples] == expected


def test_splits_of_potsdam(facts: dict[str, Any], tmp_path: Path) -> None:
    root = tmp_path / "potsdam"
    (root / "imgs").mkdir(parents=True)
    lists = sorted({name for names in facts["potsdam_split_files"].values() for name in names})
    for number, name in enumerate(lists):
        (root / name).write_text(f"{number}\n")
        (root / "imgs" / f"{number}.mat").touch()
    config = DataConfig(dataset="potsdam", data_dir=tmp_path)
    assert set(available_splits(config)) == set(facts["potsdam_split_files"])
    for split, files in facts["potsdam_split_files"].items():
        expected = [f"{lists.index(name)}.mat" for name in files]
        assert [sample.name for sample in open_dataset(config, split).samples] == expected


def test_order_of_potsdamraw(facts: dict[str, Any], tmp_path: Path) -> None:
    expected = facts["potsdamraw_files"]
    tiles = int(expected["last"].split("_")[0]) + 1
    images = tmp_path / "potsdamraw" / "processed" / "imgs"
    images.mkdir(parents=True)
    side = int((expected["count"] // tiles) ** 0.5)
    for tile in range(tiles):
        for row in range(side):
            for column in range(side):
                (images / f"{tile}_{row}_{column}.mat").touch()
    samples = open_dataset(DataConfig(dataset="potsdamraw", data_dir=tmp_path), "train").samples
    names = [sample.name for sample in samples]
    assert len(names) == expected["count"]
    assert names[: len(expected["first"])] == expected["first"]
    assert names[-1] == expected["last"]
    for key, name in expected.items():
        if key.startswith("at_"):
            assert names[int(key.removeprefix("at_"))] == name
