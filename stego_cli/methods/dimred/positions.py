"""Which positions of which training images a projection is fitted to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from stego_cli.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from stego_cli.methods.base import FeatureSource

SEED = 0  # the same positions whatever the seed of a run, so that runs share a fit
DOING = "Reading features to fit to"


def positions_of(maps: Tensor) -> Tensor:
    """Return features (B, C, h, w) as vectors (B * h * w, C), in the order image, row, column."""
    return maps.movedim(1, -1).flatten(0, 2)


def spread_positions(source: FeatureSource, most_images: int, most_positions: int) -> Iterator[Tensor]:
    """Yield positions drawn from images all over the training split, as many from each, chunk by chunk (n, C).

    The draw is a pure function of the number of images and of the positions of each.

    Args:
        source: The features.
        most_images: Of more images, so many are drawn.
        most_positions: All positions are taken if they are no more.
    """
    random = np.random.default_rng(SEED)
    count = min(len(source.images), most_images, most_positions)
    images = source.images[np.sort(random.permutation(len(source.images))[:count])]
    each, more = divmod(most_positions, count)
    at = 0
    for maps in source.maps(images, DOING):
        flat = maps.flatten(2).mT  # (b, h * w, C)
        shares = [min(each + (number < more), flat.shape[1]) for number in range(at, at + len(flat))]
        at += len(flat)
        yield torch.cat([_drawn(random, one, share) for one, share in zip(flat, shares, strict=True)])


def first_positions(source: FeatureSource, most_images: int) -> Iterator[Tensor]:
    """Yield all positions of the first images, as the study: no batch is read that would exceed the limit.

    Raises:
        ConfigError: If the limit is less than one batch.
    """
    count, size = len(source.images), source.batch_size
    if count > most_images:
        count = most_images // size * size
    if not count:
        raise ConfigError(
            f"method.fit_images is {most_images}, but whole batches of {size} images are read\n\n"
            f"hint: use --set method.fit_images={size} or more, or a smaller --batch-size"
        )
    for maps in source.maps(source.images[:count], DOING):
        yield positions_of(maps)


def _drawn(random: np.random.Generator, vectors: Tensor, count: int) -> Tensor:
    """Return some of the vectors (n, C) in their own order, each at most once."""
    if count == len(vectors):
        return vectors
    return vectors[torch.from_numpy(np.sort(random.permutation(len(vectors))[:count]))]
