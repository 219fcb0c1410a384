"""Augmented images and where each of their pixels comes from, for the alignment loss.

As in the reference's code: a horizontal flip, a crop of 80 % to 100 % of the area resized to the square, and colour
changes, of which the first two move pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

STREAM = 102  # beside those of `draws` and of the sampler
LEAST_AREA = 0.8
LEAST_ASPECT = 3 / 4
JITTER = 0.3  # of brightness, contrast and saturation
GREY_CHANCE, BLUR_CHANCE = 0.2, 0.5
BLUR = (0.1, 2.0)  # deviation in pixels


def augment(
    squares: NDArray[np.uint8], seed: int, step: int, images: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], Tensor]:
    """Return augmented images and where their pixels come from; a pure function of its arguments.

    Args:
        squares: Shape (B, side, side, 3), RGB.
        seed: Of the run.
        step: Number of the step.
        images: Their numbers in the dataset, shape (B,): each has draws of its own.

    Returns:
        Images of the same shape, and coordinates (B, side, side, 2) float32 as `losses.alignment_loss` takes them:
        (y, x), from -1, the centre of the first pixel, to 1, that of the last one.
    """
    side = squares.shape[1]
    changed = np.empty_like(squares)
    coords = np.empty((len(squares), side, side, 2), np.float32)
    for place, image in enumerate(images):
        sequence = np.random.SeedSequence((seed, step, int(image)), spawn_key=(STREAM,))
        random = np.random.Generator(np.random.Philox(sequence))
        box, flip = _box(random, side), bool(random.random() < 0.5)
        picture = Image.fromarray(squares[place]).resize((side, side), Image.Resampling.BILINEAR, box=box)
        changed[place] = np.asarray(_recoloured(picture, random))
        coords[place] = _origins(box, side)
        if flip:
            changed[place] = changed[place][:, ::-1].copy()
            coords[place] = coords[place][:, ::-1].copy()
    return changed, torch.from_numpy(coords)


def _box(random: np.random.Generator, side: int) -> tuple[float, float, float, float]:
    """Draw a part of a square: left, top, right and bottom, in pixels."""
    area = random.uniform(LEAST_AREA, 1)
    aspect = np.exp(random.uniform(np.log(LEAST_ASPECT), -np.log(LEAST_ASPECT)))
    width, height = (min(1.0, float(np.sqrt(area * ratio))) * side for ratio in (aspect, 1 / aspect))
    left, top = random.uniform(0, 1) * (side - width), random.uniform(0, 1) * (side - height)
    return left, top, min(left + width, side), min(top + height, side)


def _origins(box: tuple[float, float, float, float], side: int) -> NDArray[np.float32]:
    """Return where in the square the pixels of a part of it come from, once it is resized: (side, side, 2)."""
    left, top, right, bottom = box
    cells = (np.arange(side) + 0.5) / side
    last = max(side - 1, 1)
    rows, columns = (
        (begin + cells * (end - begin) - 0.5) * 2 / last - 1 for begin, end in ((top, bottom), (left, right))
    )
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).astype(np.float32)


def _recoloured(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """Change colours, and sharpness, at random."""
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = kind(picture).enhance(random.uniform(1 - JITTER, 1 + JITTER))
    if random.random() < GREY_CHANCE:
        picture = picture.convert("L").convert("RGB")
    if random.random() < BLUR_CHANCE:
        picture = picture.filter(ImageFilter.GaussianBlur(random.uniform(*BLUR)))
    return picture
