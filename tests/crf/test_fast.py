from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stego_cli.config.crf import CrfParameters
from stego_cli.crf import fast
from stego_cli.crf.base import resize_bilinear
from stego_cli.crf.build import build_crf
from stego_cli.crf.fast import FastCrf
from stego_cli.crf.lattice import build_lattice
from stego_cli.crf.plane import PlaneCache
from stego_cli.crf.reference import ReferenceCrf
from stego_cli.crf.team import Team, thread_count, thread_shares
from stego_cli.crf.torch_crf import TorchCrf
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
    pytest.importorskip("pydensecrf", reason="the package that ours is compared with is an extra")
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


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    classes=st.integers(1, 30),
    weights=st.tuples(st.floats(0.1, 20), st.floats(0.1, 20)),
    reaches=st.tuples(st.floats(0.5, 9), st.floats(2, 90), st.floats(2, 40)),
    iterations=st.integers(1, 5),
    seed=st.integers(0, 9999),
)
def test_equal_to_pydensecrf_with_other_parameters(
    size: tuple[int, int],
    classes: int,
    weights: tuple[float, float],
    reaches: tuple[float, float, float],
    iterations: int,
    seed: int,
) -> None:
    parameters = CrfParameters(
        iterations=iterations,
        gaussian_weight=weights[0],
        bilateral_weight=weights[1],
        gaussian_xy=reaches[0],
        bilateral_xy=reaches[1],
        bilateral_rgb=reaches[2],
    )
    assert_equal_to_reference(parameters, photograph(*size, seed), logits(classes, *size, seed))


@pytest.mark.parametrize("strength", [60, 1000])
def test_weights_so_strong_that_powers_of_e_would_overflow(strength: float) -> None:
    parameters = CrfParameters(gaussian_weight=strength, bilateral_weight=2 * strength)
    image, stack = photograph(31, 27), logits(9, 31, 27)
    with Team(1) as team:
        plane = fast._PLANES.get(31, 27, 1.0, strength, team)
        colours = build_lattice(fast._positions_and_colours(image, parameters), 31 * 27, 2 * strength, team)
        inference = fast.Inference(plane, colours, team, 10, 0)
        fields = [inference._begin(stack, 31, 27)]
        assert inference._iterate(fields, finish=True) > fast._LARGEST  # else this test shows nothing
    assert_equal_to_reference(parameters, image, stack)


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


def test_a_batch_is_the_same_as_one_image_at_a_time() -> None:
    images = [photograph(30 + seed % 2, 26, seed) for seed in range(7)]
    stacks = [[logits(4, 9, 9, seed), logits(9, 30, 26, seed)][: 1 + seed % 2] for seed in range(7)]
    for image, several, found in zip(images, stacks, CRF.refine_batch(images, stacks), strict=True):
        assert len(found) == len(several)
        for one, expected in zip(found, CRF.refine(image, several), strict=True):
            np.testing.assert_array_equal(one, expected)
    assert CRF.refine_batch([], []) == []
    assert CRF.refine(images[0], []) == []


def test_little_room_means_less_at_once_and_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    image, stacks = photograph(40, 30), [logits(20, 40, 30), logits(5, 8, 8)]
    plain = CRF.refine(image, stacks)
    for name in ("_BUDGET", "_TOGETHER"):
        monkeypatch.setattr(fast, name, 1)
    for found, expected in zip(CRF.refine_batch([image], [stacks])[0], plain, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_memory_that_ends_after_the_first_room_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    image, stack = photograph(40, 30), logits(20, 40, 30)
    (plain,) = CRF.refine(image, [stack])
    monkeypatch.setattr(fast, "thread_count", lambda: 4)
    there, asked, give = 1, [], fast._room

    def scarce(rows: int) -> np.ndarray:
        asked.append(rows)
        if len(asked) > there:
            raise MemoryError
        return give(rows)

    monkeypatch.setattr(fast, "_room", scarce)
    np.testing.assert_array_equal(CRF.refine(image, [stack])[0], plain)
    assert len(asked) > 1
    there = 0
    with pytest.raises(MemoryError):
        CRF.refine(image, [stack])


def test_an_image_gets_the_threads_of_its_caller_and_a_batch_shares_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(FastCrf, "_refine", lambda self, image, stacks, threads: seen.append(threads))
    image, before = photograph(2, 2), torch.get_num_threads()

    def refine_on(threads: int) -> None:
        torch.set_num_threads(threads)
        CRF.refine(image, [])

    with ThreadPoolExecutor(3) as pool:  # as the pipeline does; no thread is told of the others
        list(pool.map(refine_on, [1, 2, 3]))
    torch.set_num_threads(before)  # what threads that are started later begin with
    assert sorted(seen) == [1, 2, 3]
    seen.clear()
    monkeypatch.setattr(fast, "thread_count", lambda: 4)
    CRF.refine_batch([image] * 6, [[]] * 6)
    assert sorted(seen) == [1, 1, 1, 1, 2, 2]
    assert thread_shares(1, 4, 4) == [4]
    assert thread_shares(3, 1, 4) == [4, 4, 4]
    assert thread_shares(5, 4, 3) == [1, 1, 1, 1, 3]
    assert thread_shares(0, 4, 4) == []


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


@pytest.mark.parametrize("lowest", [-1e4, -1e29, -1e35, float(np.finfo(np.float32).min)])
def test_classes_ruled_out_by_very_low_logits(lowest: float) -> None:
    stack = logits(11, 24, 31)
    stack[[2, 9], :, 10:] = lowest
    assert_equal_to_reference(CrfParameters(), photograph(24, 31), stack)


def test_bad_numbers_and_layouts_are_refused() -> None:
    for bad in (np.nan, np.inf, -np.inf, 1e300):
        broken = logits(3, 4, 4).astype(np.float64)
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
    with Team(1) as team:
        few = PlaneCache(planes=2)
        first = few.get(5, 6, 1.0, 3.0, team)
        for side in (7, 8):
            few.get(side, side, 1.0, 3.0, team)
            assert few.get(5, 6, 1.0, 3.0, team) is first  # used last, so kept
        assert len(few) == 2
        assert few.get(5, 6, 1.0, 4.0, team) is not first
        small = PlaneCache(nbytes=20_000)
        for side in range(5, 40):
            small.get(side, side, 1.0, 3.0, team)
            assert small.nbytes <= 20_000
        assert small.get(300, 300, 1.0, 3.0, team).size
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
    assert isinstance(build_crf(CrfParameters(), torch.device("cpu")), FastCrf)
    assert isinstance(build_crf(CrfParameters(implementation="reference"), "cuda"), ReferenceCrf)
    assert build_crf(CrfParameters(), "cuda:1") == TorchCrf(CrfParameters(), torch.device("cuda:1"))
    assert isinstance(build_crf(CrfParameters(implementation="torch")), TorchCrf)
    monkeypatch.delitem(sys.modules, "stego_cli.crf.fast")
    monkeypatch.delattr("stego_cli.crf.kernels")
    for name in ("kernels", "jit", "lattice", "plane"):
        monkeypatch.setitem(sys.modules, f"stego_cli.crf.{name}", None)
    assert isinstance(build_crf(CrfParameters()), ReferenceCrf)
    with pytest.raises(MissingDependencyError, match="numba"):
        build_crf(CrfParameters(implementation="fast"))


def test_numba_is_imported_only_when_a_crf_is_built() -> None:
    code = "import sys, stego_cli.crf.build, stego_cli.config.crf; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.quality
@pytest.mark.parametrize("probes", [1, 2])
def test_a_full_resolution_image_stays_within_two_gigabytes(testdata: Path, probes: int) -> None:
    path = min((testdata / "photos").glob("*.jpg"))
    code = f"""
import resource, numpy as np
from PIL import Image
from stego_cli.config.crf import CrfParameters
from stego_cli.crf.fast import FastCrf
image = np.asarray(Image.open({str(path)!r}).convert("RGB").resize((2048, 1024)))
random = np.random.default_rng(0)
stacks = [random.standard_normal((27, 1024, 2048), np.float32) for _ in range({probes})]
for maps in FastCrf(CrfParameters()).refine(image, stacks):
    assert maps.shape == (27, 1024, 2048) and abs(float(maps[:, 5, 5].sum()) - 1) < 1e-4
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    kibibytes = int(run.stdout) / (1024 if sys.platform == "darwin" else 1)
    assert kibibytes <= 2 * 2**20
    print(f"2048x1024x27, {probes} stack(s): {kibibytes / 2**10:.0f} MiB at most")  # noqa: T201


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
    print(f"equal classes on fifty images: {np.mean(equal):.6%}, least {np.min(equal):.6%}")  # noqa: T201
    assert np.mean(equal) >= 0.9995
