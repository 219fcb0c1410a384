"""A backbone without learned weights: colour, contrast, gradient orientation and position of every 8x8 cell."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from stego_cli.backbones.base import Backbone

CONTEXTS = (1, 3, 7)
ORIENTATIONS = 4
_XYZ_FROM_RGB = (  # linear sRGB to CIE XYZ, rows divided by the D65 white point
    (0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883),
)


class Filterbank(Backbone):
    """The classical baseline: hand-made features per cell, pooled over several context sizes.

    The raw features go through one affine map, `(raw - centre) * projection`, that `fit_projection` finds without
    labels and that is saved with the model; before that it changes nothing.

    Attributes:
        centre: Buffer of shape (R,).
        projection: Buffer of shape (C, R).
    """

    patch_size = 8
    raw_channels = 3 * (6 + 2 * (1 + ORIENTATIONS)) + 2 * (1 + ORIENTATIONS) + 2
    centre: Tensor
    projection: Tensor

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.channels = self.raw_channels if dim is None else dim
        self.register_buffer("centre", torch.zeros(self.raw_channels))
        self.register_buffer("projection", torch.eye(self.channels, self.raw_channels))

    def features(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to projected features (B, C, H / 8, W / 8)."""
        return self.project(self.raw_features(images))

    def project(self, raw: Tensor) -> Tensor:
        """Map raw features (B, R, h, w) to features (B, C, h, w)."""
        return torch.einsum("brhw,cr->bchw", raw - self.centre[:, None, None], self.projection)

    def raw_features(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to features (B, R, H / 8, W / 8) in their natural ranges."""
        mean, std = images.new_tensor(self.mean), images.new_tensor(self.std)
        lab = lab_from_rgb((images * std[:, None, None] + mean[:, None, None]).clamp(0, 1))
        light = lab[:, :1]
        cell = self.patch_size
        fine = torch.cat(
            [
                *_mean_and_deviation(lab, cell),
                _gradients(light, cell),
                _gradients(functional.avg_pool2d(light, 2), cell // 2),
            ],
            dim=1,
        )
        coarse = _gradients(functional.avg_pool2d(light, 4), cell // 4)
        pooled = [_box_mean(fine, context) for context in CONTEXTS]
        return torch.cat([*pooled, _box_mean(coarse, 1), _box_mean(coarse, 3), _position(fine)], dim=1)

    @torch.no_grad()
    def fit_projection(self, raw: Tensor) -> None:
        """Set the affine map so that each channel of the given raw features (N, R) has mean 0 and deviation 1."""
        deviation, mean = torch.std_mean(raw.double(), dim=0, correction=0)
        self.centre.copy_(mean)
        self.projection.copy_((1 / deviation.clamp(min=1e-8)).diag())


def lab_from_rgb(rgb: Tensor) -> Tensor:
    """Map sRGB (B, 3, H, W) in [0, 1] to CIE L*a*b* over 100, so that lightness runs from 0 to 1.

    Example:
        >>> lab_from_rgb(torch.ones(1, 3, 1, 1)).flatten().round(decimals=2).abs().tolist()
        [1.0, 0.0, 0.0]
    """
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = torch.einsum("ij,bjhw->bihw", rgb.new_tensor(_XYZ_FROM_RGB), linear)
    curve = torch.where(xyz > 0.008856, xyz.clamp(min=0.008856) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = curve.unbind(dim=1)
    return torch.stack([1.16 * y - 0.16, 5 * (x - y), 2 * (y - z)], dim=1)


def _mean_and_deviation(image: Tensor, cell: int) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel in each cell."""
    mean = functional.avg_pool2d(image, cell)
    variance = functional.avg_pool2d(image.square(), cell) - mean.square()
    return mean, (variance.clamp(min=0) + 1e-6).sqrt()


def _gradients(light: Tensor, cell: int) -> Tensor:
    """Return the log gradient strength of each cell, in all and by orientation: (B, 1 + orientations, h, w)."""
    padded = functional.pad(light, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    strength = (across.square() + down.square() + 1e-8).sqrt()
    parts = [strength]
    for index in range(ORIENTATIONS):
        angle = math.pi * index / ORIENTATIONS
        along = (across * math.cos(angle) + down * math.sin(angle)).abs()
        parts.append((along / strength) ** 4 * strength)
    return (functional.avg_pool2d(torch.cat(parts, dim=1), cell) + 1e-4).log()


def _box_mean(features: Tensor, size: int) -> Tensor:
    """Return the mean over a square of cells around each cell, cut off at the border."""
    return functional.avg_pool2d(features, size, stride=1, padding=size // 2, count_include_pad=False)


def _position(features: Tensor) -> Tensor:
    """Return height in the image and distance from its vertical centre line, both (B, 1, h, w) side by side."""
    batch, _, height, width = features.shape
    y = (torch.arange(height, device=features.device, dtype=features.dtype) + 0.5) / height * 2 - 1
    x = (torch.arange(width, device=features.device, dtype=features.dtype) + 0.5) / width * 2 - 1
    grid = torch.stack([y[:, None].expand(height, width), x.abs().expand(height, width)])
    return grid.expand(batch, -1, -1, -1)
