"""Views: the sizes that networks see, and label maps that come back to the size of the image."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stego_cli.data import views
from stego_cli.data.views import (
    LONGEST,
    View,
    apply,
    apply_to_labels,
    native_view,
    normalise,
    outside_value,
    paper_view,
    restore_labels,
    squash_view,
)
from stego_cli.errors import ShapeError

sides = st.integers(1, 3000)


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def smooth_probs(classes: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Log-probabilities with regions of every class, as a network gives them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, classes, height // 8 + 2, width // 8 + 2, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return fine.log_softmax(1)[0].numpy()


def by_torch(probs: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scores at full size by PyTorch's own interpolation."""
    return torch.nn.functional.interpolate(torch.from_numpy(probs)[None], (height, width), mode="bilinear")[0].numpy()


@pytest.mark.parametrize(
    ("height", "width", "resolution", "patch_size", "size"),
    [
        (480, 360, 320, 8, (424, 320)),  # 426.7 to the nearest multiple of 8
        (360, 480, 320, 16, (320, 432)),
        (1, 1, 320, 8, (320, 320)),
        (20000, 10, 320, 8, (1280, 8)),
        (10, 20000, 320, 14, (14, 1274)),  # 1288 would be nearer to 1280, but beyond the limit
        (100, 100, 3, 16, (16, 16)),
    ],
)
def test_native_sizes_worked_by_hand(height, width, resolution, patch_size, size) -> None:
    view = native_view(height, width, resolution, patch_size)
    assert view.size == view.resized == size
    assert view.antialias


@given(sides, sides, st.integers(1, 700), st.sampled_from([4, 8, 14, 16]))
def test_native_views_are_whole_patches_and_keep_the_shape(height, width, resolution, patch_size) -> None:
    view = native_view(height, width, resolution, patch_size)
    scale = min(resolution / min(height, width), LONGEST * resolution / max(height, width))
    for side, original in zip(view.size, (height, width), strict=True):
        assert side % patch_size == 0
        assert patch_size <= side <= max(LONGEST * resolution, patch_size)
        assert abs(side - original * scale) <= patch_size


@pytest.mark.parametrize(
    ("height", "width", "resized", "top", "left"),
    [
        (360, 480, (320, 426), 0, 53),
        (480, 361, (425, 320), 52, 0),  # 52.5, halves to even
        (640, 966, (320, 483), 0, 82),  # 81.5, halves to even
        (7, 7, (320, 320), 0, 0),
    ],
)
def test_paper_sizes_worked_by_hand(height, width, resized, top, left) -> None:
    assert paper_view(height, width, 320) == View(height, width, resized, (top, left, 320, 320), antialias=False)


def test_a_resolution_that_is_none_is_refused_with_a_next_step() -> None:
    for make in (lambda: native_view(4, 4, 0, 8), lambda: paper_view(4, 4, -1), lambda: squash_view(4, 4, 0)):
        with pytest.raises(ShapeError, match=r"resolution is (0|-1).*\n\nhint: "):
            make()


def test_views_of_nothing_are_refused() -> None:
    with pytest.raises(ShapeError, match="0x5"):
        native_view(0, 5, 320, 8)


@pytest.mark.parametrize("view", [native_view(30, 50, 40, 8), paper_view(30, 50, 40), squash_view(30, 50, 40)])
def test_apply_gives_what_the_view_promises(view) -> None:
    seen = apply(view, random_image(30, 50))
    assert seen.shape == (*view.size, 3)
    assert seen.dtype == np.uint8


def test_views_refuse_an_image_of_another_size() -> None:
    view = native_view(30, 50, 40, 8)
    with pytest.raises(ShapeError, match=r"\(50, 30\).*\(30, 50\)"):
        apply(view, random_image(50, 30))
    with pytest.raises(ShapeError):
        apply_to_labels(view, np.zeros((50, 30), np.uint8))


def test_native_shrinking_averages_instead_of_skipping_pixels() -> None:
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes[:, ::2] = 255
    shrunk = apply(native_view(320, 320, 64, 8), stripes)
    assert abs(shrunk.astype(int) - 127).max() <= 10  # the nearest pixel would be 0 or 255


def test_native_leaves_an_image_of_working_size_alone() -> None:
    image = random_image(320, 424)
    np.testing.assert_array_equal(apply(native_view(320, 424, 320, 8), image), image)


@pytest.mark.parametrize("shape", [(1, 1), (20000, 10)])
def test_odd_shapes_pass_through_every_view(shape) -> None:
    image = random_image(*shape)
    for view in (native_view(*shape, 64, 8), paper_view(*shape, 64), squash_view(*shape, 64)):
        seen = apply(view, image)
        labels, counts = restore_labels(view, smooth_probs(3, *seen.shape[:2]))
        assert labels.shape == shape
        assert counts.sum() == (labels != outside_value(3)).sum() > 0


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 70))
@settings(max_examples=50, deadline=None)
def test_nearest_is_pillows_nearest(height, width, resolution) -> None:
    image = random_image(height, width)
    view = paper_view(height, width, resolution)
    top, left, rows, columns = view.crop
    resized = Image.fromarray(image).resize(view.resized[::-1], Image.Resampling.NEAREST)
    expected = np.array(resized)[top : top + rows, left : left + columns]
    np.testing.assert_array_equal(apply(view, image), expected)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.int64])
def test_labels_of_any_type_keep_their_values_and_type(kind) -> None:
    labels = np.array([[0, 120], [7, 255]]).astype(kind)
    if kind != np.uint8:
        labels[0, 0] = -1
    for view in (native_view(2, 2, 8, 8), paper_view(2, 2, 8)):
        seen = apply_to_labels(view, labels)
        assert seen.dtype == kind
        np.testing.assert_array_equal(seen, labels.repeat(4, 0).repeat(4, 1))


def test_normalise_by_hand() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 1] = (255, 51, 0)
    batch = normalise(image, (0.5, 0.1, 0.0), (0.25, 0.1, 1.0))
    assert batch.shape == (1, 3, 2, 3)
    assert batch.dtype == torch.float32
    assert batch.is_contiguous()
    torch.testing.assert_close(batch[0, :, 0, 1], torch.tensor([2.0, 1.0, 0.0]))


def test_normalise_leaves_its_input_alone_even_if_it_is_read_only() -> None:
    images = np.stack([random_image(4, 5), random_image(4, 5, seed=1)])
    before = images.copy()
    images.flags.writeable = False
    assert normalise(images, (0.5,) * 3, (0.5,) * 3).shape == (2, 3, 4, 5)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(
    ("height", "width", "resolution"), [(37, 53, 32), (480, 360, 320), (200, 90, 320), (64, 80, 64), (5, 700, 32)]
)
def test_restored_labels_are_the_best_of_interpolated_scores(height, width, resolution) -> None:
    view = native_view(height, width, resolution, 8)
    probs = smooth_probs(6, *view.size)
    labels, counts = restore_labels(view, probs)
    scores = by_torch(probs, height, width)
    chosen = np.take_along_axis(scores, labels[None].astype(int), axis=0)[0]
    np.testing.assert_allclose(chosen, scores.max(0), rtol=0, atol=1e-5)  # ties may fall either way
    assert (labels == scores.argmax(0)).mean() > 0.999
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(counts, np.bincount(labels.ravel(), minlength=6))


def test_restored_labels_of_noise_where_every_neighbour_disagrees() -> None:
    view = native_view(90, 70, 32, 8)
    probs = np.random.default_rng(0).random((5, *view.size), np.float32)
    labels, _ = restore_labels(view, probs)
    assert (labels == by_torch(probs, 90, 70).argmax(0)).mean() > 0.999


def test_a_class_that_wins_between_two_others_is_not_missed() -> None:
    # Halfway between the two pixels the scores are (0.5, 0.5, 0.8): the third class leads nowhere but there.
    probs = np.array([[[1.0, 0.0]], [[0.0, 1.0]], [[0.8, 0.8]]], np.float32)
    view = View(1, 9, (1, 2), (0, 0, 1, 2), antialias=True)
    assert restore_labels(view, probs)[0].tolist() == [[0, 0, 0, 2, 2, 2, 1, 1, 1]]


def test_working_size_needs_no_interpolation() -> None:
    view = native_view(64, 80, 64, 8)
    probs = smooth_probs(4, 64, 80)
    np.testing.assert_array_equal(restore_labels(view, probs)[0], probs.argmax(0))


@pytest.mark.parametrize("make", [lambda: native_view(203, 151, 64, 8), lambda: paper_view(203, 151, 64)])
def test_bands_do_not_show(make, monkeypatch) -> None:
    view = make()
    probs = smooth_probs(7, *view.size)
    whole = restore_labels(view, probs)
    for band_bytes in (1, 100_000):
        monkeypatch.setattr(views, "_BAND_BYTES", band_bytes)
        banded = restore_labels(view, probs)
        np.testing.assert_array_equal(banded[0], whole[0])
        np.testing.assert_array_equal(banded[1], whole[1])


def test_memory_does_not_grow_with_the_image(monkeypatch) -> None:
    monkeypatch.setattr(views, "_BAND_BYTES", 2**20)
    view = native_view(1500, 2000, 32, 8)
    probs = np.random.default_rng(0).random((20, *view.size), np.float32)  # 240 MB of scores at full size
    tracemalloc.start()
    labels, _ = restore_labels(view, probs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - labels.nbytes < 6 * 2**20


def test_pixels_outside_a_crop_are_marked() -> None:
    view = paper_view(4, 12, 8)  # resized to 8x24, columns 8 to 15 seen: input columns 4 to 7
    probs = np.zeros((2, 8, 8), np.float32)
    probs[0, :, :4] = probs[1, :, 4:] = 1
    labels, counts = restore_labels(view, probs)
    assert labels.tolist() == [[255] * 4 + [0, 0, 1, 1] + [255] * 4] * 4
    assert counts.tolist() == [8, 8]


def test_a_crop_comes_back_to_where_it_was_taken() -> None:
    image = np.zeros((60, 100, 3), np.uint8)
    image[:, 45:] = 255
    view = paper_view(60, 100, 40)
    bright = (apply(view, image)[:, :, 0] > 0).astype(np.float32)
    labels, _ = restore_labels(view, np.stack([1 - bright, bright]))
    seen = labels != 255
    assert seen.sum() == 60 * 60
    np.testing.assert_array_equal(labels[seen], (image[:, :, 0] > 0)[seen])


def test_many_classes_need_wider_labels() -> None:
    view = paper_view(2, 4, 2)
    probs = np.zeros((300, 2, 2), np.float32)
    probs[299] = 1
    labels, counts = restore_labels(view, probs)
    assert labels.dtype == np.int32
    assert labels.tolist() == [[-1, 299, 299, -1]] * 2
    assert counts[299] == 4


def test_255_classes_leave_room_for_the_mark() -> None:
    assert outside_value(255) == 255
    assert outside_value(256) == -1


def test_probabilities_of_another_size_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(5, 5\)"):
        restore_labels(native_view(30, 50, 40, 8), np.zeros((2, 5, 5), np.float32))


def test_planning_needs_no_torch() -> None:
    code = (
        "import sys; from stego_cli.data import images, inputs, views; "
        "views.apply(views.native_view(9, 9, 8, 8), __import__('numpy').zeros((9, 9, 3), 'uint8')); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
