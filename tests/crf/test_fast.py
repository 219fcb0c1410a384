from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stego_cli.config.crf import CrfParameters
from stego_cli.crf import fast
from stego_cli.crf.base import resize_bilinear
from stego_cli.crf.build import build_crf
from stego_cli.crf.fast import FastCrf, PlaneCache, Team, thread_count
from stego_cli.crf.reference import ReferenceCrf
from stego_cli.errors import MissingDependencyError, ShapeError, StegoError

CRF = FastCrf(CrfParameters())


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return soft areas of colour with a little noise."""
    random = np.random.default_rng(seed)
    areas = resize_bilinear(random.uniform(0, 255, (3, 4, 4)).astype(np.float32), height, width).transpose(1, 2, 0)
    return (areas + random.normal(scale=3, size=areas.shape)).clip(0, 255).astype(np.uint8)


def logits(classes: int, height: int, width: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(classes, height, width)).astype(np.float32)


def assert_equal_to_reference(parameters: CrfParameters, image: np.ndarray, stack: np.ndarray) -> None:
    (found,) = FastCrf(parameters).refine(image, [stack])
    (expected,) = ReferenceCrf(parameters).refine(image, [stack])
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    apart = np.abs(found - expected).max(axis=0)
    # A pixel that lies on the border of two lattice cells goes to either by the last bit of a float; its share of the
    # image is bounded, and so is how far it can go. The golden numbers allow the same of the reference itself.
    on_a_border = apart > 1e-3
    assert on_a_border.sum() <= max(2, apart.size // 1000)
    assert apart.max() < 2e-2
    assert apart[~on_a_border].mean() < 1e-5
    runner_up, best = np.sort(expected, axis=0)[-2:] if len(expected) > 1 else (0 * expected[0], expected[0])
    sure = (best - runner_up > 1e-4) & ~on_a_border
    assert (found.argmax(0) == expected.argmax(0))[sure].all()


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 45),
    width=st.integers(1, 45),
    classes=st.integers(1, 20),
    coarse=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    noise=st.booleans(),
    seed=st.integers(0, 9999),
)
def test_equal_to_pydensecrf(
    height: int, width: int, classes: int, coarse: tuple[int, int], noise: bool, seed: int
) -> None:
    image = photograph(height, width, seed)
    if noise:
        image = np.random.default_rng(seed).integers(0, 256, image.shape, dtype=np.uint8)
    assert_equal_to_reference(CrfParameters(), image, logits(classes, *coarse, seed))


@settings(max_examples=15, deadline=None)
@given(
    weights=st.tuples(st.floats(0.1, 20), st.floats(0.1, 20)),
    reaches=st.tuples(st.floats(0.5, 9), st.floats(2, 90), st.floats(2, 40)),
    iterations=st.integers(1, 5),
)
def test_equal_to_pydensecrf_with_other_parameters(
    weights: tuple[float, float], reaches: tuple[float, float, float], iterations: int
) -> None:
    parameters = CrfParameters(
        iterations=iterations,
        gaussian_weight=weights[0],
        bilateral_weight=weights[1],
        gaussian_xy=reaches[0],
        bilateral_xy=reaches[1],
        bilateral_rgb=reaches[2],
    )
    assert_equal_to_reference(parameters, photograph(31, 27), logits(9, 31, 27))


@pytest.mark.parametrize(
    ("height", "width", "classes"),
    [(1, 1, 3), (1, 7, 2), (7, 1, 8), (2, 2, 9), (10, 3000, 3), (3, 20_000, 2), (150, 130, 5), (12, 10, 300)],
    ids=str,
)
def test_images_of_any_shape(height: int, width: int, classes: int) -> None:
    assert_equal_to_reference(CrfParameters(), photograph(height, width), logits(classes, height, width))


def test_wider_than_pydensecrf_can_count() -> None:
    (found,) = CRF.refine(photograph(2, 40_000), [logits(3, 2, 40_000)])
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    middle = slice(19_000, 19_040)
    (part,) = CRF.refine(photograph(2, 40_000)[:, middle], [logits(3, 2, 40_000)[:, :, middle]])
    assert part.shape == (3, 2, 40)


def test_an_image_of_one_colour_and_certain_probabilities() -> None:
    flat = np.full((24, 31, 3), 9, np.uint8)
    assert_equal_to_reference(CrfParameters(), flat, logits(4, 24, 31))
    certain = np.zeros((4, 24, 31), np.float32)
    certain[2] = 1e6
    assert_equal_to_reference(CrfParameters(), flat, certain)


def test_one_class_takes_every_pixel() -> None:
    (found,) = CRF.refine(photograph(6, 8), [logits(1, 3, 4)])
    np.testing.assert_array_equal(found, np.ones((1, 6, 8), np.float32))


def test_two_stacks_at_once_are_the_same_as_one_at_a_time() -> None:
    image = photograph(40, 26)
    stacks = [logits(4, 40, 26, 1), logits(19, 10, 13, 2), logits(1, 5, 5, 3)]
    together = CRF.refine(image, stacks)
    for stack, found in zip(stacks, together, strict=True):
        np.testing.assert_array_equal(found, CRF.refine(image, [stack])[0])


def test_the_same_bits_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    image, stack = photograph(141, 133), logits(11, 50, 40)
    results = []
    for threads in (1, 2, 3, 8, 2):
        monkeypatch.setattr(fast, "thread_count", lambda threads=threads: threads)
        monkeypatch.setattr(fast, "_PLANES", PlaneCache())
        results.append(CRF.refine(image, [stack])[0])
    for found in results[1:]:
        np.testing.assert_array_equal(found, results[0])


def test_images_may_be_refined_on_several_threads_at_once() -> None:
    images = [photograph(50, 30 + seed % 3, seed) for seed in range(12)]
    expected = [CRF.refine(image, [logits(5, 9, 9)])[0] for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: CRF.refine(image, [logits(5, 9, 9)])[0], images))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_little_room_means_fewer_blocks_at_once_and_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    image, stack = photograph(40, 30), logits(20, 40, 30)
    (plain,) = CRF.refine(image, [stack])
    monkeypatch.setattr(fast, "_SCRATCH", 1)
    np.testing.assert_array_equal(CRF.refine(image, [stack])[0], plain)


def test_the_memory_layout_of_the_inputs_does_not_matter() -> None:
    image, stack = photograph(20, 26), logits(4, 20, 26)
    (plain,) = CRF.refine(image, [stack])
    strided = np.repeat(image, 2, axis=1)[:, ::2]
    fortran = np.asfortranarray(stack.astype(np.float64))
    backwards = np.ascontiguousarray(stack[::-1])[::-1]
    image.setflags(write=False)
    stack.setflags(write=False)
    for odd_image, odd_stack in [(strided, stack), (image, fortran), (image, backwards)]:
        np.testing.assert_array_equal(CRF.refine(odd_image, [odd_stack])[0], plain)


def test_bad_numbers_and_layouts_are_refused() -> None:
    for bad in (np.nan, np.inf, -np.inf):
        broken = logits(3, 4, 4)
        broken[0, 0, 0] = bad
        with pytest.raises(StegoError, match="NaN"):
            CRF.refine(photograph(4, 4), [broken])
    with pytest.raises(ShapeError):
        CRF.refine(photograph(4, 4).astype(np.uint16), [logits(3, 4, 4)])  # type: ignore[arg-type]
    with pytest.raises(ShapeError):
        CRF.refine(photograph(4, 4), [logits(3, 4, 4)[0]])


@pytest.mark.parametrize("name", ["gaussian_xy", "bilateral_xy", "bilateral_rgb"])
def test_a_reach_too_small_to_count_is_refused(name: str) -> None:
    crf = FastCrf(CrfParameters(**{name: 1e-6}))
    with pytest.raises(StegoError, match=r"20x26 .* more cells") as caught:
        crf.refine(photograph(20, 26), [logits(3, 20, 26)])
    assert "hint:" in str(caught.value)


@pytest.mark.parametrize("name", ["gaussian_xy", "bilateral_xy", "bilateral_rgb"])
@pytest.mark.parametrize("reach", [0.1, 1e6])
def test_unusual_reaches_are_equal_to_pydensecrf(name: str, reach: float) -> None:
    assert_equal_to_reference(CrfParameters(**{name: reach}), photograph(20, 26), logits(3, 20, 26))


def test_the_planes_kept_are_bounded_in_number_and_bytes() -> None:
    with ThreadPoolExecutor(1) as pool:
        team = Team(pool, 1)
        few = PlaneCache(sizes=2)
        first = few.get(5, 6, 1.0, team)
        for side in (7, 8):
            few.get(side, side, 1.0, team)
            assert few.get(5, 6, 1.0, team) is first  # used last, so kept
        assert len(few) == 2
        small = PlaneCache(nbytes=20_000)
        for side in range(5, 40):
            small.get(side, side, 1.0, team)
            assert small.nbytes <= 20_000
        assert small.get(300, 300, 1.0, team).lattice.size
        assert not len(small)


def test_threads_are_those_of_torch_or_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert thread_count() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert thread_count() >= 1


def test_it_can_be_sent_to_another_process() -> None:
    image, stack = photograph(8, 9), logits(3, 8, 9)
    sent = pickle.loads(pickle.dumps(CRF))
    np.testing.assert_array_equal(sent.refine(image, [stack])[0], CRF.refine(image, [stack])[0])


def test_which_one_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(build_crf(CrfParameters()), FastCrf)
    assert isinstance(build_crf(CrfParameters(implementation="reference")), ReferenceCrf)
    monkeypatch.delitem(sys.modules, "stego_cli.crf.fast")
    monkeypatch.delattr("stego_cli.crf.kernels")
    for name in ("kernels", "jit", "lattice"):
        monkeypatch.setitem(sys.modules, f"stego_cli.crf.{name}", None)
    assert isinstance(build_crf(CrfParameters()), ReferenceCrf)
    with pytest.raises(MissingDependencyError, match="numba"):
        build_crf(CrfParameters(implementation="fast"))


def test_numba_is_imported_only_when_a_crf_is_built() -> None:
    code = "import sys, stego_cli.crf.build, stego_cli.config.crf; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.quality
def test_fifty_real_images_get_the_same_classes(testdata: Path) -> None:
    paths = sorted((testdata / "photos").glob("*.jpg"))[:25] + sorted((testdata / "camvid" / "imgs").rglob("*.*"))[:25]
    assert len(paths) == 50
    equal = []
    for number, path in enumerate(paths):
        with Image.open(path) as picture:
            image = np.asarray(picture.convert("RGB").resize((320, 320), Image.Resampling.BILINEAR))
        stack = 2 * logits(27, 40, 40, number)
        (found,), (expected,) = (crf.refine(image, [stack]) for crf in (CRF, ReferenceCrf(CrfParameters())))
        assert np.abs(found - expected).mean() < 1e-5, path
        equal.append((found.argmax(0) == expected.argmax(0)).mean())
    assert np.mean(equal) >= 0.9995, f"least {np.min(equal):.6%}"
