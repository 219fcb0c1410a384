"""A large image through a network in overlapping windows, whose codes are blended into one map.

A transformer's attention grows with the square of the image, and its positions were trained at one size; windows of a
size near that one keep memory and time in bounds. Neighbouring windows overlap by a quarter or more, where each counts
the less the nearer its edge is, so that no edge of a window is an edge in the code.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from stego_cli.errors import StegoError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

OVERLAP = 4  # neighbouring windows share one part in this many


def window_starts(side: int, window: int, patch_size: int) -> list[int]:
    """Return where windows begin along one side, evenly spread, in pixels.

    Args:
        side: The side, in whole patches.
        window: Side of a window, in whole patches; at most `side`.
        patch_size: Windows begin at multiples of it.

    Example:
        >>> window_starts(640, 320, 8)
        [0, 160, 320]
        >>> window_starts(320, 320, 8)
        [0]
    """
    if window >= side:
        return [0]
    step = max(window - window // OVERLAP, patch_size)
    count = -(-(side - window) // step)  # steps from the first window to the last
    room = (side - window) // patch_size
    return [round(index * room / count) * patch_size for index in range(count + 1)]


def whole_patches(pixels: int, patch_size: int) -> int:
    """Return the side of windows in whole patches, rounded down.

    Raises:
        StegoError: If that is none.

    Example:
        >>> whole_patches(333, 8)
        328
    """
    if pixels < patch_size:
        raise StegoError(
            f"windows of {pixels} pixels are smaller than one patch of {patch_size}\n\n"
            f"hint: --tile takes {patch_size} or more; about 320 is what the networks were made for"
        )
    return pixels // patch_size * patch_size


def code_in_windows(code: Callable[[Tensor], Tensor], images: Tensor, window: int, patch_size: int) -> Tensor:
    """Return the code of images that go through a network window by window.

    Args:
        code: Maps images (B, 3, y, x) to code (B, K, y / patch_size, x / patch_size).
        images: Shape (B, 3, H, W), in whole patches.
        window: Longest side of a window in pixels, in whole patches.
        patch_size: Pixels of a patch.

    Returns:
        Shape (B, K, H / patch_size, W / patch_size). The same as `code(images)` when one window holds everything.
    """
    height, width = (min(window, side) for side in images.shape[-2:])
    tops = window_starts(images.shape[-2], height, patch_size)
    lefts = window_starts(images.shape[-1], width, patch_size)
    if len(tops) == len(lefts) == 1:
        return code(images)
    places = [(top, left) for top in tops for left in lefts]
    parts = [code(images[..., top : top + height, left : left + width]) for top, left in places]
    rows, columns = (
        _ramp(side // patch_size, _least_overlap(starts, side) // patch_size, images.device)
        for starts, side in ((tops, height), (lefts, width))
    )
    share = rows[:, None] * columns
    total = parts[0].new_zeros(*parts[0].shape[:2], *(side // patch_size for side in images.shape[-2:]))
    weight = share.new_zeros(total.shape[-2:])
    for (top, left), part in zip(places, parts, strict=True):
        down, across = (
            slice(begin // patch_size, (begin + side) // patch_size) for begin, side in ((top, height), (left, width))
        )
        total[..., down, across] += part * share
        weight[down, across] += share
    return total / weight


def _least_overlap(starts: list[int], window: int) -> int:
    """Return how many pixels neighbouring windows have in common at least; all of them if there is only one."""
    return window - max((after - before for before, after in pairwise(starts)), default=0)


def _ramp(patches: int, overlap: int, device: torch.device) -> Tensor:
    """Return how much each patch of a window counts: less and less over the overlap at both ends, never nothing."""
    places = torch.arange(patches, device=device) + 0.5
    return torch.minimum(places, patches - places).clamp_(max=max(overlap, 1))
