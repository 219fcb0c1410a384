"""CRF, reconstruction and alignment losses by hand and by their properties."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from stego_cli.config.losses import CrfLossConfig
from stego_cli.methods.stego import losses
from stego_cli.methods.stego.draws import CRF_SIDE
from stego_cli.methods.stego.losses import (
    alignment_loss,
    crf_kernel,
    crf_loss,
    pairwise_crf_loss,
    reconstruction_loss,
    squared_distances,
)


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_crf_loss_of_two_positions_by_hand() -> None:
    config = CrfLossConfig(alpha=2, beta=0.5, gamma=1, appearance_weight=3, smoothness_weight=5, shift=0.25)
    cells = torch.tensor([[0, 1], [0, 1]])  # a diagonal step: squared distance 2
    colours = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
    code = torch.tensor([[[1.0, 0.0], [0.6, 0.8]]])
    alone, apart = 3 + 5 - 0.25, 3 * math.exp(-2 / 4 - 1 / 1) + 5 * math.exp(-2 / 2) - 0.25
    expected = -(2 * alone * 1 + 2 * apart * 0.6) / 4
    assert pairwise_crf_loss(config, colours, code, cells).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("budget", [1, 10**9])
def test_crf_gradient_is_that_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    monkeypatch.setattr(losses, "KERNEL_BUDGET", budget)
    config = CrfLossConfig(shift=0.3)
    cells = torch.randint(0, CRF_SIDE, (2, 30), generator=torch.Generator().manual_seed(0))
    colours, code = random(1, 4, 30, 3), random(2, 4, 30, 5).requires_grad_()
    kernel = crf_kernel(config, squared_distances(cells), colours)
    expected = -(code @ code.mT * kernel).mean()
    found = pairwise_crf_loss(config, colours, code, cells)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(each, code)[0] for each in (found, expected)))


def test_crf_reads_what_a_resize_to_the_square_would_hold() -> None:
    maps, cells = (
        random(0, 2, 5, 9, 13),
        torch.randint(0, CRF_SIDE, (2, 40), generator=torch.Generator().manual_seed(0)),
    )
    square = functional.interpolate(maps, (CRF_SIDE, CRF_SIDE), mode="bilinear", align_corners=False)
    torch.testing.assert_close(losses.on_square(maps, cells), square[:, :, cells[0], cells[1]].mT, atol=1e-5, rtol=0)


def test_crf_loss_prefers_codes_that_follow_colours() -> None:
    images = torch.zeros(1, 3, 64, 64)
    images[:, :, :, 32:] = 2
    sides = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    by_column = sides[:, [0, 0, 1, 1]][None, :, None, :].expand(1, 2, 4, 4)
    cells = torch.randint(0, CRF_SIDE, (2, 300), generator=torch.Generator().manual_seed(0))
    config = CrfLossConfig(alpha=500, shift=3)
    following, across = (crf_loss(config, images, code, cells) for code in (by_column, by_column.mT))
    assert following < across


def test_perfect_reconstruction_is_minus_one_at_any_scale() -> None:
    features = random(0, 2, 6, 3, 4)
    assert reconstruction_loss(features * 5, features).item() == pytest.approx(-1, abs=1e-6)
    assert reconstruction_loss(-features, features).item() == pytest.approx(1, abs=1e-6)


def test_reconstruction_never_changes_features_and_survives_zeros() -> None:
    features, rebuilt = torch.zeros(1, 3, 2, 2, requires_grad=True), torch.zeros(1, 3, 2, 2, requires_grad=True)
    loss = reconstruction_loss(rebuilt, features)
    loss.backward()
    assert loss.item() == 0
    assert features.grad is None
    assert rebuilt.grad.isfinite().all()


def pixel_coords(height: int, width: int) -> torch.Tensor:
    """Return the coordinate grid (1, H, W, 2) of an image, (y, x) from pixel centre to pixel centre."""
    axes = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack(axes, dim=-1)[None]


MOVES = {
    "identity": (lambda m: m),
    "horizontal flip": (lambda m: m.flip(-1)),
    "vertical flip": (lambda m: m.flip(-2)),
    "half a turn": (lambda m: m.flip(-1).flip(-2)),
}


@pytest.mark.parametrize("move", MOVES)
@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([2, 8, 16]))
def test_native_alignment_of_a_code_that_moves_with_its_image(move: str, height: int, width: int, patch: int) -> None:
    code = random(height * 7 + width, 1, 5, height, width)
    coords = MOVES[move](pixel_coords(height * patch, width * patch).movedim(-1, 1)).movedim(1, -1)
    assert alignment_loss(code, MOVES[move](code), coords, "native").item() == pytest.approx(-1, abs=1e-5)


def smooth_code(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return a code (1, 4, h, w) that turns slowly with the place in the image, from 0 to 1 on both axes."""
    return torch.stack([y.cos(), y.sin(), (2 * x).cos(), (2 * x).sin()])[None]


def test_native_alignment_follows_an_enlarged_crop() -> None:
    """The middle half of the image, enlarged to its size: every cell of it lies between cells of the original."""
    pixels, cells = 64, 8
    centres = (torch.arange(cells) + 0.5) / cells
    code = smooth_code(*torch.meshgrid(centres, centres, indexing="ij"))
    inner = 0.25 + centres / 2
    augmented = smooth_code(*torch.meshgrid(inner, inner, indexing="ij"))
    source = (0.25 + (torch.arange(pixels) + 0.5) / pixels / 2) * pixels - 0.5  # which pixel each one comes from
    axis = source / (pixels - 1) * 2 - 1
    coords = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)[None]
    assert alignment_loss(code, augmented, coords, "native").item() == pytest.approx(-1, abs=1e-4)
    assert alignment_loss(code, code, coords, "native").item() > -0.99
