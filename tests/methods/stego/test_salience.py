"""Positions drawn from masks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stego_cli.methods.stego.salience import mix, salient_coords
from stego_cli.methods.stego.sampling import at_coords, map_source


def chances(seed: int, batch: int, count: int) -> torch.Tensor:
    return torch.rand(batch, count, 2, generator=torch.Generator().manual_seed(seed))


def pixels(coords: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows and columns of native positions on a map with one cell per pixel."""
    return (coords[..., 1] + 1) / 2 * (height - 1), (coords[..., 0] + 1) / 2 * (width - 1)


@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 50))
def test_every_position_is_salient_and_every_salient_pixel_is_found(height: int, width: int, seed: int) -> None:
    mask = torch.rand(2, height, width, generator=torch.Generator().manual_seed(seed)) > 0.7
    mask[:, seed % height, seed % width] = True
    found = salient_coords(mask, chances(seed, 2, 800), (height, width), "native")
    rows, columns = pixels(found, height, width)
    torch.testing.assert_close(rows, rows.round(), atol=1e-4, rtol=0)
    for image in range(2):
        places = set(zip(rows[image].round().int().tolist(), columns[image].round().int().tolist(), strict=True))
        assert places == {tuple(place) for place in mask[image].nonzero().tolist()}


def test_an_empty_mask_gives_pixels_from_everywhere() -> None:
    mask = torch.zeros(1, 3, 8)
    rows, columns = pixels(salient_coords(mask, chances(0, 1, 500), (3, 8), "native"), 3, 8)
    assert set(rows.round().flatten().tolist()) == set(range(3))
    assert set(columns.round().flatten().tolist()) == set(range(8))


def test_native_positions_read_the_cell_that_holds_the_pixel() -> None:
    """A map whose cells are 4 x 4 pixels: the middle of a cell's pixels is the cell itself."""
    mask = torch.zeros(1, 8, 16)
    mask[0, 4:8, 8:12] = 1
    found = salient_coords(mask, chances(0, 1, 2000), (2, 4), "native")
    cells = torch.arange(8.0).reshape(1, 1, 2, 4)
    values = map_source(cells).sample(at_coords(found.mean(1)[:, None, None], (2, 4)))
    assert values.item() == pytest.approx(6, abs=0.1)


def test_paper_positions_leave_wide_maps_by_dividing_columns_by_the_height() -> None:
    mask = torch.zeros(1, 4, 8)
    mask[0, 1, 6] = 1
    assert salient_coords(mask, chances(0, 1, 1), (4, 8), "paper").flatten().tolist() == [2.0, -0.5]


def test_mix_takes_salient_positions_above_the_threshold() -> None:
    uniform, salient = torch.zeros(1, 2, 2, 2), torch.arange(8.0).reshape(1, 4, 2) + 1
    keep = torch.tensor([[[0.05, 0.1], [0.11, 0.9]]])
    assert mix(uniform, salient, keep).flatten().tolist() == [0, 0, 0, 0, 5, 6, 7, 8]
