from __future__ import annotations

import numpy as np
import pytest

from stego_cli.data.colours import MOST_COLOURS, distinct_colours


def test_no_two_colours_are_equal() -> None:
    assert len(set(distinct_colours(MOST_COLOURS))) == MOST_COLOURS


def test_a_class_keeps_its_colour_when_there_are_more() -> None:
    every = distinct_colours(MOST_COLOURS)
    for count in (1, 3, 7, 8, 27, 200):
        assert distinct_colours(count) == every[:count]


def test_none_is_near_black_white_or_grey() -> None:
    colours = np.array(distinct_colours(MOST_COLOURS))
    assert (colours.max(1) - colours.min(1)).min() > 15
    assert colours.max(1).min() > 60
    assert colours.min(1).max() < 225


def test_the_first_twenty_are_far_apart() -> None:
    colours = np.array(distinct_colours(20), dtype=float)
    apart = np.linalg.norm(colours[:, None] - colours, axis=-1)
    assert apart[~np.eye(20, dtype=bool)].min() > 45


def test_they_stay_apart_without_red_and_green() -> None:
    """A crude stand-in for deficient sight, independent of the code's model: red and green are averaged."""
    colours = np.array(distinct_colours(7), dtype=float)
    seen = np.stack([colours[:, :2].mean(1), colours[:, 2]], axis=1)
    apart = np.linalg.norm(seen[:, None] - seen, axis=-1)
    assert apart[~np.eye(7, dtype=bool)].min() > 20


def test_too_many_are_refused() -> None:
    with pytest.raises(ValueError, match="1001"):
        distinct_colours(MOST_COLOURS + 1)
