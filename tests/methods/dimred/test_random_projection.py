"""Random projection."""

from __future__ import annotations

import numpy as np
import torch

from stego_cli.config.model import RpConfig
from stego_cli.methods.base import FeatureSource, Fitted
from stego_cli.methods.dimred.random_projection import RandomProjection


def fitted(maps: torch.Tensor, seed: int = 0, **settings: object) -> RandomProjection:
    method = RandomProjection(RpConfig(**settings), maps.shape[1])  # type: ignore[arg-type]
    source = FeatureSource(
        np.arange(len(maps)), lambda images: maps[torch.from_numpy(images)], 2, lambda items, *_: items
    )
    method.adopt(method.fit(source, seed), seed)
    return method


def test_lengths_are_kept_in_the_mean() -> None:
    maps = torch.randn(4, 300, 6, 6, generator=torch.Generator().manual_seed(0)) * 4 + 7
    code = fitted(maps, code_dim=200).code(maps)
    standard = (maps - maps.mean((0, 2, 3), keepdim=True)) / maps.std((0, 2, 3), correction=0, keepdim=True)
    ratio = code.square().sum(1) / standard.square().sum(1)
    assert abs(ratio.mean().item() - 1) < 0.05
    assert ratio.std().item() < 0.2


def test_the_seed_draws_the_matrix_and_leaves_the_statistics_alone() -> None:
    maps = torch.randn(3, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    first, same, other = (fitted(maps, seed, code_dim=5) for seed in (0, 0, 1))
    assert torch.equal(first.components, same.components)
    assert not torch.equal(first.components, other.components)
    assert torch.equal(first.mean, other.mean)
    assert first.recipe(0) == other.recipe(1)


def test_batch_by_batch_nothing_is_fitted() -> None:
    def read(images: np.ndarray) -> torch.Tensor:
        raise AssertionError(images)

    method = RandomProjection(RpConfig(code_dim=5, standardise="batch"), 8)
    assert isinstance(method, Fitted)
    assert method.fit(FeatureSource(np.arange(3), read, 2, lambda items, *_: items), 0) == {}
    assert set(method.state_dict()) == {"components"}


def test_more_dimensions_than_channels_are_fine() -> None:
    maps = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    assert fitted(maps, code_dim=9).code(maps).shape == (3, 9, 2, 2)
