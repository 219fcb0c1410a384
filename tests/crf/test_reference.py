from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest

from stego_cli.config.crf import CrfParameters
from stego_cli.crf.build import build_crf
from stego_cli.crf.reference import ReferenceCrf
from stego_cli.errors import MissingDependencyError, ShapeError, StegoError

CRF = ReferenceCrf(CrfParameters())


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return two flat colours with a little noise: left half dark, right half bright."""
    noise = np.random.default_rng(seed).integers(0, 3, (height, width, 3))
    bright = (np.arange(width) >= width / 2)[None, :, None] * 150
    return (noise + bright + 40).astype(np.uint8)


def logits(classes: int, height: int, width: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(classes, height, width)).astype(np.float32)


def assert_probabilities(found: np.ndarray, classes: int, height: int, width: int) -> None:
    assert found.shape == (classes, height, width)
    assert found.dtype == np.float32
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


def test_noise_within_a_flat_area_is_smoothed_away_and_the_edge_kept() -> None:
    height, width = 30, 40
    truth = np.broadcast_to(np.arange(width) >= width / 2, (height, width))
    votes = np.where(truth, 1.0, -1.0) + np.random.default_rng(0).normal(scale=1.0, size=truth.shape)
    before = np.stack([-votes, votes]).astype(np.float32)
    assert (before.argmax(0) == truth).mean() < 0.9
    (after,) = CRF.refine(photograph(height, width), [before])
    assert (after.argmax(0) == truth).all()


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 7), (7, 1), (2, 2), (11, 13), (10, 3000), (3, 20_000)], ids=str
)
def test_images_of_any_shape(height: int, width: int) -> None:
    (found,) = CRF.refine(photograph(height, width), [logits(5, height, width)])
    assert_probabilities(found, 5, height, width)


def test_an_image_of_one_colour_has_no_edges_and_still_works() -> None:
    (found,) = CRF.refine(np.full((24, 31, 3), 9, np.uint8), [logits(4, 24, 31)])
    assert_probabilities(found, 4, 24, 31)


def test_one_class_takes_every_pixel() -> None:
    (found,) = CRF.refine(photograph(6, 8), [logits(1, 3, 4)])
    np.testing.assert_array_equal(found, np.ones((1, 6, 8), np.float32))


def test_more_classes_than_a_byte_can_count() -> None:
    (found,) = CRF.refine(photograph(12, 10), [logits(300, 12, 10)])
    assert_probabilities(found, 300, 12, 10)


def test_logits_of_any_resolution_are_brought_to_the_image() -> None:
    (found,) = CRF.refine(photograph(17, 23), [logits(3, 2, 3)])
    assert_probabilities(found, 3, 17, 23)


def test_two_stacks_at_once_are_the_same_as_one_at_a_time() -> None:
    image = photograph(20, 26)
    stacks = [logits(4, 20, 26, 1), logits(6, 10, 13, 2), logits(4, 5, 5, 3)]
    together = CRF.refine(image, stacks)
    for stack, found in zip(stacks, together, strict=True):
        np.testing.assert_array_equal(found, CRF.refine(image, [stack])[0])


def test_the_memory_layout_of_the_inputs_does_not_matter() -> None:
    image, stack = photograph(20, 26), logits(4, 20, 26)
    (plain,) = CRF.refine(image, [stack])
    strided = np.repeat(image, 2, axis=1)[:, ::2]
    fortran = np.asfortranarray(stack.astype(np.float64))
    backwards = np.ascontiguousarray(stack[::-1])[::-1]
    image.setflags(write=False)
    for odd_image, odd_stack in [(strided, stack), (image, fortran), (image, backwards)]:
        np.testing.assert_array_equal(CRF.refine(odd_image, [odd_stack])[0], plain)


def test_the_result_outlives_the_computation() -> None:
    """The C++ code owns the memory it computes in; what is returned must be a copy."""
    first = CRF.refine(photograph(20, 26), [logits(4, 20, 26), logits(4, 20, 26, 5)])
    kept = [found.copy() for found in first]
    CRF.refine(photograph(20, 26, 3), [logits(4, 20, 26, 9)])
    for found, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(found, copy)


def test_bad_numbers_and_layouts_are_refused() -> None:
    broken = logits(3, 4, 4)
    broken[0, 0, 0] = np.nan
    with pytest.raises(StegoError, match="NaN"):
        CRF.refine(photograph(4, 4), [broken])
    with pytest.raises(ShapeError):
        CRF.refine(photograph(4, 4).astype(np.float32), [logits(3, 4, 4)])  # type: ignore[arg-type]


def test_every_parameter_reaches_the_kernels() -> None:
    image, stack = photograph(20, 26), logits(3, 20, 26)
    (plain,) = CRF.refine(image, [stack])
    for name in CrfParameters.model_fields.keys() - {"implementation"}:
        changed = CrfParameters(**{name: 2})
        (found,) = ReferenceCrf(changed).refine(image, [stack])
        assert np.abs(found - plain).max() > 1e-6, name


def test_the_defaults_are_those_of_the_published_evaluation() -> None:
    assert tuple(CrfParameters().model_dump().values()) == (10, 3.0, 1.0, 4.0, 67.0, 3.0, "auto")


@pytest.mark.parametrize("name", ["gaussian_xy", "bilateral_xy", "bilateral_rgb"])
def test_a_reach_too_small_to_count_is_refused_and_not_a_crash(name: str) -> None:
    """The C++ code aborts the process, all finished work of a run with it."""
    crf = ReferenceCrf(CrfParameters(**{name: 1e-6}))
    with pytest.raises(StegoError, match=r"20x26 .* more cells") as caught:
        crf.refine(photograph(20, 26), [logits(3, 20, 26)])
    assert "hint:" in str(caught.value)


@pytest.mark.parametrize("name", ["gaussian_xy", "bilateral_xy", "bilateral_rgb"])
@pytest.mark.parametrize("reach", [0.1, 1e6])
def test_unusual_reaches_work(name: str, reach: float) -> None:
    crf = ReferenceCrf(CrfParameters(**{name: reach}))
    (found,) = crf.refine(photograph(20, 26), [logits(3, 20, 26)])
    assert_probabilities(found, 3, 20, 26)


def test_it_can_be_sent_to_another_process() -> None:
    image, stack = photograph(8, 9), logits(3, 8, 9)
    sent = pickle.loads(pickle.dumps(CRF))
    np.testing.assert_array_equal(sent.refine(image, [stack])[0], CRF.refine(image, [stack])[0])


def test_a_missing_package_is_said_at_once_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'stego-cli\[crf-reference\]'"):
        build_crf(CrfParameters(implementation="reference"))
