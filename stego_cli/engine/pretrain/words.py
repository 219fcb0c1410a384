"""Visual words: what a patch looks like to a teacher, as one of a few hundred kinds.

The teacher of the first round is the filter bank, every channel alike; that of a later round is the network that the
round before ended with, which has seen more of the image around a patch (Hsu et al., "HuBERT", 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from stego_cli.backbones.base import Backbone
from stego_cli.data import views
from stego_cli.data.images import read_image
from stego_cli.engine.threads import executor, in_order
from stego_cli.errors import ImageError, StegoError
from stego_cli.features.memory import fits_in_memory
from stego_cli.files import printable
from stego_cli.probes.kmeans import spherical_kmeans

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stego_cli.backbones.filterbank import Filterbank
    from stego_cli.config.pretrain import PretrainConfig
    from stego_cli.progress import Report

Maps = tuple[Tensor, ...]
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
        features: What the network's stem says of each, (C, h, w) in half precision; empty for one that reads pixels.
    """

    paths: tuple[Path, ...]
    words: tuple[NDArray[np.int32], ...]
    resolution: int
    patch_size: int
    features: Maps = ()

    def __len__(self) -> int:
        return len(self.paths)

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an image in pixels at working size."""
        height, width = self.words[index].shape
        return height * self.patch_size, width * self.patch_size

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
def read_features(
    paths: Sequence[Path],
    teacher: Callable[[Tensor], Tensor],
    config: PretrainConfig,
    device: torch.device,
    report: Report,
) -> Maps:
    """Return what a teacher says of every image, at the network's patches: (C, h, w) each, in half precision.

    Args:
        paths: The images.
        teacher: Maps normalised images (1, 3, H, W) to features (1, C, h, w).
        config: At which resolution.
        device: Where the teacher is.
        report: Told about progress.

    Raises:
        StegoError: If the features of all images do not fit into memory.
    """
    maps: list[Tensor] = []
    patch = config.architecture.patch_size
    with executor(config.workers) as pool:
        pictures = in_order(paths, lambda path: read_at(path, config.resolution, patch), pool, config.workers + 1)
        for pixels in report.track(pictures, "Looking at the patches", len(paths)):
            image = views.normalise(pixels[None], Backbone.mean, Backbone.std).to(device)
            maps.append(_at_patches(teacher(image), pixels.shape, patch).cpu())
            if len(maps) == 1:
                _check_memory(maps[0].nbytes * len(paths), len(paths))
    return tuple(maps)


def bank_features(
    paths: Sequence[Path],
    bank: Filterbank,
    config: PretrainConfig,
    device: torch.device,
    report: Report,
    *,
    fit: bool,
) -> Maps:
    """Return what the filter bank says of every image.

    Args:
        paths: The images.
        bank: On the device; changed by `fit`.
        config: At which resolution.
        device: Where the bank is.
        report: Told about progress.
        fit: Bring the channels to one scale first, by these images.
    """
    maps = list(read_features(paths, bank.raw_features, config, device, report))
    if fit:
        bank.fit_projection(_sample(maps, config.seed).to(device))
    with torch.inference_mode():
        for number, raw in enumerate(maps):  # each in place of the other, as memory was counted for one of them
            maps[number] = bank.project(raw[None].to(device))[0].half().cpu()
    return tuple(maps)


def sort_into_words(features: Maps, config: PretrainConfig) -> tuple[NDArray[np.int32], ...]:
    """Group the patches of all images by spherical k-means, and return the word of each patch, (h, w) per image.

    Raises:
        StegoError: If there are fewer patches than words.
    """
    sampled = _sample(features, config.seed)
    if len(sampled) < config.words:
        raise StegoError(
            f"{len(sampled)} patches in {len(features)} images, and {config.words} words to sort them into\n\n"
            f"hint: give more images, a larger --res, or --set words=N with at most {len(sampled)}"
        )
    found = spherical_kmeans(sampled, config.words, config.seed, restarts=1, iterations=ITERATIONS)
    return tuple(_nearest(each, found.centroids) for each in features)


def _check_memory(needed: int, images: int) -> None:
    if not fits_in_memory(needed):
        raise StegoError(
            f"the features of {images} images take {needed / 2**30:.1f} GiB, more than there is memory\n\n"
            "hint: give fewer images (some thousands teach as much), or a smaller --res"
        )


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
