"""The reference's crops: where they lie, and the files of its cropping script, end to end."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from stego_cli.config.crops import CropsConfig
from stego_cli.config.data import DataConfig
from stego_cli.config.load import load_config
from stego_cli.data.crops import CropRule, tuple_hash
from stego_cli.data.datasets.build import open_dataset
from stego_cli.data.views import apply_to_labels, paper_view
from stego_cli.engine.crop.run import make_crops
from stego_cli.progress import Silence

RULES = {"random_by_seed": "python38", "random_by_seed_python37_or_older": "python37"}


@pytest.fixture(scope="module")
def folder(golden, whole_set):
    found = golden / "stego" / "transforms"
    if not whole_set and not (found / "cropped_dataset.json").exists():
        pytest.skip("the crops are not in the part of the golden numbers that travels")
    return found


@pytest.fixture(scope="module")
def boxes(folder):
    return json.loads((folder / "crop_boxes.json").read_text())


@pytest.fixture(scope="module")
def script(folder):
    return json.loads((folder / "cropped_dataset.json").read_text())


@pytest.fixture(scope="module")
def runs(script):
    """Name of each run of the script with kind and ratio, which stand in the name of its folder."""
    found = {}
    for name, run in script["runs"].items():
        if "directory" in run:
            _, _, rest = run["directory"].partition("cocostuff27_")
            kind, _, ratio = rest.partition("_crop_")
            found[name] = (kind, float(ratio))
    assert found
    return found


@pytest.fixture(scope="module")
def data_dir(folder, script, tmp_path_factory):
    """A folder of datasets that holds the script's sources in the layout of COCO-Stuff."""
    base = tmp_path_factory.mktemp("datasets")
    images, labels, lists = (base / "cocostuff" / name / "train2017" for name in ("images", "annotations", "curated"))
    for place in (images, labels, lists):
        place.mkdir(parents=True)
    for index, (source, label) in enumerate(zip(script["sources"], script["source_labels"], strict=True)):
        (images / f"{index}.jpg").write_bytes((folder / source).read_bytes())  # told by content, whatever its name
        (labels / f"{index}.png").write_bytes((folder / label).read_bytes())
    names = "".join(f"{index}\n" for index in range(len(script["sources"])))
    (lists / "Coco164kFull_Stuff_Coarse.txt").write_text(names)
    return base


@pytest.fixture(scope="module")
def made(data_dir, runs):
    """The folder of each run, made by our command."""
    found = {}
    for name, (kind, ratio) in runs.items():
        options = {"crop": kind, "crop_ratio": ratio, "splits": ("train",), "workers": 2, "data_dir": data_dir}
        result = make_crops(load_config(CropsConfig, options=options), Silence())
        assert not any(result.skipped.values())
        found[name] = result.out
    return found


def test_the_hash_of_a_tuple_is_that_of_either_python(boxes) -> None:
    assert boxes["hash_examples"]
    for example in boxes["hash_examples"]:
        assert tuple_hash(example["tuple"], "python38") == int(example["hash"])
        assert tuple_hash(example["tuple"], "python37") == int(example["hash_python37_or_older"])


def test_five_crops_lie_where_the_reference_cuts_them(boxes) -> None:
    assert boxes["cases"]
    for case in boxes["cases"]:
        found = CropRule("five", case["ratio"]).boxes(case["height"], case["width"], 0)
        assert [list(box) for box in found] == case["five"]
        assert all(list(box[2:]) == case["crop_size"] for box in found)


@pytest.mark.parametrize("key", RULES)
def test_random_crops_lie_where_the_reference_cuts_them(boxes, key) -> None:
    for case in boxes["cases"]:
        rule = CropRule("random", case["ratio"], RULES[key])
        assert case[key]
        for seed, expected in case[key].items():
            found = rule.boxes(case["height"], case["width"], int(seed))
            assert [list(box) for box in found] == expected
            assert len(found) == boxes["n_random"]


def test_the_files_have_the_names_of_the_reference(made, script) -> None:
    for name, out in made.items():
        run = script["runs"][name]
        assert out.as_posix().endswith(run["directory"])
        for kind, files in (("img", run["image_files"]), ("label", run["label_files"])):
            assert sorted(path.name for path in (out / kind / "train").iterdir()) == sorted(files)


def test_labels_equal_those_of_the_reference(made, folder) -> None:
    with np.load(folder / "cropped_dataset.npz") as expected:
        for name, out in made.items():
            labels = expected[f"labels_{name}"]
            for number, one in enumerate(labels):
                with Image.open(out / "label" / "train" / f"{number}.png") as picture:
                    assert picture.mode == "L"
                    np.testing.assert_array_equal(np.asarray(picture), one)


def test_label_files_equal_those_of_the_reference(made, folder) -> None:
    files = list(folder.glob("cropped_label_*.png"))
    assert files
    for file in files:
        number = file.stem.rsplit("_", 1)[1]
        with Image.open(file) as theirs, Image.open(made["five_0p5"] / "label" / "train" / f"{number}.png") as ours:
            assert ours.mode == theirs.mode
            np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_images_before_compression_equal_the_reference(data_dir, runs, folder) -> None:
    dataset = open_dataset(DataConfig(data_dir=data_dir), "train")
    with np.load(folder / "cropped_dataset.npz") as expected:
        for name, (kind, ratio) in runs.items():
            rule = CropRule(kind, ratio)
            images = [dataset.image(index) for index in range(len(dataset))]
            found = [crop for k, image in enumerate(images) for crop in rule.cut(image, None, k, labelled=False)]
            assert [crop.number for crop in found] == list(range(len(found)))
            np.testing.assert_array_equal(np.stack([crop.pixels for crop in found]), expected[f"images_{name}"])


def test_images_are_compressed_as_the_reference_does(made, script, folder) -> None:
    jpeg = script["runs"]["jpeg"]
    with np.load(folder / "cropped_dataset.npz") as expected:
        for name, out in made.items():
            for number, pixels in enumerate(expected[f"images_{name}"]):
                theirs = io.BytesIO()
                Image.fromarray(pixels).save(theirs, "JPEG")  # Pillow's defaults, as in the reference
                file = out / "img" / "train" / f"{number}.jpg"
                assert file.read_bytes() == theirs.getvalue()
                with Image.open(file) as picture:
                    assert (picture.format, picture.mode) == (jpeg["format"], jpeg["mode"])
                    found = picture.quantization[0][: len(jpeg["quantization_luma_first8"])]
                    assert list(found) == jpeg["quantization_luma_first8"]


def test_crops_are_read_back_as_the_reference_reads_them(made, data_dir, folder) -> None:
    dataset = open_dataset(DataConfig(data_dir=data_dir, crop="five", crop_ratio=0.5), "train")
    with np.load(folder / "cropped_dataset.npz") as arrays:
        (key,) = (key for key in arrays.files if key.startswith("read_back_labels_"))
        expected, side = arrays[key], int(key.rsplit("_", 1)[1])
        no_class = arrays[f"read_back_mask_{side}"]  # in the reference, true where there is no class
    assert len(dataset) == len(expected)
    for index in range(len(dataset)):
        height, width = dataset.size(index)
        labels = dataset.labels(index, (height, width))
        found = apply_to_labels(paper_view(height, width, side), labels)
        np.testing.assert_array_equal(found, expected[index])
        np.testing.assert_array_equal(found == -1, no_class[index])
