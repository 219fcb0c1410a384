"""Position tables at other resolutions than the one they were trained at."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# The DINO reference enlarges the grid by this much before it forms the scale, against a rounding error in old
# interpolation code. The scale itself, not the ratio of sizes, decides where the table is sampled.
DINO_OFFSET = 0.1


def dino_positions(table: Tensor, grid: tuple[int, int], *, square_image: bool) -> Tensor:
    """Interpolate a learned position table as the DINO reference does (Caron et al., 2021, released code).

    Args:
        table: Shape (1, 1 + n * n, C): the class position, then a square grid in row-major order.
        grid: Height and width of the wanted grid, in patches.
        square_image: Whether the image is square. The reference keeps the table only when the number of positions
            agrees and the image is square, so a rectangle with as many patches is interpolated all the same.

    Returns:
        Shape (1, 1 + height * width, C).
    """
    count, channels = table.shape[1] - 1, table.shape[2]
    height, width = grid
    if height * width == count and square_image:
        return table
    side = math.isqrt(count)
    positions = table[:, 1:].reshape(1, side, side, channels).permute(0, 3, 1, 2)  # (1, n*n, C) -> (1, C, n, n)
    positions = nn.functional.interpolate(
        positions,
        scale_factor=((height + DINO_OFFSET) / side, (width + DINO_OFFSET) / side),
        mode="bicubic",
        align_corners=False,
    )
    return torch.cat([table[:, :1], positions.flatten(2).transpose(1, 2)], dim=1)
