"""Standardised channels."""

from __future__ import annotations

import pytest
import torch

from stego_cli.errors import StegoError
from stego_cli.methods.dimred.standard import moments, standardised, standardised_by_own


def test_moments_by_hand() -> None:
    found = moments([torch.tensor([[1.0, 5.0], [3.0, 5.0]]), torch.tensor([[5.0, 5.0]])], pairs=False)
    assert found.count == 3
    assert found.mean.tolist() == [3, 5]
    assert found.products.tolist() == [8, 0]
    assert found.constant.tolist() == [False, True]
    assert found.deviation.tolist() == pytest.approx([(8 / 3) ** 0.5, 1])


def test_chunks_and_a_large_mean_change_nothing() -> None:
    vectors = torch.randn(500, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1e6
    vectors[:, 1] = vectors[:, 0] * 2
    found = moments([vectors[:3], vectors[3:3], vectors[3:400], vectors[400:]], pairs=True)
    torch.testing.assert_close(found.products / 499, torch.cov(vectors.T), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.mean, vectors.mean(0))
    torch.testing.assert_close(found.deviation, moments([vectors], pairs=False).deviation)


def test_nothing_to_fit_to_is_refused() -> None:
    with pytest.raises(StegoError, match="no features"):
        moments([], pairs=False)


def test_features_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(StegoError, match="no finite numbers"):
        moments([torch.tensor([[1.0], [torch.nan]])], pairs=True)


def test_training_statistics_leave_every_image_alone() -> None:
    features = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    mean, deviation = torch.tensor([0.5, -1.0]), torch.tensor([2.0, 0.5])
    found = standardised(features, mean, deviation)
    torch.testing.assert_close(found[1:2], standardised(features[1:2], mean, deviation))
    assert found[0, 1, 2, 3].item() == pytest.approx((features[0, 1, 2, 3].item() + 1) / 0.5)


def test_a_batch_by_its_own_numbers() -> None:
    features = 7 + 3 * torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    found = standardised_by_own(features)
    torch.testing.assert_close(found.mean((0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-6)
    torch.testing.assert_close(found.square().mean((0, 2, 3)), torch.ones(2), rtol=0, atol=1e-5)
    assert (standardised_by_own(features[:1]) - found[:1]).abs().max() > 0.01


def test_a_constant_channel_of_a_batch_is_zero() -> None:
    features = torch.randn(2, 2, 7, 7, generator=torch.Generator().manual_seed(0))
    features[:, 0] = 0.1
    found = standardised_by_own(features)
    assert bool((found[:, 0] == 0).all())
    assert bool(torch.isfinite(found).all())
