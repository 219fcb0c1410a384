"""The backbone without weights: what its features follow and what they must not follow."""

from __future__ import annotations

import pytest
import torch

from stego_cli.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from stego_cli.backbones.filterbank import MOST_ANCHORS, Filterbank, _region_means, lab_from_rgb
from stego_cli.errors import ShapeError


def normalised(rgb: torch.Tensor) -> torch.Tensor:
    """Normalise RGB in [0, 1], (B, 3, H, W), as images come to a backbone."""
    mean, std = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None]
    return (rgb - mean) / std


def scenes(count: int, height: int, width: int) -> torch.Tensor:
    """Pictures with structure at several scales: noise, blocks and a bright upper part."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.rand(count, 3, height // 8, width // 8, generator=generator)
    coarse = torch.nn.functional.interpolate(blocks, (height, width))
    noise = torch.rand(count, 3, height, width, generator=generator)
    rgb = 0.6 * coarse + 0.2 * noise
    rgb[..., : height // 3, :] += 0.2
    return normalised(rgb)


@pytest.fixture(scope="module")
def fitted() -> Filterbank:
    backbone = Filterbank()
    raw = backbone.raw_features(scenes(6, 64, 96))
    backbone.fit_projection(raw.movedim(1, -1).flatten(0, 2))
    return backbone


@pytest.mark.parametrize("size", [(8, 8), (8, 64), (16, 8), (64, 96), (240, 320)])
def test_any_size_of_whole_cells_gives_finite_features(size):
    features = Filterbank()(scenes(1, *size))
    assert features.shape == (1, Filterbank().channels, size[0] // 8, size[1] // 8)
    assert bool(torch.isfinite(features).all())


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_blank_image_gives_finite_features(value):
    assert bool(torch.isfinite(Filterbank()(normalised(torch.full((1, 3, 32, 40), value)))).all())


def test_a_size_that_is_not_whole_cells_is_refused():
    with pytest.raises(ShapeError, match="40 or 48"):
        Filterbank()(torch.zeros(1, 3, 41, 48))


def test_an_image_does_not_depend_on_its_batch(fitted):
    images = scenes(3, 48, 64)
    together = fitted(images)
    for index in range(3):
        torch.testing.assert_close(fitted(images[index : index + 1])[0], together[index], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(48, 64), (8 * 36, 8 * 40)], ids=["small", "more cells than anchors"])
def test_the_mirror_image_has_mirrored_features(fitted, size):
    if size[0] > 48:
        assert size[0] * size[1] / 64 > MOST_ANCHORS
    images = scenes(1, *size)
    torch.testing.assert_close(fitted(images.flip(-1)), fitted(images).flip(-1), atol=1e-3, rtol=1e-3)


def test_fitting_gives_centred_channels_whose_spread_is_their_weight():
    backbone = Filterbank()
    raw = backbone.raw_features(scenes(8, 64, 64)).movedim(1, -1).flatten(0, 2)
    backbone.fit_projection(raw)
    features = backbone.project(raw[:, :, None, None]).flatten(1)
    deviation, mean = torch.std_mean(features[:, :-1], dim=0, correction=0)
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-3, rtol=0)
    assert deviation.max() > 20 * deviation.min() > 0
    assert features[0, -1] > 0
    assert features[:, -1].std() == 0


def test_the_first_channel_is_low_where_the_image_looks_like_its_bottom():
    rgb = torch.full((1, 3, 64, 64), 0.8)
    rgb[..., 32:, :] = 0.2
    rgb[..., :16, :16] = 0.2  # looks like the ground, though it is at the top
    ground = Filterbank()(normalised(rgb))[0, 0]
    assert ground[-1].max() < ground[0, 4:].min()
    assert ground[0, 0] < ground[0, 4:].min()


def test_regions_are_calmer_than_cells():
    """Noise within two flat halves is averaged away, the border between them stays."""
    rgb = torch.full((1, 3, 64, 128), 0.3)
    rgb[..., 64:] = 0.7
    rgb += 0.1 * torch.rand(1, 3, 8, 16, generator=torch.Generator().manual_seed(0)).repeat_interleave(
        8, 2
    ).repeat_interleave(8, 3)
    light = lab_from_rgb(rgb)[:, :1]
    cells = torch.nn.functional.avg_pool2d(light, 8)
    regions = _region_means(cells, torch.nn.functional.avg_pool2d(lab_from_rgb(rgb), 8))
    for half in (slice(0, 8), slice(8, 16)):
        assert regions[..., half].std() < 0.5 * cells[..., half].std()
    assert regions[..., 8:].min() - regions[..., :8].max() > 0.2


def test_lab_of_known_colours():
    """Reference values of CIE L*a*b* under D65."""
    rgb = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]).T[None, :, None, :]
    expected = torch.tensor([[53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86], [0, 0, 0]])
    torch.testing.assert_close(100 * lab_from_rgb(rgb)[0, :, 0].T, expected, atol=0.05, rtol=0)
