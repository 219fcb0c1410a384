"""Scores taken before the upsampling are those taken after it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from stego_cli.engine.ablate.scoring import cluster_scores, linear_scores, upsampling_between
from stego_cli.probes.cluster import ClusterProbe
from stego_cli.probes.linear import LinearProbe

SIZES = [((3, 5), (24, 40)), ((4, 4), (32, 32)), ((5, 3), (7, 19)), ((1, 1), (8, 8)), ((1, 6), (8, 48))]


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def upsampled(code: torch.Tensor, pixels: tuple[int, int]) -> torch.Tensor:
    return functional.interpolate(code[None], pixels, mode="bilinear", align_corners=False)


@pytest.mark.parametrize(("cells", "pixels"), SIZES)
def test_lengths_are_those_of_the_upsampled_code(cells: tuple[int, int], pixels: tuple[int, int]) -> None:
    code = draw(6, *cells)
    up = upsampling_between(cells, pixels, torch.device("cpu"))
    expected = upsampled(code, pixels)[0].square().sum(0)
    torch.testing.assert_close(up.squared_lengths(code), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("cells", "pixels"), SIZES)
def test_probes_say_the_same_of_cells_as_of_pixels(cells: tuple[int, int], pixels: tuple[int, int]) -> None:
    code, clusters, classes = draw(6, *cells), ClusterProbe(4, 6), LinearProbe(3, 6)
    with torch.no_grad():
        clusters.centroids.copy_(draw(4, 6))
        classes.weight.copy_(draw(3, 6))
        classes.bias.copy_(draw(3))
        whole = upsampled(code, pixels)
        expected = 2.0 * clusters.inner_products(whole)[0]
        torch.testing.assert_close(cluster_scores(clusters, code, pixels, 2.0), expected, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(linear_scores(classes, code, pixels), classes.logits(whole)[0], atol=1e-4, rtol=1e-4)


def test_a_code_of_zero_is_like_no_centroid() -> None:
    probe = ClusterProbe(3, 4)
    with torch.no_grad():
        scores = cluster_scores(probe, torch.zeros(4, 2, 2), (16, 16), 2.0)
    assert torch.equal(scores, torch.zeros(3, 16, 16))
