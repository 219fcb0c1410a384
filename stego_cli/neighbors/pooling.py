"""One vector per image: the mean of its feature map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from stego_cli.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor

LEAST_NORM = 1e-12  # as in the STEGO reference; a vector of zeros stays one


def pool(features: Tensor) -> Tensor:
    """Average feature maps over their positions and bring the means to unit length.

    Args:
        features: Shape (B, C, h, w), any floating type.

    Returns:
        Shape (B, C), float32. A map of zeros gives a vector of zeros, one with values that are not finite gives
        values that are not finite.

    Raises:
        ShapeError: If the maps have no position, or there are not four dimensions.

    Example:
        >>> import torch
        >>> pool(torch.tensor([[[[1.0, 5.0]], [[0.0, 8.0]]]]))  # the mean is (3, 4)
        tensor([[0.6000, 0.8000]])
    """
    if features.ndim != 4 or 0 in features.shape[1:]:
        raise ShapeError(
            f"feature maps have the shape {tuple(features.shape)}, expected (B, C, h, w) without an empty side\n\n"
            "hint: give the output of a backbone"
        )
    return functional.normalize(features.float().mean((2, 3)), dim=1, eps=LEAST_NORM)  # (B, C, h, w) -> (B, C)
