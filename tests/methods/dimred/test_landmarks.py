"""Positions placed among landmarks; the libraries themselves are in `test_libraries.py`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stego_cli.config.model import HnneConfig, UmapConfig
from stego_cli.errors import ConfigError, StegoError
from stego_cli.methods.base import FeatureSource, Fitted
from stego_cli.methods.dimred import landmarks
from stego_cli.methods.dimred.landmarks import LandmarkProjection, place


@pytest.fixture(autouse=True)
def _embedded_by_the_first_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    def embed(vectors: torch.Tensor, config: UmapConfig, seed: int) -> torch.Tensor:
        return vectors[:, : config.code_dim].double() + 100 + seed

    monkeypatch.setattr(landmarks, "embed", embed)


def source_of(maps: torch.Tensor) -> FeatureSource:
    return FeatureSource(
        np.arange(len(maps)), lambda images: maps[torch.from_numpy(images)], 2, lambda items, *_: items
    )


def maps_of(images: int = 4, channels: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(images, channels, 3, 4, generator=torch.Generator().manual_seed(seed)) * 3 + 1


def fitted(maps: torch.Tensor, **settings: object) -> LandmarkProjection:
    method = LandmarkProjection(UmapConfig(**settings), maps.shape[1])  # type: ignore[arg-type]
    method.adopt(method.fit(source_of(maps), 0), 0)
    return method


def test_places_by_hand() -> None:
    known, places = torch.tensor([[0.0, 0.0], [3.0, 0.0], [100.0, 0.0]]), torch.tensor([[0.0], [30.0], [999.0]])
    found = place(torch.tensor([[1.0, 0.0], [3.0, 0.0], [1.5, 5.0]]), known, places, nearest=2)
    # One third of the way: weights 1 and 1/2; upon a landmark: its own place; as far from both: the middle.
    torch.testing.assert_close(found[:, 0], torch.tensor([10.0, 30.0, 15.0]), rtol=0, atol=1e-3)


def test_a_single_neighbour_is_the_nearest_landmark() -> None:
    known = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    vectors = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    found = place(vectors, known, torch.arange(50.0)[:, None], nearest=1)
    assert found[:, 0].tolist() == torch.cdist(vectors, known).argmin(1).tolist()


def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    known = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    vectors = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    whole = place(vectors, known, known[:, :2], nearest=5)
    monkeypatch.setattr(landmarks, "TILE", 50 * 7)
    torch.testing.assert_close(place(vectors, known, known[:, :2], nearest=5), whole)


def test_landmarks_far_from_the_origin_keep_their_digits() -> None:
    known = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) + 1000
    found = place(known.clone(), known, torch.arange(50.0)[:, None], nearest=3)
    torch.testing.assert_close(found[:, 0], torch.arange(50.0), rtol=0, atol=1e-3)


def test_landmarks_are_where_the_library_put_them_around_zero() -> None:
    maps = maps_of()
    method = fitted(maps, code_dim=2)
    code = method.code(maps)
    assert code.shape == (4, 2, 3, 4)
    torch.testing.assert_close(code.mean((0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-4)
    standard = (maps - maps.mean((0, 2, 3), keepdim=True)) / maps.std((0, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(code, standard[:, :2], rtol=0, atol=1e-3)


def test_there_are_as_many_landmarks_as_asked_or_as_can_be() -> None:
    assert len(fitted(maps_of(), code_dim=2, landmarks=20).landmarks) == 20
    method = fitted(maps_of(), code_dim=2)
    assert len(method.landmarks) == 4 * 12
    assert method.as_fitted() == UmapConfig(code_dim=2, landmarks=48)
    again = LandmarkProjection(method.as_fitted(), 5)
    again.load_state_dict(method.state_dict())
    torch.testing.assert_close(again.code(maps_of(seed=1)), method.code(maps_of(seed=1)))


def test_directions_are_compared_where_the_metric_says_so() -> None:
    maps = maps_of()
    method = LandmarkProjection(HnneConfig(code_dim=2), 5)
    method.adopt(method.fit(source_of(maps), 0), 0)
    torch.testing.assert_close(method.landmarks.norm(dim=1), torch.ones(48))
    vectors = torch.randn(2, 5, 1, 1, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(method.project(vectors), method.project(3 * vectors), rtol=1e-4, atol=1e-4)


def test_seed_and_dimensions_make_another_fit_and_how_places_are_read_does_not() -> None:
    def recipe(seed: int = 0, **settings: object) -> dict[str, object]:
        return LandmarkProjection(UmapConfig(**settings), 100).recipe(seed)  # type: ignore[arg-type]

    assert recipe() == recipe(nearest=3)
    assert recipe() != recipe(seed=1)
    assert recipe() != recipe(code_dim=3)
    assert isinstance(LandmarkProjection(UmapConfig(), 100), Fitted)


def test_too_few_positions_are_refused() -> None:
    with pytest.raises(StegoError, match="12 positions in 11 dimensions"):
        fitted(maps_of(1, channels=15), code_dim=11)


def test_more_dimensions_than_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match="5 channels"):
        LandmarkProjection(HnneConfig(code_dim=6), 5)
