"""What a probe says of every pixel, without making the code of every pixel.

Bilinear upsampling is a weighted sum, and so is an inner product: they may change places. A probe of n classes is
therefore applied to the small code (K channels) and its n maps are brought to the size of the image, which takes n
large maps instead of K. The length of the upsampled code, which the cosine of the cluster probe needs, is no sum; but
its square is a quadratic form in four neighbours, so it follows from their inner products.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring maps, channels last, to another size: bilinear, half-pixel centres, borders repeated.

    The same as `interpolate` with align_corners False, three times as fast on a CPU because channels lie side by side.

    Args:
        maps: Shape (B, h, w, n).
        size: Height and width of the result.

    Returns:
        Shape (B, *size, n), contiguous.
    """
    resized = functional.interpolate(maps.permute(0, 3, 1, 2), size, mode="bilinear", align_corners=False)
    return resized.permute(0, 2, 3, 1).contiguous()  # (B, n, H, W) -> (B, H, W, n)


def upsampled_norm(code: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the length of each position's code after bilinear upsampling, without upsampling it.

    Args:
        code: Shape (B, K, h, w).
        size: Height and width after upsampling.

    Returns:
        Shape (B, *size), float32, at least 0.

    Example:
        >>> code = torch.tensor([[[[3.0, 0.0]], [[0.0, 4.0]]]])  # two positions at right angles
        >>> upsampled_norm(code, (1, 4))  # between them the codes are mixed 3 : 1 and 1 : 3
        tensor([[[3.0000, 2.4622, 3.0923, 4.0000]]])
    """
    # The sum of the form cancels where neighbours point in opposite directions, so it is formed in double precision.
    exact = torch.float32 if code.device.type == "mps" else torch.float64
    here = code.to(exact).permute(0, 2, 3, 1)  # (B, K, h, w) -> (B, h, w, K)
    right, below = torch.cat([here[:, :, 1:], here[:, :, -1:]], 2), torch.cat([here[:, 1:], here[:, -1:]], 1)
    across = torch.cat([right[:, 1:], right[:, -1:]], 1)
    above, under, down = _neighbours(code.shape[2], size[0], here)
    left, after, along = _neighbours(code.shape[3], size[1], here)
    up, down = (1 - down)[:, None], down[:, None]
    squares, steps = _inner(here, here), _inner(here, right)
    # First between rows: the square of each mixed row's code, and its product with that of the next column.
    mixed = up**2 * squares[:, above] + 2 * up * down * _inner(here, below)[:, above] + down**2 * squares[:, under]
    diagonal = (_inner(here, across) + _inner(right, below))[:, above]
    beside = up**2 * steps[:, above] + up * down * diagonal + down**2 * steps[:, under]
    total = (1 - along) ** 2 * mixed[:, :, left] + along**2 * mixed[:, :, after]
    total += 2 * along * (1 - along) * beside[:, :, left]
    return total.clamp_(min=0).sqrt_().float()


def _inner(one: Tensor, other: Tensor) -> Tensor:
    """Return the inner product at each position: two (B, h, w, K) -> (B, h, w)."""
    return torch.einsum("bhwk,bhwk->bhw", one, other)


def _neighbours(old: int, new: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `new` positions: the two among `old` on either side, and the weight of the second."""
    # In single precision, as `interpolate` does it.
    source = ((torch.arange(new, dtype=torch.float32, device=like.device) + 0.5) * (old / new) - 0.5).clamp_(min=0)
    first = source.long().clamp_(max=old - 1)
    return first, (first + 1).clamp_(max=old - 1), (source - first).to(like.dtype)
