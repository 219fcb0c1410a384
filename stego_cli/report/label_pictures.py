"""Small pictures of images and label maps for reports: flat colours, no outlines, at most a few hundred pixels."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LONGEST = 320
NO_CLASS = ((214, 214, 214), (88, 88, 88))
"""Greys of the stripes over pixels without a class (unlabelled, or in a cluster that stands for none).

A plain colour would be that of some class: CamVid's sky is grey, other spaces have black and white.
"""

_STRIPE = 4  # pixels


def shrunk(shape: tuple[int, ...], longest: int = LONGEST) -> tuple[int, int]:
    """Return height and width with the longer side brought to `longest`, if it exceeds it.

    Example:
        >>> shrunk((720, 960)), shrunk((20, 30))
        ((240, 320), (20, 30))
    """
    height, width = shape[:2]
    scale = min(longest / max(height, width), 1)
    return max(1, round(height * scale)), max(1, round(width * scale))


def label_picture(
    label_map: NDArray[Any], colours: Sequence[tuple[int, int, int]], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return a label map in the colours of its classes; pixels are picked, never mixed.

    Args:
        label_map: Shape (H, W); values outside the classes are drawn as stripes, see `NO_CLASS`.
        colours: One for each class.
        size: Height and width of the picture.

    Returns:
        Shape (*size, 3), RGB.
    """
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp) for new, old in zip(size, label_map.shape, strict=True)
    )
    ids = label_map[rows[:, None], columns].astype(np.int64)
    table = np.array([*colours, *NO_CLASS], np.uint8)
    down, across = np.indices(size)
    stripes = len(colours) + (down + across) // _STRIPE % 2
    picture: NDArray[np.uint8] = table[np.where((ids >= 0) & (ids < len(colours)), ids, stripes)]
    return picture


def png(picture: NDArray[np.uint8]) -> bytes:
    """Return a picture of flat colours as PNG."""
    return _encoded(Image.fromarray(picture), "PNG", optimize=True)


def jpeg(pixels: NDArray[np.uint8], size: tuple[int, int]) -> bytes:
    """Return a photograph, brought to height and width of `size`, as JPEG."""
    height, width = size
    return _encoded(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC), "JPEG", quality=85)


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()
