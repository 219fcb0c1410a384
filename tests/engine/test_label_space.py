"""Which classes a model is made for: what was asked for, else the dataset's, else a number of unnamed ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stego_cli.config.data import DataConfig
from stego_cli.data.dataset import Dataset
from stego_cli.data.datasets.build import open_dataset
from stego_cli.engine.label_space import choose_label_space
from stego_cli.errors import ConfigError
from stego_cli.progress import Silence


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "one.png")
    return open_dataset(DataConfig(dataset=str(tmp_path)), "train")


def test_images_alone_form_unnamed_clusters(dataset: Dataset) -> None:
    assert choose_label_space(dataset, None, 3, Silence()).names == ("cluster 0", "cluster 1", "cluster 2")


def test_somebody_has_to_say_how_many(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match="--classes N, or --label-space with one of .*camvid"):
        choose_label_space(dataset, None, None, Silence())
