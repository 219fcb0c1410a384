"""`stego fit` from a folder to a model file that predicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import stego_cli
from stego_cli.backbones.vit import DinoVit
from stego_cli.checkpoints.native import load_checkpoint
from stego_cli.config.fit import FitConfig
from stego_cli.config.load import load_config
from stego_cli.config.model import VitArchitecture, VitConfig
from stego_cli.data.dataset import Dataset
from stego_cli.data.datasets.build import open_dataset
from stego_cli.data.labels import load_label_space
from stego_cli.engine import fit_model as fit_model_module
from stego_cli.engine.fit_model import FittedModel, fit_model
from stego_cli.engine.pretrain.state import save_backbone
from stego_cli.errors import ConfigError, OutputError, StegoError
from stego_cli.progress import Silence
from stego_cli.segmenter import Segmenter
from support import Heard

COLOURS = np.array([[70, 130, 240], [40, 160, 50], [150, 60, 30]])
MEASURED = {
    f"val {kind} {measure}" for kind in ("cluster", "cluster_named", "linear") for measure in ("miou", "accuracy")
}


def scene(path: Path, seed: int, label: Path | None = None, values: tuple[int, int, int] = (0, 1, 2)) -> np.ndarray:
    """Write a picture of three bands of colour with moving borders and, if asked, its label map; return the bands."""
    rng = np.random.default_rng(seed)
    borders = np.sort(rng.choice(np.arange(16, 80, 8), 2, replace=False))
    bands = np.repeat(np.searchsorted(borders, np.arange(96), side="right")[:, None], 64, axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((COLOURS[bands] + rng.integers(-12, 13, (96, 64, 3))).clip(0, 255).astype(np.uint8)).save(path)
    if label is not None:
        label.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array(values, np.uint8)[bands]).save(label)
    return bands


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A labelled folder with six images to fit to and two to measure on."""
    root = tmp_path / "bands"
    for split, seeds in (("train", range(6)), ("val", range(10, 12))):
        for seed in seeds:
            scene(root / "imgs" / split / f"{seed}.png", seed, root / "labels" / split / f"{seed}.png")
    return root


Run = Callable[..., FittedModel]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(dataset: Path | str, report: Silence | None = None, **options: Any) -> FittedModel:
        given = {
            "dataset": str(dataset),
            "classes": 3,
            "resolution": 64,
            "restarts": 2,
            "out": tmp_path / "m.safetensors",
        }
        given |= options
        read = {key: value for key, value in given.items() if value is not None}
        return fit_model(load_config(FitConfig, options=read), report or Silence())

    return call


def agreement(model: Segmenter, image: Path, bands: np.ndarray, probe: Any = "cluster") -> float:
    """Return the share of pixels where the class is the band."""
    return float((model.predict(image, probe=probe).label_map == bands).mean())


def test_labels_name_and_measure_what_the_clusters_found(dataset: Path, run: Run, tmp_path: Path) -> None:
    fitted = run(dataset)
    assert fitted.scores.keys() == MEASURED
    assert all(value > 0.8 for value in fitted.scores.values()), fitted.scores
    loaded = load_checkpoint(fitted.checkpoint_path)
    assert loaded.config == fitted.checkpoint.config
    assert loaded.config.about.scores == fitted.scores
    assert sorted(loaded.config.cluster_to_class or ()) == [0, 1, 2]
    assert loaded.config.has_linear_probe
    assert loaded.config.label_space.names == ("class 0", "class 1", "class 2")

    bands, model = scene(tmp_path / "new.png", seed=99), stego_cli.load(fitted.checkpoint_path)
    assert agreement(model, tmp_path / "new.png", bands) > 0.85
    assert agreement(model, tmp_path / "new.png", bands, probe="linear") > 0.85


def test_the_scores_are_those_of_the_written_masks(dataset: Path, run: Run, tmp_path: Path) -> None:
    fitted = run(dataset)
    for probe, name in (("cluster", "cluster_named"), ("linear", "linear")):
        options = {"model": str(fitted.checkpoint_path), "out": tmp_path / probe, "probe": probe, "save": "labels"}
        stego_cli.predict([dataset / "imgs" / "val"], **options)
        right = [
            np.asarray(Image.open(path)) == np.asarray(Image.open(dataset / "labels" / "val" / path.name))
            for path in (tmp_path / probe / "labels").glob("*.png")
        ]
        assert len(right) == 2
        assert np.concatenate(right).mean() == pytest.approx(fitted.scores[f"val {name} accuracy"], abs=1e-4)


def test_a_plain_folder_without_labels_gives_clusters(run: Run, tmp_path: Path) -> None:
    for seed in range(4):
        scene(tmp_path / "photos" / f"{seed}.png", seed)
    heard = Heard()
    fitted = run(tmp_path / "photos", heard)
    config = load_checkpoint(fitted.checkpoint_path).config
    assert fitted.scores == {}
    assert config.cluster_to_class is None
    assert not config.has_linear_probe
    assert any("4 images" in note and "no labels" in note for note in heard.notes)

    model, options = str(fitted.checkpoint_path), {"out": tmp_path / "out", "save": "labels"}
    content = stego_cli.predict([tmp_path / "photos"], model=model, **options).content
    names = ["cluster 0", "cluster 1", "cluster 2"]
    assert content["label_spaces"]["cluster"]["names"] == names
    assert sorted(content["summary"]["shares"]["cluster"]) == names
    with pytest.raises(StegoError, match="no linear probe"):
        stego_cli.predict([tmp_path / "photos"], model=model, out=tmp_path / "linear", probe="linear")


def test_labels_change_names_and_nothing_else(dataset: Path, run: Run, tmp_path: Path) -> None:
    with_labels = run(dataset).checkpoint.tensors
    (dataset / "labels").rename(tmp_path / "away")
    without = run(dataset, overwrite=True).checkpoint.tensors
    assert with_labels.keys() - without.keys() == {"linear_probe.weight", "linear_probe.bias"}
    assert all(torch.equal(with_labels[key], tensor) for key, tensor in without.items())


def test_folders_in_folders_keep_their_labels(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "trips"
    for seed in range(4):  # the same file names in both places, with the labels exchanged: a wrong pair shows
        values = (0, 1, 2) if seed < 2 else (2, 1, 0)
        place = Path("north" if seed < 2 else "south/day 1", f"{seed % 2}.png")
        scene(root / "imgs" / place, seed, root / "labels" / place, values)
    assert run(root).checkpoint.config.has_linear_probe
    for path in (root / "labels" / "south").rglob("*.png"):
        path.unlink()
    heard = Heard()
    fitted = run(root, heard, overwrite=True)
    assert heard.warnings == []
    bands = scene(tmp_path / "new.png", seed=7)
    assert agreement(stego_cli.load(fitted.checkpoint_path), tmp_path / "new.png", bands) > 0.85


@pytest.mark.parametrize(("split", "words"), [("train", "counts as unlabelled"), ("val", "was not measured")])
def test_a_label_map_of_another_size_is_named_and_left_out(dataset: Path, run: Run, split: str, words: str) -> None:
    label = min((dataset / "labels" / split).glob("*.png"))
    Image.new("L", (10, 12)).save(label)
    heard = Heard()
    fitted = run(dataset, heard)
    (warning,) = heard.warnings
    assert all(word in warning for word in (label.name, words, "12x10", "96x64"))
    assert fitted.scores.keys() == MEASURED


def test_a_damaged_image_is_named_and_left_out(dataset: Path, run: Run) -> None:
    (dataset / "imgs" / "train" / "3.png").write_bytes(b"")
    heard = Heard()
    assert run(dataset, heard).scores["val linear miou"] > 0.8
    (warning,) = heard.warnings
    assert "3.png" in warning


def test_without_a_usable_image_nothing_is_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("no image")
    with pytest.raises(StegoError, match="no image could be used"):
        run(tmp_path / "photos")
    assert not (tmp_path / "m.safetensors").exists()


def test_a_model_is_only_replaced_when_asked(dataset: Path, run: Run, tmp_path: Path) -> None:
    target = tmp_path / "m.safetensors"
    target.write_text("precious")
    with pytest.raises(OutputError, match="--overwrite"):
        run(dataset)
    assert target.read_text() == "precious"
    run(dataset, overwrite=True)
    assert load_checkpoint(target).config.num_clusters == 3


@pytest.mark.parametrize("name", ["m.txt", "m", "m.ckpt"])
def test_a_file_that_nothing_would_take_for_a_model_is_refused(
    dataset: Path, run: Run, tmp_path: Path, name: str
) -> None:
    with pytest.raises(OutputError, match=r"does not end with .safetensors\n\nhint: use --out .*m\.safetensors"):
        run(dataset, out=tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_folder_is_no_model_file(dataset: Path, run: Run, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        run(dataset, out=tmp_path, overwrite=True)


def test_a_target_that_cannot_be_written_is_said(dataset: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        run(dataset, out=tmp_path / "file" / "m.safetensors")


def test_someone_must_say_how_many_classes(dataset: Path, run: Run) -> None:
    with pytest.raises(ConfigError, match=r"--classes N, or --label-space"):
        run(dataset, classes=None)


def test_the_name_of_the_folder_gives_the_label_space_if_there_are_labels(run: Run, tmp_path: Path) -> None:
    root, heard = tmp_path / "potsdam", Heard()
    for seed in range(4):
        scene(root / "imgs" / f"{seed}.png", seed, root / "labels" / f"{seed}.png")
    config = run(root, heard, classes=None).checkpoint.config
    assert config.label_space == load_label_space("potsdam")
    assert config.num_clusters == len(load_label_space("potsdam"))
    assert any("potsdam" in note and "--label-space" in note for note in heard.notes)
    assert run(root, classes=None, label_space="camvid", overwrite=True).checkpoint.config.label_space.name == "camvid"
    for path in (root / "labels").iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match="--classes"):
        run(root, classes=None, overwrite=True)


def test_more_clusters_than_classes(dataset: Path, run: Run, tmp_path: Path) -> None:
    config = run(dataset, classes=13, label_space="camvid").checkpoint.config
    assert config.num_clusters == 13
    assert len(config.label_space) == len(load_label_space("camvid"))
    matched = [class_id for class_id in config.cluster_to_class or () if class_id >= 0]
    assert len(matched) == len(set(matched)) == len(load_label_space("camvid"))


def test_the_same_seed_gives_the_same_model(dataset: Path, run: Run, tmp_path: Path) -> None:
    one, two, other = (
        run(dataset, out=tmp_path / f"{seed}.safetensors", overwrite=True, seed=seed) for seed in (4, 4, 5)
    )
    assert one.checkpoint.config == two.checkpoint.config
    assert one.checkpoint.tensors.keys() == two.checkpoint.tensors.keys()
    assert all(torch.equal(tensor, two.checkpoint.tensors[key]) for key, tensor in one.checkpoint.tensors.items())
    centroids = "cluster_probe.centroids"
    assert not torch.equal(one.checkpoint.tensors[centroids], other.checkpoint.tensors[centroids])


def test_without_out_the_model_goes_below_runs_where_predict_finds_it(
    dataset: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fitted = run(dataset, out=None)
    assert fitted.checkpoint_path == Path("runs", "fit-bands-filterbank", "model.safetensors")
    heard = Heard()
    stego_cli.predict([dataset / "imgs" / "val"], heard, out=tmp_path / "out", save="labels")
    assert any(str(fitted.checkpoint_path) in note for note in heard.notes)


def test_the_file_says_what_it_is_and_keeps_what_it_was_told(dataset: Path, run: Run) -> None:
    fitted = run(dataset, about={"title": "My bands", "licence": "CC0"}, seed=3)
    about = load_checkpoint(fitted.checkpoint_path).config.about
    assert (about.title, about.licence, about.trained_on, about.seed) == ("My bands", "CC0", "bands", 3)
    assert about.source == "stego fit"
    answer = fitted.to_json()
    assert answer["checkpoint"] == str(fitted.checkpoint_path)
    assert answer["scores"] == fitted.scores
    assert answer["config"]["about"]["title"] == "My bands"
    assert 0.5 < answer["mean_similarity"] <= 1


def test_a_known_dataset_is_taken_by_its_name(run: Run, testdata: Path) -> None:
    heard = Heard()
    fitted = run("cocostuff27", heard, data_dir=testdata, classes=None, restarts=1)
    config = fitted.checkpoint.config
    assert config.label_space == load_label_space("cocostuff27")
    assert config.num_clusters == 27
    assert config.about.trained_on == "cocostuff27"
    assert fitted.scores.keys() == MEASURED
    assert any("label space: cocostuff27" in note for note in heard.notes)
    assert heard.warnings == []


def test_what_a_user_should_know_of_a_dataset_is_said_once(
    dataset: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noted(config: Any, split: str) -> Dataset:
        return replace(open_dataset(config, split), notes=("half of it is missing", split))

    monkeypatch.setattr(fit_model_module, "open_dataset", noted)
    heard = Heard()
    run(dataset, heard)
    assert heard.notes[:3] == ["half of it is missing", "train", "val"]


def test_a_wrong_path_is_explained(run: Run, tmp_path: Path) -> None:
    with pytest.raises(StegoError, match=r"no folder .*nowhere"):
        run(tmp_path / "nowhere")


def test_a_vision_transformer_fitted_to_labels_is_measured_and_predicts(dataset: Path, run: Run) -> None:
    sizes = VitArchitecture(patch_size=8, width=24, depth=1, heads=2, image_size=32)
    torch.manual_seed(0)
    weights = dataset.parent / "vit.safetensors"
    save_backbone(DinoVit(sizes).state_dict(), VitConfig(name="vit", architecture=sizes), weights)
    fitted = run(dataset, backbone=str(weights))
    assert fitted.scores.keys() == MEASURED
    model = stego_cli.load(fitted.checkpoint_path)
    assert model.predict(dataset / "imgs" / "val" / "10.png").label_map.shape == (96, 64)
