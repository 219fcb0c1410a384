"""Augmented images: where their pixels come from is where they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from stego_cli.methods.stego import augment as module
from stego_cli.methods.stego.augment import augment
from stego_cli.methods.stego.losses import alignment_loss

SIDE = 32


@pytest.fixture
def squares() -> np.ndarray:
    """Smooth images, in which a pixel's colour tells its place."""
    rows, columns = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    image = np.stack([rows, columns, rows + columns], -1) * 4
    return np.stack([image, image[::-1], image[:, ::-1]]).astype(np.uint8)


def test_draws_depend_on_seed_step_and_image_alone(squares: np.ndarray) -> None:
    images = np.array([4, 9, 2])
    first, coords = augment(squares, 1, 7, images)
    again, same = augment(squares[::-1].copy(), 1, 7, images[::-1].copy())
    assert np.array_equal(first, again[::-1])
    assert torch.equal(coords, same.flip(0))
    assert not np.array_equal(first, augment(squares, 1, 8, images)[0])


@pytest.mark.parametrize("step", range(8))
def test_pixels_come_from_where_the_coordinates_say(
    squares: np.ndarray, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_recoloured", lambda picture, random: picture)
    changed, coords = augment(squares, 0, step, np.arange(3))
    images = torch.from_numpy(squares).permute(0, 3, 1, 2).float()
    found = functional.grid_sample(images, coords.flip(-1), align_corners=True, padding_mode="border")
    difference = (found - torch.from_numpy(changed).permute(0, 3, 1, 2)).abs()
    assert difference[..., 1:-1, 1:-1].max() < 3  # the resize averages, and rounds
    assert coords.abs().max() <= 1 + 1 / SIDE + 1e-6


def test_a_code_that_moves_with_the_image_is_aligned(squares: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_recoloured", lambda picture, random: picture)
    changed, coords = augment(squares, 0, 3, np.arange(3))

    def code(images: np.ndarray) -> torch.Tensor:
        return functional.avg_pool2d(torch.from_numpy(images).permute(0, 3, 1, 2).float() - 120, 4)

    assert alignment_loss(code(squares), code(changed), coords, "native") < -0.97


def test_colours_change(squares: np.ndarray) -> None:
    assert not np.array_equal(augment(squares, 0, 0, np.arange(3))[0], squares)
