"""Which positions a projection is fitted to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from stego_cli.errors import ConfigError
from stego_cli.methods.base import FeatureSource
from stego_cli.methods.dimred.positions import first_positions, positions_of, spread_positions


def source_of(maps: torch.Tensor, images: list[int] | None = None, batch: int = 2) -> FeatureSource:
    def read(numbers: np.ndarray) -> torch.Tensor:
        return maps[torch.from_numpy(numbers)]

    def track(items: Iterator[torch.Tensor], doing: str, total: int) -> Iterator[torch.Tensor]:
        found = list(items)
        assert len(found) == total
        return iter(found)

    return FeatureSource(np.array(range(len(maps)) if images is None else images), read, batch, track)


def numbered(images: int, height: int = 2, width: int = 3) -> torch.Tensor:
    """Maps of one channel whose values say which image and position they are: 100 * image + position."""
    places = torch.arange(height * width).reshape(1, 1, height, width)
    return (torch.arange(images).reshape(-1, 1, 1, 1) * 100 + places).float()


def drawn(maps: torch.Tensor, most_images: int, most_positions: int, **how: object) -> list[int]:
    chunks = spread_positions(source_of(maps, **how), most_images, most_positions)  # type: ignore[arg-type]
    return [int(value) for value in torch.cat(list(chunks))[:, 0]]


def test_positions_are_in_the_order_image_row_column() -> None:
    assert positions_of(numbered(2))[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 100, 101, 102, 103, 104, 105]


def test_all_positions_are_taken_where_they_are_few() -> None:
    assert drawn(numbered(3), 10, 1000) == positions_of(numbered(3))[:, 0].int().tolist()


def test_every_image_gives_as_many_as_the_next_and_none_twice() -> None:
    values = drawn(numbered(5), 10, 13)
    assert len(values) == len(set(values)) == 13
    assert [sum(value // 100 == image for value in values) for image in range(5)] == [3, 3, 3, 2, 2]


def test_the_draw_is_the_same_every_time_and_whatever_the_batch() -> None:
    maps = numbered(5)
    assert drawn(maps, 10, 13) == drawn(maps, 10, 13, batch=5)


def test_of_many_images_some_are_drawn_from_everywhere() -> None:
    images = {value // 100 for value in drawn(numbered(200), 20, 1000)}
    assert len(images) == 20
    assert min(images) < 60
    assert max(images) > 140


def test_fewer_positions_than_images_come_from_as_many_images() -> None:
    values = drawn(numbered(10), 10, 4)
    assert len({value // 100 for value in values}) == len(values) == 4


def test_only_usable_images_are_looked_at() -> None:
    assert {value // 100 for value in drawn(numbered(5), 10, 1000, images=[1, 4])} == {1, 4}


@pytest.mark.parametrize(("limit", "used"), [(100, 5), (5, 5), (4, 4), (3, 2), (2, 2)])
def test_the_first_images_come_in_whole_batches(limit: int, used: int) -> None:
    found = torch.cat(list(first_positions(source_of(numbered(5)), limit)))
    torch.testing.assert_close(found, positions_of(numbered(used)))


def test_a_limit_below_one_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"fit_images is 1, .* 2 images"):
        list(first_positions(source_of(numbered(5)), 1))
