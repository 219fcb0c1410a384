"""What a step looks at: labels that do not count are spoken of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stego_cli.config.data import DataConfig
from stego_cli.data.datasets.build import open_dataset
from stego_cli.engine.train.data import LabelMaps, Square
from support import Heard


def label_maps(root: Path, values: list[int], classes: int, report: Heard) -> LabelMaps:
    """Return the label maps of a dataset with one image, whose labels are columns of these values."""
    for part in ("imgs", "labels"):
        (root / part / "train").mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(root / "imgs" / "train" / "a.png")
    columns = np.array(values, np.uint8)[np.arange(16) * len(values) // 16]
    Image.fromarray(np.broadcast_to(columns, (16, 16)).copy()).save(root / "labels" / "train" / "a.png")
    dataset = open_dataset(DataConfig(dataset=str(root)), "train")
    return LabelMaps(dataset, Square(16, "center", antialias=False), classes, report)


def test_labels_beyond_the_classes_do_not_count_and_are_spoken_of_once(tmp_path: Path) -> None:
    heard = Heard()
    maps = label_maps(tmp_path, [0, 2, 7, 255], 3, heard)
    for _ in range(2):
        assert set(np.unique(maps.read(np.array([0])))) == {0, 2, 255}
    assert len(heard.notes) == 1
    assert "a.png has label 7" in heard.notes[0]
    assert "labels from 3 on do not count" in heard.notes[0]


@pytest.mark.parametrize("values", [[0, 1, 2, 255], [255]])
def test_nothing_is_said_where_all_labels_are_classes_or_255(tmp_path: Path, values: list[int]) -> None:
    heard = Heard()
    label_maps(tmp_path, values, 3, heard).read(np.array([0]))
    assert heard.notes == []
