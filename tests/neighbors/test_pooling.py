"""One vector per image."""

from __future__ import annotations

import pytest
import torch

from stego_cli.errors import ShapeError
from stego_cli.neighbors.pooling import pool


def test_vectors_have_unit_length_and_do_not_depend_on_the_scale_of_the_map() -> None:
    features = torch.randn(5, 12, 3, 4, generator=torch.Generator().manual_seed(0))
    vectors = pool(features)
    assert vectors.norm(dim=1) == pytest.approx(torch.ones(5), abs=1e-6)
    torch.testing.assert_close(pool(features * 7), vectors)


def test_half_precision_is_summed_in_single() -> None:
    features = torch.full((1, 2, 64, 64), 60.0, dtype=torch.float16)  # 4096 of them exceed what fp16 can hold
    torch.testing.assert_close(pool(features), torch.full((1, 2), 0.5**0.5))


def test_zeros_stay_zeros_and_what_is_not_finite_stays_so() -> None:
    features = torch.zeros(3, 4, 2, 2)
    features[1, 0, 0, 0] = torch.nan
    features[2, 0, 0, 0] = torch.inf
    vectors = pool(features)
    assert vectors[0].tolist() == [0.0] * 4
    assert not vectors[1].isfinite().all()
    assert not vectors[2].isfinite().all()


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 0, 4), (2, 0, 3, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="feature maps"):
        pool(torch.zeros(shape))
