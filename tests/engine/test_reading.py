"""Reading a dataset in batches of equal working size."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stego_cli.data.dataset import Dataset, Sample
from stego_cli.data.views import native_view
from stego_cli.engine import reading
from stego_cli.engine.reading import WorkingImage, working_batches
from stego_cli.errors import ImageError
from stego_cli.progress import Silence
from support import Heard

WIDE, TALL = (16, 32), (32, 16)
view = partial(native_view, resolution=16, patch_size=8)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Seven images whose brightness, and whose label, is their number."""
    samples = []
    for index, (height, width) in enumerate([WIDE, TALL, WIDE, WIDE, TALL, WIDE, WIDE]):
        image, label = tmp_path / f"{index}.png", tmp_path / f"{index}_label.png"
        Image.fromarray(np.full((height, width, 3), index, np.uint8)).save(image)
        Image.fromarray(np.full((height, width), index, np.uint8)).save(label)
        samples.append(Sample(image.name, image, label))
    return Dataset("numbers", "numbers", "train", tmp_path, tuple(samples))


def read(
    dataset: Dataset, batch_size: int, workers: int = 0, report: Silence | None = None
) -> list[list[WorkingImage]]:
    return list(working_batches(dataset, view, batch_size, workers, report or Silence(), "Reading"))


def numbers(batches: list[list[WorkingImage]]) -> list[list[int]]:
    return [[image.index for image in batch] for batch in batches]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_are_of_one_size_and_come_as_soon_as_they_are_full(dataset: Dataset, workers: int) -> None:
    batches = read(dataset, 2, workers)
    assert numbers(batches) == [[0, 2], [1, 4], [3, 5], [6]]
    for image in (image for batch in batches for image in batch):
        assert image.name == f"{image.index}.png"
        assert image.pixels.shape == (*image.view.size, 3)
        assert (image.pixels == image.index).all()
        assert isinstance(image.labels, np.ndarray)
        assert image.labels.shape == (image.view.input_height, image.view.input_width)
        assert (image.labels == image.index).all()


def test_when_too_much_waits_the_fullest_batch_goes_first(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "WAITING_PIXELS", 3 * 16 * 32)
    assert numbers(read(dataset, 100)) == [[0, 2, 3], [1, 4], [5, 6]]


def test_what_cannot_be_read_is_named_and_left_out(dataset: Dataset) -> None:
    dataset.samples[2].image.write_bytes(b"")
    report = Heard()
    assert numbers(read(dataset, 8, 2, report)) == [[0, 3, 5, 6], [1, 4]]
    (warning,) = report.warnings
    assert warning.startswith("2.png was skipped: ")


def test_an_image_without_a_usable_label_is_kept(dataset: Dataset) -> None:
    assert dataset.samples[1].label is not None
    dataset.samples[1].label.write_bytes(b"no label")
    by_index = {image.index: image for batch in read(dataset, 8) for image in batch}
    assert len(by_index) == 7
    assert isinstance(by_index[1].labels, ImageError)


def test_memory_that_runs_out_while_reading_costs_one_image(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Dataset.image

    def image(self: Dataset, index: int) -> np.ndarray:
        if index == 3:
            raise MemoryError
        return original(self, index)

    monkeypatch.setattr(Dataset, "image", image)
    report = Heard()
    assert numbers(read(dataset, 8, 0, report)) == [[0, 2, 5, 6], [1, 4]]
    assert "3.png was skipped: there is not enough memory" in report.warnings[0]
