"""Which images a report shows."""

from __future__ import annotations

import math

import pytest

from stego_cli.engine.evaluate.examples import pick


def test_best_and_worst_are_at_the_ends() -> None:
    accuracies = {f"{place:02d}": place / 30 for place in range(30)}
    chosen = pick(accuracies, 9)
    assert list(chosen)[:3] == ["29", "28", "27"]
    assert list(chosen)[-3:] == ["02", "01", "00"]
    assert list(chosen.values()) == ["best"] * 3 + ["between"] * 3 + ["worst"] * 3


@pytest.mark.parametrize("images", range(8))
@pytest.mark.parametrize("count", range(8))
def test_as_many_as_there_are_and_none_twice(images: int, count: int) -> None:
    chosen = pick({str(place): place / 10 for place in range(images)}, count)
    assert len(chosen) == min(images, count)
    assert list(chosen) == sorted(chosen, reverse=True)


def test_images_without_a_number_are_not_shown() -> None:
    assert pick({"a": math.nan, "b": 0.5}, 3) == {"b": "between"}
