"""Positions drawn from where a mask is not zero, so that what stands out is compared more often."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from stego_cli.methods.stego.sampling import edges_to_corners

if TYPE_CHECKING:
    from torch import Tensor

    from stego_cli.config.words import Protocol
    from stego_cli.methods.stego.sampling import Size

UNIFORM_SHARE = 0.1  # of the positions, drawn from anywhere all the same


def salient_coords(salience: Tensor, chances: Tensor, map_size: Size, protocol: Protocol) -> Tensor:
    """Pick pixels where the mask is not zero, all alike; any pixel where the whole mask is zero.

    Under `paper`, rows and columns are both divided by the height, and a pixel counts as its upper left corner
    stretched over the map's corner cells, as in the reference: on images wider than high the right part of the
    coordinates lies outside the map and is clamped there. `native` gives the pixel's own place on the map.

    Args:
        salience: Masks of any type, shape (B, H, W).
        chances: Numbers in [0, 1), shape (B, P, 2). The first picks among the salient pixels, listed row by row;
            where there are none, the two pick row and column.
        map_size: Height and width of the feature map.
        protocol: How a pixel becomes a position.

    Returns:
        Positions (x, y) for the sampler, shape (B, P, 2). Nothing here waits for the device.
    """
    height, width = salience.shape[1:]
    ends = (salience != 0).flatten(1).cumsum(1)  # how many salient pixels there are up to each one
    count = ends[:, -1:]
    rank = (chances[..., 0] * count).long().clamp(max=(count - 1).clamp(min=0))
    cell = torch.searchsorted(ends, rank + 1).clamp(max=height * width - 1)
    limits = (height, height if protocol == "paper" else width)  # the reference draws both from the height
    found = (cell // width, cell % width)
    rows, columns = (
        torch.where(count > 0, found[axis], (chances[..., axis] * limits[axis]).long().clamp(max=limits[axis] - 1))
        for axis in (0, 1)
    )
    if protocol == "paper":
        return torch.stack([columns, rows], dim=-1) / height * 2 - 1
    places = torch.stack([(columns + 0.5) / width, (rows + 0.5) / height], dim=-1) * 2 - 1
    return edges_to_corners(places, map_size)


def mix(uniform: Tensor, salient: Tensor, keep: Tensor) -> Tensor:
    """Take the salient position where `keep` exceeds the uniform share, else the uniform one.

    Args:
        uniform: Shape (B, S, S, 2).
        salient: Shape (B, S * S, 2), row by row of the square.
        keep: Numbers in [0, 1), shape (B, S, S).
    """
    return torch.where((keep > UNIFORM_SHARE)[..., None], salient.reshape(uniform.shape), uniform)
