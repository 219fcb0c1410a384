"""Visual words: what a patch looks like to a teacher, as one of a few hundred kinds.

The teacher of the first round is the filter bank; that of a later round is the network that the round before ended
with, which has seen more of the image around a patch (Hsu et al., "HuBERT", 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from stego_cli.data import views
from stego_cli.data.images import read_image
from stego_cli.engine.threads import executor, in_order
from stego_cli.errors import ImageError, StegoError
from stego_cli.files import printable
from stego_cli.probes.kmeans import spherical_kmeans

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stego_cli.backbones.base import Backbone
    from stego_cli.config.pretrain import PretrainConfig
    from stego_cli.progress import Report

MOST_POINTS = 60_000
ITERATIONS = 25  # of k-means, after which hardly a patch changes its word


@dataclass(frozen=True)
class WordMaps:
    """The images and the words of their patches.

    Attributes:
        paths: Where the images are.
        words: For each, shape (h, w), int32.
        resolution: Shorter side in pixels at which they are read.
        patch_size: Side of a patch in pixels.
        count: How many words there are.
    """

    paths: tuple[Path, ...]
    words: tuple[NDArray[np.int32], ...]
    resolution: int
    patch_size: int
    count: int

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Read an image at working size, shape (H, W, 3)."""
        return read_at(self.paths[index], self.resolution, self.patch_size)


def read_at(path: Path, resolution: int, patch_size: int) -> NDArray[np.uint8]:
    """Read an image and bring its shorter side to `resolution` and both to whole patches.

    Raises:
        ImageError: If it cannot be read.
    """
    pixels = read_image(path).pixels
    height, width = pixels.shape[:2]
    return views.apply(views.native_view(height, width, resolution, patch_size), pixels)


def usable_images(paths: Sequence[Path], config: PretrainConfig, report: Report) -> tuple[Path, ...]:
    """Return the images that can be read; warn of the others.

    Raises:
        StegoError: If none can.
    """
    usable = []
    with executor(config.workers) as pool:
        found = in_order(paths, _problem, pool, 2 * max(config.workers, 1))
        for path, problem in zip(paths, report.track(found, "Looking at the images", len(paths)), strict=True):
            if problem is None:
                usable.append(path)
            else:
                report.warn(f"{printable(path)} was left out: {problem}")
    if not usable:
        raise StegoError("no image could be used\n\nhint: see the messages above, or give another folder")
    return tuple(usable)


def _problem(path: Path) -> ImageError | None:
    try:
        read_image(path)
    except ImageError as error:
        return error
    return None


@torch.inference_mode()
def make_words(
    paths: tuple[Path, ...], teacher: Backbone, config: PretrainConfig, device: torch.device, report: Report
) -> WordMaps:
    """Sort the patches of all images into words.

    Features are grouped by spherical k-means.

    Args:
        paths: The images.
        teacher: Frozen.
        config: How many words, at which resolution.
        device: Where the teacher is.
        report: Told about progress.

    Raises:
        StegoError: If there are fewer patches than words.
    """
    maps: list[Tensor] = []
    with executor(config.workers) as pool:
        patch = config.architecture.patch_size
        pictures = in_order(paths, lambda path: read_at(path, config.resolution, patch), pool, config.workers + 1)
        for pixels in report.track(pictures, "Sorting patches into words", len(paths)):
            image = views.normalise(pixels[None], teacher.mean, teacher.std).to(device)
            maps.append(_at_patches(teacher(image), pixels.shape, patch).cpu())
    sampled = _sample(maps, config.seed)
    found = spherical_kmeans(sampled, config.words, config.seed, restarts=1, iterations=ITERATIONS)
    words = tuple(_nearest(each, found.centroids) for each in maps)
    return WordMaps(paths, words, config.resolution, patch, config.words)


def _at_patches(features: Tensor, size: tuple[int, ...], patch: int) -> Tensor:
    """Bring features (1, C, h, w) to the grid of the network's patches: (C, H / patch, W / patch), half precision."""
    grid = size[0] // patch, size[1] // patch
    if features.shape[-2:] != grid:
        features = nn.functional.interpolate(features.float(), grid, mode="bilinear", align_corners=False)
    return features[0].half()


def _sample(maps: Sequence[Tensor], seed: int) -> Tensor:
    """Return features of random patches of every image, (n, C) in float32."""
    generator = torch.Generator().manual_seed(seed)
    each = max(1, MOST_POINTS // len(maps))
    points = [one.flatten(1)[:, torch.randperm(one[0].numel(), generator=generator)[:each]] for one in maps]
    return torch.cat(points, dim=1).T.float()


def _nearest(features: Tensor, centroids: Tensor) -> NDArray[np.int32]:
    """Return the word of each patch of a map (C, h, w): (h, w)."""
    nearest = (centroids @ features.flatten(1).float()).argmax(dim=0)  # lengths do not change which is nearest
    found: NDArray[np.int32] = nearest.reshape(features.shape[1:]).numpy().astype(np.int32)
    return found
