from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stego_cli.crf.base import LEAST_PROBABILITY, check_image, resize_bilinear, seen_by_crf, unary_energy
from stego_cli.errors import ShapeError, StegoError

SIDE = st.integers(1, 40)


@settings(max_examples=60, deadline=None)
@given(old=st.tuples(SIDE, SIDE), new=st.tuples(SIDE, SIDE), seed=st.integers(0, 99))
def test_resize_agrees_with_torch(old: tuple[int, int], new: tuple[int, int], seed: int) -> None:
    maps = np.random.default_rng(seed).normal(size=(2, *old)).astype(np.float32)
    theirs = torch.nn.functional.interpolate(torch.from_numpy(maps)[None], new, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(resize_bilinear(maps, *new), theirs[0].numpy(), atol=1e-5)


def test_resize_never_returns_a_view() -> None:
    maps = np.zeros((1, 2, 2), dtype=np.float32)
    resize_bilinear(maps, 2, 2)[:] = 7
    assert not maps.any()


def test_energy_of_two_classes_worked_by_hand() -> None:
    logits = np.log(np.array([3.0, 1.0]))[:, None, None]  # probabilities 3/4 and 1/4
    np.testing.assert_allclose(unary_energy(logits, 1, 1).ravel(), [-np.log(0.75), -np.log(0.25)], rtol=1e-6)


def test_energy_does_not_change_when_a_constant_is_added_to_the_logits() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)
    np.testing.assert_allclose(unary_energy(logits, 6, 7), unary_energy(logits + 50, 6, 7), atol=1e-4)


def test_energy_stays_finite_for_certain_pixels() -> None:
    energy = unary_energy(np.array([1e6, -1e6])[:, None, None], 2, 2)
    assert energy.max() == pytest.approx(-np.log(LEAST_PROBABILITY), rel=1e-5)
    assert energy.min() == pytest.approx(0.0)


def test_energy_leaves_its_input_alone() -> None:
    logits = np.array([1.0, 2.0], dtype=np.float32)[:, None, None]
    unary_energy(logits, 1, 1)
    assert logits.ravel().tolist() == [1.0, 2.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_number_is_refused_in_words(bad: float) -> None:
    logits = np.zeros((2, 3, 3), dtype=np.float32)
    logits[1, 2, 0] = bad
    with pytest.raises(StegoError, match="NaN or infinity") as caught:
        unary_energy(logits, 3, 3)
    assert "hint:" in str(caught.value)


@pytest.mark.parametrize("shape", [(3, 3), (1, 2, 3, 3), (0, 3, 3), (2, 0, 3)])
def test_a_stack_of_another_layout_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="classes, height, width"):
        unary_energy(np.zeros(shape, dtype=np.float32), 3, 3)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 5), np.uint8),
        np.zeros((3, 4, 5), np.uint8),
        np.zeros((4, 5, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
    ],
    ids=["grey", "channels first", "float", "empty"],
)
def test_an_image_of_another_layout_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="8-bit RGB"):
        check_image(image)


def test_seen_by_crf_truncates_and_keeps_the_channel_order() -> None:
    image = np.array([0.999, 0.5, 1.0], dtype=np.float32)[:, None, None]  # 254.7, 127.5, 255 of 255
    assert seen_by_crf(image, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).tolist() == [[[254, 127, 255]]]


def test_seen_by_crf_undoes_the_normalisation_to_at_most_one_level() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    normalised = ((pixels / np.float32(255) - np.float32(mean)) / np.float32(std)).transpose(2, 0, 1)
    below = pixels.astype(int) - seen_by_crf(normalised.astype(np.float32), mean, std)
    assert set(np.unique(below)) <= {0, 1}


def test_a_pool_of_processes_need_not_load_torch() -> None:
    code = "import sys, stego_cli.crf.build; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
