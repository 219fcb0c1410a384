"""What every dataset offers: images, labels as class ids, sizes; and that it can be sent to other processes."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from stego_cli.data.dataset import Dataset, Sample
from stego_cli.data.label_codes import LabelCode
from stego_cli.errors import ImageError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
IDS = np.arange(24, dtype=np.uint8).reshape(4, 6)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """One PNG with labels, one MATLAB file with labels, one image without."""
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    Image.fromarray(IDS).save(tmp_path / "a_label.png")
    savemat(tmp_path / "b.mat", {"img": PIXELS[:3]})
    savemat(tmp_path / "b_label.mat", {"gt": IDS[:3]})
    Image.fromarray(PIXELS[::-1]).save(tmp_path / "c.png")
    samples = (
        Sample("a.png", tmp_path / "a.png", tmp_path / "a_label.png"),
        Sample("b.mat", tmp_path / "b.mat", tmp_path / "b_label.mat"),
        Sample("c.png", tmp_path / "c.png"),
    )
    return Dataset("name", "slug", "train", tmp_path, samples, code=LabelCode((1, 0)))


def test_images_labels_and_sizes(dataset: Dataset) -> None:
    assert len(dataset) == 3
    assert dataset.is_labelled
    np.testing.assert_array_equal(dataset.image(0), PIXELS)
    np.testing.assert_array_equal(dataset.image(1), PIXELS[:3])
    assert [dataset.size(index) for index in range(3)] == [(4, 6), (3, 6), (4, 6)]
    np.testing.assert_array_equal(dataset.stored_labels(1), IDS[:3])
    expected = np.full((3, 6), -1)
    expected[0, :2] = 1, 0
    np.testing.assert_array_equal(dataset.labels(1, (3, 6)), expected)
    assert dataset.stored_labels(2) is None
    assert dataset.labels(2, (4, 6)) is None


def test_an_item_is_an_image_with_its_labels(dataset: Dataset) -> None:
    for index, (image, labels) in enumerate(dataset):
        np.testing.assert_array_equal(image, dataset.image(index))
        if index < 2:
            np.testing.assert_array_equal(labels, dataset.labels(index, image.shape[:2]))
        else:
            assert labels is None
    assert index == 2


def test_bands_are_chosen_by_number(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"img": PIXELS})
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    for name in ("a.mat", "a.png"):
        dataset = Dataset("n", "s", "train", tmp_path, (Sample(name, tmp_path / name),), bands=(3, 1, 1))
        np.testing.assert_array_equal(dataset.image(0), PIXELS[:, :, [2, 0, 0]])
        assert not dataset.is_labelled


@pytest.mark.parametrize("size", [(4, 7), (3, 6), (6, 4)])
def test_a_label_map_of_another_size_is_named_with_both_sizes(dataset: Dataset, size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=rf"(?s)a\.png.* is 4x6 .* {size[0]}x{size[1]}.*hint: .*without interpolation"):
        dataset.labels(0, size)


def test_missing_files_are_named_when_they_are_read(tmp_path: Path) -> None:
    gone = Dataset("n", "s", "train", tmp_path, (Sample("x.png", tmp_path / "x.png", tmp_path / "y.png"),))
    with pytest.raises(ImageError, match=r"x\.png.*no such file"):
        gone.image(0)
    with pytest.raises(ImageError, match=r"x\.png.*no such file"):
        gone.size(0)
    with pytest.raises(ImageError, match=r"y\.png.*no such file"):
        gone.stored_labels(0)


def test_it_can_be_sent_elsewhere(dataset: Dataset) -> None:
    again = pickle.loads(pickle.dumps(dataset))
    assert again == dataset
    assert again.samples == dataset.samples


def test_a_spawned_process_reads_the_same(dataset: Dataset) -> None:
    """Spawning is how macOS and Windows start processes: nothing is inherited, everything is pickled."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        images = pool.map(dataset.image, range(3))
        labels = pool.apply(dataset.labels, (1, (3, 6)))
    for index, image in enumerate(images):
        np.testing.assert_array_equal(image, dataset.image(index))
    np.testing.assert_array_equal(labels, dataset.labels(1, (3, 6)))


@pytest.mark.parametrize("workers", [0, 1])
def test_it_feeds_a_data_loader(dataset: Dataset, workers: int) -> None:
    from torch.utils.data import DataLoader

    context = "spawn" if workers else None
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, multiprocessing_context=context)
    items = list(loader)
    assert len(items) == 3
    np.testing.assert_array_equal(items[1][0].numpy(), dataset.image(1))
    np.testing.assert_array_equal(items[1][1].numpy(), dataset.labels(1, (3, 6)))
    assert items[2][1] is None
