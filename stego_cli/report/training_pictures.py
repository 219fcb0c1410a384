"""What a model makes of an image while it is trained: the photograph, the clusters and the labels side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from stego_cli.report.label_pictures import label_picture, shrunk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Colours = Sequence[tuple[int, int, int]]

GAP = 4  # white pixels between two pictures


def side_by_side(pixels: NDArray[np.uint8], maps: Sequence[tuple[NDArray[Any], Colours]]) -> NDArray[np.uint8]:
    """Draw an image and label maps of it in a row, at most a few hundred pixels each.

    Args:
        pixels: Shape (H, W, 3), RGB.
        maps: Label maps of any size and shape (h, w), each with a colour for each class; what is no class is striped.

    Returns:
        Shape (h, w, 3), RGB.
    """
    size = shrunk(pixels.shape)
    photograph = Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    row = [np.asarray(photograph)]
    for label_map, colours in maps:
        row += [np.full((size[0], GAP, 3), 255, np.uint8), label_picture(label_map, colours, size)]
    return np.concatenate(row, axis=1)
