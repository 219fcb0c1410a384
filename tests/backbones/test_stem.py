"""A vision transformer whose tokens begin with the filter bank."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from stego_cli.backbones.filterbank import Filterbank
from stego_cli.backbones.registry import build_backbone
from stego_cli.backbones.stem import FilterbankStem
from stego_cli.config.model import VitArchitecture, VitConfig

SIZES = VitArchitecture(patch_size=8, width=24, depth=2, heads=2, image_size=32, stem="filterbank")


def image(height: int = 24, width: int = 40) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_tokens_are_a_linear_map_of_the_filter_bank() -> None:
    torch.manual_seed(0)
    stem = FilterbankStem(5)
    features = Filterbank(even=True).features(image())
    expected = torch.einsum("bchw,dc->bhwd", features, stem.proj.weight) + stem.proj.bias
    torch.testing.assert_close(stem(image()), expected)


def test_fitted_channels_count_alike() -> None:
    bank = Filterbank(even=True)
    raw = torch.cat([bank.raw_features(image(64, 64)), bank.raw_features(image(64, 64).abs())])
    points = raw.permute(0, 2, 3, 1).flatten(0, 2)
    bank.fit_projection(points)
    deviation = bank.project(raw).permute(0, 2, 3, 1).flatten(0, 2).std(dim=0, correction=0)
    varies = points.std(dim=0) > 1e-3
    torch.testing.assert_close(deviation[:-1][varies], torch.ones(int(varies.sum())))


def test_the_whole_network_takes_images_of_any_size_and_only_the_linear_map_learns() -> None:
    torch.manual_seed(0)
    backbone = build_backbone(VitConfig(name="home-made", architecture=SIZES))
    found = backbone(image(32, 56))
    assert found.shape == (2, 24, 4, 7)
    found.square().sum().backward()
    gradients = {name: each.grad is not None for name, each in backbone.named_parameters() if "patch_embed" in name}
    assert gradients == {"network.patch_embed.proj.weight": True, "network.patch_embed.proj.bias": True}


def test_the_filter_bank_has_patches_of_eight_pixels() -> None:
    with pytest.raises(ValidationError, match="the filter bank has patches of 8 pixels, not of 16"):
        VitArchitecture(patch_size=16, width=24, depth=2, heads=2, stem="filterbank")
