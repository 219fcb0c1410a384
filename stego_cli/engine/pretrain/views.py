"""What pretraining looks at: a piece of an image, in other light, partly hidden, with the words of its patches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from stego_cli.data import views
from stego_cli.engine.pretrain.network import ViewBatch
from stego_cli.engine.threads import executor, in_order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from stego_cli.config.pretrain import PretrainConfig
    from stego_cli.engine.pretrain.words import WordMaps

_LIGHT, _CONTRAST, _COLOUR = 0.3, 0.3, 0.5  # by how much of itself each may change
_AHEAD = 2  # batches made while one is computed


class Piece(NamedTuple):
    """A rectangle of an image, in pixels, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool


@dataclass(frozen=True)
class ViewMaker:
    """Makes the views of one round; the same number gives the same view.

    Attributes:
        config: Sizes and shares.
        maps: The words of every image.
        round: Number of the round, from 0.
        mean: Of the network's input, per channel.
        std: Likewise.
    """

    config: PretrainConfig
    maps: WordMaps
    round: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of a view in patches."""
        sizes = self.config.architecture
        rows = sizes.image_size // sizes.patch_size
        return rows, max(round(rows * self.config.aspect), 1)

    def batches(self, first: int, last: int) -> Iterator[ViewBatch]:
        """Yield the batches of the steps from `first` up to, not including, `last`, made ahead of time."""
        with executor(self.config.workers) as pool:
            yield from in_order(range(first, last), self.batch, pool, _AHEAD + 1)

    def batch(self, step: int) -> ViewBatch:
        """Return the views of one step."""
        random = np.random.default_rng((self.config.seed, self.round, step))
        made = [self._view(random) for _ in range(self.config.batch_size)]
        seen, words, order = (np.stack(each) for each in zip(*made, strict=True))
        images = torch.from_numpy(seen) if self.maps.features else views.normalise(seen, self.mean, self.std)
        return ViewBatch(images, torch.from_numpy(words), torch.from_numpy(order))

    def _view(self, random: np.random.Generator) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
        """Return pixels (H, W, 3) or features (C, h, w), the words (h * w,) of the patches, and their order."""
        index = int(random.integers(len(self.maps)))
        size = self.maps.size(index)
        piece = draw_piece(*size, self.config, random)
        words = words_of(self.maps.words[index], size, piece, self.grid)
        seen = self._features(index, piece) if self.maps.features else self._pixels(index, piece, random)
        if piece.mirrored:
            words = words[:, ::-1]
        order = hiding_order(self.grid, self.config.block, random)
        return seen, words.astype(np.int64).ravel(), order

    def _pixels(self, index: int, piece: Piece, random: np.random.Generator) -> NDArray[np.uint8]:
        """Return a piece of an image at the size of a view, in other light."""
        pixels = self.maps.image(index)
        cut = pixels[piece.top : piece.top + piece.height, piece.left : piece.left + piece.width]
        rows, columns = self.grid
        patch = self.config.architecture.patch_size
        seen = np.asarray(Image.fromarray(cut).resize((columns * patch, rows * patch), Image.Resampling.BILINEAR))
        return other_light(seen[:, ::-1] if piece.mirrored else seen, random)

    def _features(self, index: int, piece: Piece) -> NDArray[np.float32]:
        """Return the features of a piece at the patches of a view; the filter bank's mirror like the image."""
        seen = features_of(self.maps.features[index].numpy(), self.maps.size(index), piece, self.grid)
        return seen[..., ::-1] if piece.mirrored else seen


def draw_piece(height: int, width: int, config: PretrainConfig, random: np.random.Generator) -> Piece:
    """Draw a rectangle of an image of this size.

    Args:
        height: Of the image.
        width: Of the image.
        config: About its aspect, how far it may be off, and how small it may be.
        random: Where chance comes from.
    """
    tallest = min(height, width / config.aspect)
    scale = math.sqrt(random.uniform(config.least_area, 1))
    stretch = math.exp(random.uniform(-0.5, 0.5) * math.log(config.stretch))
    tall = min(max(round(tallest * scale / stretch), 1), height)
    wide = min(max(round(tallest * config.aspect * scale * stretch), 1), width)
    top, left = int(random.integers(height - tall + 1)), int(random.integers(width - wide + 1))
    return Piece(top, left, tall, wide, bool(random.random() < 0.5))


def words_of(
    words: NDArray[np.integer], size: tuple[int, int], piece: Piece, grid: tuple[int, int]
) -> NDArray[np.integer]:
    """Return the word under the centre of each patch of a piece, not yet mirrored.

    Args:
        words: Of the whole image, shape (h, w).
        size: Height and width of the image in pixels.
        piece: The piece.
        grid: Its height and width in patches.

    Returns:
        Shape `grid`.

    Example:
        >>> words_of(np.arange(4).reshape(2, 2), (20, 20), Piece(10, 0, 10, 20, False), (2, 2)).tolist()
        [[2, 3], [2, 3]]
    """
    down, across = _centres(piece, grid)
    rows = (down * words.shape[0] / size[0]).astype(int)
    columns = (across * words.shape[1] / size[1]).astype(int)
    return words[np.ix_(rows.clip(max=words.shape[0] - 1), columns.clip(max=words.shape[1] - 1))]


def features_of(
    maps: NDArray[np.floating], size: tuple[int, int], piece: Piece, grid: tuple[int, int]
) -> NDArray[np.float32]:
    """Return the features at the centre of each patch of a piece, not yet mirrored, between cells along straight lines.

    Args:
        maps: Of the whole image, shape (C, h, w).
        size: Height and width of the image in pixels.
        piece: The piece.
        grid: Its height and width in patches.

    Returns:
        Shape (C, *grid).
    """
    down, across = _centres(piece, grid)
    tall, wide = maps.shape[1:]
    rows = (down * tall / size[0] - 0.5).clip(0, tall - 1)
    columns = (across * wide / size[1] - 0.5).clip(0, wide - 1)
    return _between(_between(maps.astype(np.float32), rows, axis=1), columns, axis=2)


def _centres(piece: Piece, grid: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where the patches of a piece are centred in its image, down and across, in pixels."""
    down, across = ((np.arange(count) + 0.5) / count for count in grid)
    return piece.top + down * piece.height, piece.left + across * piece.width


def _between(values: NDArray[np.float32], places: NDArray[np.float64], axis: int) -> NDArray[np.float32]:
    """Interpolate along one axis."""
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    share = np.expand_dims((places - low).astype(np.float32), tuple(range(1, values.ndim - axis)))
    found: NDArray[np.float32] = np.take(values, low, axis) * (1 - share) + np.take(values, high, axis) * share
    return found


def other_light(pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Change brightness, contrast and strength of colour at random; what an image shows stays the same."""
    light, contrast, colour = (1 + random.uniform(-most, most) for most in (_LIGHT, _CONTRAST, _COLOUR))
    values = pixels.astype(np.float32) * np.float32(light)
    mean = values.mean()
    values = (values - mean) * np.float32(contrast) + mean
    grey = values.mean(axis=2, keepdims=True)
    changed: NDArray[np.uint8] = (grey + (values - grey) * np.float32(colour)).clip(0, 255).astype(np.uint8)
    return changed


def hiding_order(grid: tuple[int, int], block: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return the patches (h * w,) in random order, squares of `block` x `block` together as far as they fit."""
    height, width = grid
    blocks = random.random((-(-height // block), -(-width // block)))
    rank = blocks.repeat(block, 0).repeat(block, 1)[:height, :width].ravel()
    return np.argsort(rank + random.random(height * width) * 1e-6, kind="stable").astype(np.int64)
