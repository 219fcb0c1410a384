from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stego_cli.config.crf import CrfParameters
from stego_cli.crf import torch_crf
from stego_cli.crf.base import resize_bilinear
from stego_cli.crf.build import build_torch_crf
from stego_cli.crf.fast import FastCrf
from stego_cli.crf.torch_crf import TorchCrf
from stego_cli.errors import ShapeError, StegoError

CPU = torch.device("cpu")
CRF = TorchCrf(CrfParameters(), CPU)


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return soft areas of colour with a little noise."""
    random = np.random.default_rng(seed)
    areas = resize_bilinear(random.uniform(0, 255, (3, 4, 4)).astype(np.float32), height, width).transpose(1, 2, 0)
    return (areas + random.normal(scale=3, size=areas.shape)).clip(0, 255).astype(np.uint8)


def logits(classes: int, height: int, width: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(classes, height, width)).astype(np.float32)


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    """Pixels are placed on the lattice to the bit, so no pixel may differ by more than rounding."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert np.abs(found - expected).mean() < 1e-5


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    classes=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    coarse=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    images=st.integers(1, 3),
    weights=st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)),
    reaches=st.tuples(st.floats(0.5, 9), st.floats(2, 90), st.floats(2, 40)),
    seed=st.integers(0, 9999),
)
def test_equal_to_the_path_for_the_processor(
    size: tuple[int, int],
    classes: list[int],
    coarse: tuple[int, int],
    images: int,
    weights: tuple[float, float],
    reaches: tuple[float, float, float],
    seed: int,
) -> None:
    parameters = CrfParameters(
        iterations=4,
        gaussian_weight=weights[0],
        bilateral_weight=weights[1],
        gaussian_xy=reaches[0],
        bilateral_xy=reaches[1],
        bilateral_rgb=reaches[2],
    )
    pixels = [photograph(*size, seed + number) for number in range(images)]
    stacks = [[logits(each, *coarse, seed + number) for each in classes] for number in range(images)]
    found = TorchCrf(parameters, CPU).refine_batch(pixels, stacks)
    expected = FastCrf(parameters).refine_batch(pixels, stacks)
    for one, other in zip(found, expected, strict=True):
        for maps, known in zip(one, other, strict=True):
            assert_close(maps, known)


def test_tensors_of_a_batch_stay_tensors() -> None:
    pixels, stack = np.stack([photograph(20, 26, seed) for seed in (0, 1)]), np.stack([logits(4, 10, 13)] * 2)
    (found,) = CRF.refine_tensors(torch.from_numpy(pixels), [torch.from_numpy(stack).double()])
    assert found.shape == (2, 4, 20, 26)
    for one, image, maps in zip(found, pixels, stack, strict=True):
        assert_close(one.numpy(), FastCrf(CrfParameters()).refine(image, [maps])[0])


def test_the_same_bits_every_time_and_in_any_company() -> None:
    pixels = [photograph(21, 26, seed) for seed in range(3)]
    stacks = [[logits(5, 21, 26, seed)] for seed in range(3)]
    together = CRF.refine_batch(pixels, stacks)
    for number in range(3):
        (alone,) = CRF.refine(pixels[number], stacks[number])
        np.testing.assert_array_equal(alone, together[number][0])


def test_images_of_several_sizes_in_one_batch_come_back_in_order() -> None:
    sizes = [(8, 9), (5, 12), (8, 9), (1, 1)]
    pixels = [photograph(*size, seed) for seed, size in enumerate(sizes)]
    stacks = [[logits(3, 4, 4, seed)] for seed in range(4)]
    for found, image, stack in zip(CRF.refine_batch(pixels, stacks), pixels, stacks, strict=True):
        assert_close(found[0], FastCrf(CrfParameters()).refine(image, stack)[0])
    assert CRF.refine_batch([], []) == []
    assert CRF.refine(pixels[0], []) == []


def test_little_memory_means_one_image_and_one_class_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = [photograph(20, 26, seed) for seed in range(3)]
    stacks = [[logits(4, 20, 26, seed), logits(3, 20, 26, seed)] for seed in range(3)]
    plain = CRF.refine_batch(pixels, stacks)
    seen = []
    sharpen = TorchCrf._sharpen
    monkeypatch.setattr(torch_crf, "_ON_CPU", 1)
    monkeypatch.setattr(TorchCrf, "_sharpen", lambda self, *given: seen.append(len(given[0])) or sharpen(self, *given))
    for found, expected in zip(CRF.refine_batch(pixels, stacks), plain, strict=True):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
    assert seen == [1, 1, 1]


def test_one_class_one_pixel_one_colour_and_certain_probabilities() -> None:
    np.testing.assert_array_equal(CRF.refine(photograph(6, 8), [logits(1, 3, 4)])[0], np.ones((1, 6, 8), np.float32))
    flat, certain = np.full((24, 31, 3), 9, np.uint8), np.zeros((4, 24, 31), np.float32)
    certain[2] = 1e6
    for image, stack in [(photograph(1, 1), logits(3, 1, 1)), (flat, logits(4, 24, 31)), (flat, certain)]:
        assert_close(CRF.refine(image, [stack])[0], FastCrf(CrfParameters()).refine(image, [stack])[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_number_is_refused_in_words(bad: float) -> None:
    broken = logits(3, 4, 4)
    broken[1, 2, 0] = bad
    image = photograph(4, 4)
    with pytest.raises(StegoError, match="NaN or infinity"):
        CRF.refine(image, [broken])
    with pytest.raises(StegoError, match="NaN or infinity"):
        CRF.refine_tensors(torch.from_numpy(image)[None], [torch.from_numpy(broken)[None]])


def test_other_layouts_are_refused() -> None:
    image, stack = torch.from_numpy(photograph(4, 4))[None], torch.zeros(1, 3, 4, 4)
    for images, stacks in [
        (image.permute(0, 3, 1, 2), [stack]),
        (image.float(), [stack]),
        (image[0], [stack]),
        (image, [stack[0]]),
        (image, [stack.expand(2, -1, -1, -1)]),
        (image, [stack[:, :0]]),
        (image, [stack.to("meta")]),
    ]:
        with pytest.raises(ShapeError, match="CRF needs"):
            CRF.refine_tensors(images, stacks)


def test_a_reach_too_small_to_count_is_refused() -> None:
    crf = build_torch_crf(CrfParameters(bilateral_rgb=1e-6), "cpu")
    with pytest.raises(StegoError, match=r"20x26 .* more cells"):
        crf.refine(photograph(20, 26), [logits(3, 20, 26)])


def test_few_planes_are_kept() -> None:
    crf = TorchCrf(CrfParameters(), CPU)
    for side in (3, 4, 5, 6):
        crf.refine(photograph(side, side), [logits(2, side, side)])
    assert len(crf._planes) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_gives_the_same() -> None:
    crf = build_torch_crf(CrfParameters(), "cuda")
    pixels, stacks = [photograph(64, 50, seed) for seed in range(3)], [[logits(7, 9, 9, seed)] for seed in range(3)]
    for found, expected in zip(crf.refine_batch(pixels, stacks), CRF.refine_batch(pixels, stacks), strict=True):
        assert_close(found[0], expected[0])
