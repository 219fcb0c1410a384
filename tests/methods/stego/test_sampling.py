"""Sampling between cells against the library's own, and by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from stego_cli.methods.stego import sampling
from stego_cli.methods.stego.sampling import at_cells, at_coords, edges_to_corners, label_source, map_source


def library(maps: torch.Tensor, coords: torch.Tensor) -> torch.Tensor:
    """Sample as the reference is documented to: transposed grid, corner-aligned, clamped; (B, P, C)."""
    grid = coords.transpose(1, 2)
    found = functional.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return found.flatten(2).mT


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(0, 99))
def test_equals_grid_sample_inside_and_outside(height: int, width: int, batch: int, seed: int) -> None:
    maps = random(seed, batch, 3, height, width).requires_grad_()
    coords = random(seed + 1, batch, 4, 5, 2)  # a third of them outside [-1, 1]
    found, expected = map_source(maps).sample(at_coords(coords, (height, width))), library(maps, coords)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    upstream = random(seed + 2, *found.shape)
    (gradient,) = torch.autograd.grad(found, maps, upstream)
    (expected_gradient,) = torch.autograd.grad(expected, maps, upstream)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-5, rtol=0)


def test_other_images_are_sampled_as_if_the_batch_had_been_reordered() -> None:
    maps, coords = random(0, 4, 6, 5, 7), random(1, 4, 3, 3, 2)
    factors = random(2, 4, 6)
    images = torch.tensor([[1, 0, 3, 3], [2, 2, 0, 1]])
    found = map_source(maps, factors).sample(at_coords(coords, (5, 7)), images)
    for draw, order in enumerate(images):
        expected = library((maps * factors[:, :, None, None])[order], coords)
        torch.testing.assert_close(found[:, draw], expected, atol=1e-5, rtol=0)


def test_labels_are_sampled_like_one_hot_maps_with_a_channel_for_no_class() -> None:
    labels = torch.randint(-1, 5, (2, 9, 6), generator=torch.Generator().manual_seed(0))
    labels[0, 0, 0] = 255
    coords = random(1, 2, 4, 4, 2)
    classes = torch.where(labels < 4, labels, -1) + 1
    expected = library(functional.one_hot(classes, 5).movedim(-1, 1).float(), coords)
    found = label_source(labels, 4).sample(at_coords(coords, (9, 6)))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    as_bytes = label_source(labels.to(torch.uint8), 4).sample(at_coords(coords, (9, 6)))
    assert torch.equal(as_bytes, found)


def test_positions_between_two_cells_by_hand() -> None:
    maps = torch.tensor([[[[0.0, 10.0], [20.0, 30.0]]]])
    rows, columns = torch.tensor([[0.0, 0.5, 0.25, -3.0]]), torch.tensor([[0.0, 0.5, 1.0, 9.0]])
    found = map_source(maps).sample(at_cells(rows, columns, (2, 2)))
    assert found.flatten().tolist() == [0.0, 15.0, 15.0, 10.0]


def test_borders_become_corners() -> None:
    """On four cells the first centre lies an eighth of the width inside, at -0.75 of the border-to-border axis."""
    coords = torch.tensor([[-0.75, 0.5], [0.75, 0.0]])
    assert edges_to_corners(coords, (2, 4)).tolist() == [[-1.0, 1.0], [1.0, 0.0]]
    assert edges_to_corners(coords, (1, 1)).isfinite().all()


def test_devices_without_embedding_bags_sample_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, coords, images = random(0, 3, 4, 5, 6).requires_grad_(), random(1, 3, 2, 2, 2), torch.tensor([[1, 2, 0]])

    def found() -> tuple[torch.Tensor, torch.Tensor]:
        vectors = map_source(maps).sample(at_coords(coords, (5, 6)), images)
        return vectors, torch.autograd.grad(vectors.square().sum(), maps)[0]

    with_bags = found()
    monkeypatch.setattr(sampling, "WITHOUT_BAGS", ("cpu",))
    for ours, theirs in zip(found(), with_bags, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_half_precision_maps_are_summed_in_float32() -> None:
    maps, coords = random(0, 1, 3, 4, 4), random(1, 1, 3, 3, 2)
    found = map_source(maps.half()).sample(at_coords(coords, (4, 4)))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, library(maps.half().float(), coords), atol=1e-6, rtol=0)


def test_no_gradient_reaches_positions() -> None:
    maps, coords = random(0, 1, 3, 4, 4).requires_grad_(), random(1, 1, 3, 3, 2)
    map_source(maps).sample(at_coords(coords, (4, 4))).sum().backward()
    assert maps.grad.sum().item() == pytest.approx(3 * 9, abs=1e-4)  # the shares of each position sum to 1
