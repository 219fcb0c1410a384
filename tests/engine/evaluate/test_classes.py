"""Which classes a dataset has, and whether a model's linear probe knows the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stego_cli.config.evaluate import EvalConfig
from stego_cli.config.model import About, DinoConfig, FilterbankConfig, LabelSpace, ModelConfig
from stego_cli.data.dataset import Dataset, Sample
from stego_cli.engine.evaluate.classes import LabelsFound, classes_of
from stego_cli.errors import StegoError
from stego_cli.progress import Silence

TREES = LabelSpace(name="trees", names=("oak", "ash"), colours=((1, 2, 3), (4, 5, 6)))


def model(**changes: Any) -> ModelConfig:
    given = {"num_clusters": 2, "label_space": TREES, "cluster_to_class": (0, 1)} | changes
    return ModelConfig(backbone=FilterbankConfig(), method=DinoConfig(), **given)


def dataset(folder: Path, *values: int, space: LabelSpace | None = None) -> Dataset:
    """One image for each value, whose label map holds it and 0."""
    samples = []
    for index, value in enumerate(values):
        path = folder / f"{index}.png"
        Image.fromarray(np.array([[0 if value != 255 else 255, value]], np.uint16 if value > 255 else np.uint8)).save(
            path
        )
        samples.append(Sample(path.name, path, path))
    return Dataset("wood", "wood", "val", folder, tuple(samples), label_space=space)


def find(data: Dataset, of: ModelConfig | None = None, **settings: Any) -> Any:
    return classes_of(data, of or model(), EvalConfig(**settings), LabelsFound(0, Silence()))


def test_what_is_known_of_the_dataset_comes_first(tmp_path: Path) -> None:
    space = LabelSpace(name="birds", names=("wren", "crow", "kite"), colours=((0, 0, 0),) * 3)
    found = find(dataset(tmp_path, 9, space=space), classes=5)
    assert found.space == space
    assert not found.are_the_models
    assert "--classes 5 is for others" in found.notes[0]
    assert "knows 2 classes (`trees`), and wood has 3 others (`birds`)" in found.notes[1]


def test_the_same_names_are_the_same_classes(tmp_path: Path) -> None:
    assert find(dataset(tmp_path, 0, space=TREES.model_copy(update={"name": "timber"}))).are_the_models


@pytest.mark.parametrize("said", ["wood", "wood, train: 12 images"])  # by `stego fit`, and by `stego train`
def test_a_model_knows_the_classes_of_what_it_was_made_from(tmp_path: Path, said: str) -> None:
    at_home = model(about=About(trained_on=said))
    assert find(dataset(tmp_path, 7), at_home).space == TREES
    abroad = model(about=About(trained_on=said.replace("wood", "woods")))
    assert len(find(dataset(tmp_path, 7), abroad).space) == 8


def test_a_model_without_labels_does_not_know_classes(tmp_path: Path) -> None:
    clusters_only = model(about=About(trained_on="wood"), has_linear_probe=False, cluster_to_class=None)
    found = find(dataset(tmp_path, 3), clusters_only)
    assert found.space.names == ("class 0", "class 1", "class 2", "class 3")


@pytest.mark.parametrize(("classes", "are_the_models"), [(2, True), (4, False)])
def test_the_user_may_say_how_many_there_are(tmp_path: Path, classes: int, are_the_models: bool) -> None:
    found = find(dataset(tmp_path, 7), classes=classes)
    assert (len(found.space), found.are_the_models) == (classes, are_the_models)


def test_else_the_label_maps_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset(tmp_path, 255, 4, 2)
    found = LabelsFound(0, Silence())
    assert len(classes_of(data, model(), EvalConfig(), found).space) == 5
    monkeypatch.setattr(Dataset, "stored_labels", None)
    assert found.count(data) == 5


def test_a_label_map_that_cannot_be_read_does_not_stop_the_count(tmp_path: Path) -> None:
    data = dataset(tmp_path, 3, 9)
    (tmp_path / "1.png").write_bytes(b"")
    assert len(find(data).space) == 4


@pytest.mark.parametrize(("value", "words"), [(255, "hold no class"), (24001, "values up to 24001")])
def test_label_maps_that_cannot_be_class_ids_are_refused(tmp_path: Path, value: int, words: str) -> None:
    with pytest.raises(StegoError, match=words):
        find(dataset(tmp_path, value))


def test_the_linear_probe_alone_needs_its_own_classes(tmp_path: Path) -> None:
    with pytest.raises(StegoError, match="knows 2 classes .* has 8 others"):
        find(dataset(tmp_path, 7), probe="linear")
    with pytest.raises(StegoError, match="has no linear probe"):
        find(dataset(tmp_path, 7), model(has_linear_probe=False), probe="linear")
    assert find(dataset(tmp_path, 7), probe="linear", classes=2).are_the_models
    assert not any("linear" in note for note in find(dataset(tmp_path, 7), probe="cluster").notes)
