"""Colours for classes that have none: far apart for every eye, the same on every run."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_COLOURS = 1000

# Okabe and Ito's palette without black: chosen by hand for readers with and without colour vision deficiency.
_FIRST = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (213, 94, 0),
    (240, 228, 66),
    (0, 114, 178),
)

# Linear RGB as seen without long (protan) or middle wave cones (deutan): Viénot, Brettel and Mollon 1999.
_PROTAN = np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]])
_DEUTAN = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])

# Linear RGB to cone responses to the Oklab space, in which distance is close to perceived difference: Ottosson 2020.
_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


@lru_cache
def distinct_colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """Return `count` different colours, none near black, white or grey; a longer list begins like a shorter one.

    After seven chosen by hand, each next colour is the one farthest from all before it (Gonzalez 1985), where
    distance counts the views with and without red-green deficiency.

    Raises:
        ValueError: If more than `MOST_COLOURS` are asked for.

    Example:
        >>> distinct_colours(2)
        ((86, 180, 233), (230, 159, 0))
    """
    if count > MOST_COLOURS:
        raise ValueError(f"{count} colours asked for; nobody can tell more than {MOST_COLOURS} apart")
    candidates = _candidates()
    points = _views(candidates)
    distance = np.full(len(points), np.inf)
    chosen = list(_FIRST[:count])
    for point in _views(np.array(_FIRST)):
        distance = np.minimum(distance, ((points - point) ** 2).sum(1))
    while len(chosen) < count:
        farthest = int(distance.argmax())
        red, green, blue = candidates[farthest].tolist()
        chosen.append((red, green, blue))
        distance = np.minimum(distance, ((points - points[farthest]) ** 2).sum(1))
    return tuple(chosen)


def _candidates() -> NDArray[np.int64]:
    """Return the colours to choose from: 16 levels per channel, without the very dark, pale, grey and glaring."""
    levels = np.arange(0, 256, 17)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lightness, a, b = _oklab(_linear(grid)).T
    chroma = np.hypot(a, b)
    candidates: NDArray[np.int64] = grid[(lightness > 0.40) & (lightness < 0.93) & (chroma > 0.045) & (chroma < 0.23)]
    return candidates


def _views(colours: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return points, shape (n, 9), whose squared distance adds up three ways of seeing; the full one counts double."""
    linear = _linear(colours)
    deficient = [_oklab((linear @ matrix.T).clip(0)) for matrix in (_PROTAN, _DEUTAN)]
    return np.concatenate([np.sqrt(2) * _oklab(linear), *deficient], axis=1)


def _linear(colours: NDArray[np.int64]) -> NDArray[np.float64]:
    """Undo the sRGB transfer curve: (n, 3) of 0 to 255 to (n, 3) of 0 to 1, proportional to light."""
    levels = colours / 255
    linear: NDArray[np.float64] = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return linear


def _oklab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map linear RGB (n, 3) to Oklab (n, 3): lightness in [0, 1], then two axes of hue."""
    lab: NDArray[np.float64] = np.cbrt(linear @ _TO_CONES.T) @ _TO_OKLAB.T
    return lab
