"""Probes of the upsampled code, without the upsampled code."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from stego_cli.probes.cluster import ClusterProbe
from stego_cli.probes.linear import LinearProbe
from stego_cli.probes.upsampling import upsample, upsampled_norm

sides = st.integers(1, 9)


def large(code: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return functional.interpolate(code, size, mode="bilinear", align_corners=False)


def random_code(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(height=sides, width=sides, new_height=st.integers(1, 40), new_width=st.integers(1, 40), seed=st.integers(0, 99))
def test_the_length_is_that_of_the_upsampled_code(
    height: int, width: int, new_height: int, new_width: int, seed: int
) -> None:
    code, size = random_code(seed, 2, 5, height, width), (new_height, new_width)
    torch.testing.assert_close(upsampled_norm(code, size), large(code, size).norm(dim=1), rtol=1e-5, atol=1e-6)


def test_between_opposite_codes_the_length_is_zero() -> None:
    code = torch.tensor([[[[3.0, -3.0]], [[4.0, -4.0]]]])
    torch.testing.assert_close(upsampled_norm(code, (1, 5))[0, 0], torch.tensor([5.0, 4.0, 0.0, 4.0, 5.0]))


@given(height=sides, width=sides, new_height=st.integers(1, 40), new_width=st.integers(1, 40))
def test_maps_with_channels_last_are_upsampled_as_others(
    height: int, width: int, new_height: int, new_width: int
) -> None:
    maps, size = random_code(0, 2, 3, height, width), (new_height, new_width)
    found = upsample(maps.permute(0, 2, 3, 1), size)
    assert found.is_contiguous()
    torch.testing.assert_close(found.permute(0, 3, 1, 2), large(maps, size))


@given(height=sides, width=sides, factor=st.integers(1, 8), clusters=st.integers(1, 6), alpha=st.floats(0.5, 20))
def test_probes_say_what_they_would_say_of_the_upsampled_code(
    height: int, width: int, factor: int, clusters: int, alpha: float
) -> None:
    code, size = random_code(1, 2, 4, height, width), (height * factor, width * factor + 1)
    cluster, linear = ClusterProbe(clusters, 4), LinearProbe(clusters, 4)
    with torch.no_grad():
        linear.weight.copy_(random_code(2, clusters, 4))
        linear.bias.copy_(random_code(3, clusters))
        found, expected = cluster.log_probs(code, alpha, size), cluster.log_probs(large(code, size), alpha)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            linear.log_probs(code, size), linear.log_probs(large(code, size)), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("probe", ["cluster", "linear"])
def test_a_code_of_zeros_is_equally_likely_everything(probe: str) -> None:
    code = torch.zeros(1, 4, 2, 2)
    found = (
        ClusterProbe(3, 4).log_probs(code, 3.0, (5, 5))
        if probe == "cluster"
        else LinearProbe(3, 4).log_probs(code, (5, 5))
    )
    torch.testing.assert_close(found.exp(), torch.full((1, 3, 5, 5), 1 / 3))
