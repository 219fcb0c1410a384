"""Large images in windows: everything is covered, and blending leaves no edges."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from stego_cli.backbones.windows import OVERLAP, code_in_windows, whole_patches, window_starts
from stego_cli.errors import StegoError

PATCH = 8


def local_code(images: Tensor) -> Tensor:
    """A network that sees no further than a patch: windows change nothing at all."""
    return functional.avg_pool2d(images, PATCH)


@given(side=st.integers(1, 60), window=st.integers(1, 60))
def test_windows_cover_everything_and_overlap_by_about_a_quarter(side: int, window: int) -> None:
    window = min(window, side)
    starts = window_starts(side * PATCH, window * PATCH, PATCH)
    assert starts[0] == 0
    assert starts[-1] + window * PATCH == side * PATCH
    assert all(start % PATCH == 0 for start in starts)
    for before, after in pairwise(starts):
        assert 0 < after - before <= (window - window // OVERLAP + 1) * PATCH
        assert after - before <= window * PATCH


@given(height=st.integers(1, 12), width=st.integers(1, 12), window=st.integers(1, 8))
def test_a_network_that_sees_only_patches_says_the_same_in_windows(height: int, width: int, window: int) -> None:
    images = torch.rand(2, 3, height * PATCH, width * PATCH, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(code_in_windows(local_code, images, window * PATCH, PATCH), local_code(images))


def test_an_image_that_fits_is_seen_whole_and_once() -> None:
    seen: list[tuple[int, ...]] = []

    def code(images: Tensor) -> Tensor:
        seen.append(tuple(images.shape))
        return local_code(images)

    code_in_windows(code, torch.zeros(1, 3, 32, 64), 64, PATCH)
    assert seen == [(1, 3, 32, 64)]


def test_windows_are_never_larger_than_asked_for() -> None:
    seen: list[tuple[int, ...]] = []

    def code(images: Tensor) -> Tensor:
        seen.append(tuple(images.shape[-2:]))
        return local_code(images)

    code_in_windows(code, torch.zeros(1, 3, 48, 200), 64, PATCH)
    assert set(seen) == {(48, 64)}
    assert len(seen) == 4


def test_from_one_window_to_the_next_the_code_changes_little_by_little() -> None:
    """The worst network: each window is answered with one number, and the next with the next one."""
    count = iter(range(100))

    def code(images: Tensor) -> Tensor:
        return torch.full((1, 1, 1, images.shape[-1] // PATCH), float(next(count)))

    row = code_in_windows(code, torch.zeros(1, 3, PATCH, 56 * PATCH), 32 * PATCH, PATCH)[0, 0, 0]
    assert row[0] == 0
    assert row[-1] == 1
    steps = row.diff()
    assert (steps >= 0).all()
    assert steps.max() <= 2 / (32 // OVERLAP)  # an edge would be one step of 1


def test_windows_smaller_than_a_patch_are_refused() -> None:
    with pytest.raises(StegoError, match="--tile takes 8 or more"):
        whole_patches(7, 8)
