"""A backbone without learned weights: colour, contrast, texture and place of every 8x8 cell.

It is the classical baseline. Three steps make up its features:

1. **Cells.** Mean and deviation of CIE L*a*b*, and gradient strength by orientation at three scales.
2. **The image as its own yardstick.** How far a cell is from what lies at the bottom of the image (mostly ground) and
   at its top (mostly sky), how it compares with the image's mean and its brightest parts, and how strong the strongest
   edge between it and the bottom or top border is. These do not change with exposure as plain colours do.
3. **Regions.** Everything of step 2 averaged over cells that are alike and near, as a bilateral filter does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from stego_cli.backbones.base import Backbone

CONTEXTS = (1, 3, 7)
"""Sides, in cells, of the squares that cells are averaged over."""

MOST_ANCHORS = 1200
"""Regions are averaged over at most this many cells, so that time and memory grow only linearly with the image."""

_XYZ_FROM_RGB = (  # linear sRGB to CIE XYZ, rows divided by the D65 white point
    (0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883),
)
_YARDSTICK = (0.15, 0.05, 0.05, 0.05, 1.0)  # a clear difference in L*, a*, b*, deviation of L*, log gradient
_ALIKE = 0.1  # L*a*b* and its deviation: cells that differ by this much belong together with weight 1/e
_NEAR = 0.3  # likewise for the distance in heights of the image

# Found by random search for clusters that fit the labels of the CamVid training images, the only use of labels here.
_GROUND, _LIGHT, _TEXTURE, _CONTRAST, _BARRIER, _DEVIATION, _OTHERS = 4.0, 1.05, 0.5, 1.0, 1.0, 0.5, 0.05
_CONSTANT = 2.0  # of a channel that is the same everywhere: without it only directions count, and not strengths


@dataclass(frozen=True)
class _Group:
    """Channels that belong together.

    Attributes:
        maps: Shape (B, c, h, w).
        weight: Deviation that the group is to have after `fit_projection`: how much it counts in the angle between
            two features. Shared by its channels.
    """

    maps: Tensor
    weight: float


class Filterbank(Backbone):
    """Hand-made features per cell; see the module's text.

    The raw features go through one affine map that `fit_projection` finds without labels and that is saved with the
    model; before that it changes nothing. Most channels get a small weight: they hardly move clusters, which go by
    angles, and serve the linear probe, to which the scale of a channel is nothing.

    Args:
        even: Give every channel the same weight, so that nothing here was chosen with the help of labels: for a network
            on top, which finds weights of its own.

    Attributes:
        projection: Buffer of shape (C, R).
        offset: Buffer of shape (C,).
    """

    patch_size = 8
    projection: Tensor
    offset: Tensor

    def __init__(self, *, even: bool = False) -> None:
        super().__init__()
        self.even = even
        weights = self._weights()
        self.channels = len(weights) + 1
        self.register_buffer("projection", torch.eye(self.channels, len(weights)))
        self.register_buffer("offset", torch.zeros(self.channels))

    def features(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to features (B, C, H / 8, W / 8)."""
        return self.project(self.raw_features(images))

    def project(self, raw: Tensor) -> Tensor:
        """Map raw features (B, R, h, w) to features (B, C, h, w)."""
        with torch.autocast(raw.device.type, enabled=False):  # weights range over two orders of magnitude
            return torch.einsum("brhw,cr->bchw", raw.float(), self.projection) + self.offset[:, None, None]

    def raw_features(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to features (B, R, H / 8, W / 8) in their natural ranges."""
        with torch.autocast(images.device.type, enabled=False):
            return torch.cat([group.maps for group in self._groups(images.float())], dim=1)

    @torch.no_grad()
    def fit_projection(self, raw: Tensor) -> None:
        """Set the affine map from raw features of many positions, shape (N, R); no label is used.

        Every channel is brought to mean 0 and to the deviation that its group's weight asks for. The last feature is
        constant.
        """
        deviation, mean = torch.std_mean(raw.double(), dim=0, correction=0)
        scale = self._weights().to(raw.device) / deviation.clamp(min=1e-6)
        projection = scale.diag()
        constant = mean.new_tensor([_CONSTANT])
        self.projection.copy_(torch.cat([projection, torch.zeros_like(mean)[None]]))
        self.offset.copy_(torch.cat([-(projection @ mean), constant]))

    def _weights(self) -> Tensor:
        """Return the deviation that each raw channel is to have; a group's weight is shared by its channels."""
        groups = self._groups(torch.zeros(1, 3, self.patch_size, self.patch_size))
        if self.even:
            return torch.ones(sum(group.maps.shape[1] for group in groups), dtype=torch.float64)
        parts = [
            torch.full((group.maps.shape[1],), group.weight / math.sqrt(group.maps.shape[1]), dtype=torch.float64)
            for group in groups
        ]
        return torch.cat(parts)

    def _groups(self, images: Tensor) -> list[_Group]:
        """Compute all features of normalised images, in the order of the raw channels."""
        mean, std = images.new_tensor(self.mean), images.new_tensor(self.std)
        lab = lab_from_rgb((images * std[:, None, None] + mean[:, None, None]).clamp(0, 1))
        cells = _cells(lab, self.patch_size)
        relative = _relative(cells)
        look = torch.cat([cells.colour, cells.deviation], dim=1)
        own = torch.cat([look, *cells.gradients], dim=1)
        heavy = [relative.ground, relative.light, relative.texture, relative.barrier, cells.deviation]
        light = torch.cat([relative.others, cells.colour, *cells.gradients], dim=1)
        regions = _region_means(torch.cat([*heavy, light], dim=1), look)
        parts = torch.split(regions, [maps.shape[1] for maps in (*heavy, light)], dim=1)
        return [
            _Group(_in_contexts(parts[0]), _GROUND),
            _Group(parts[1], _LIGHT),
            _Group(parts[2], _TEXTURE),
            _Group(relative.contrast, _CONTRAST),
            _Group(parts[3], _BARRIER),
            _Group(parts[4], _DEVIATION),
            _Group(torch.cat([_in_contexts(own), *heavy[:4], relative.others, parts[5], _place(own)], 1), _OTHERS),
        ]


@dataclass(frozen=True)
class _Cells:
    """What is in each cell: mean and deviation of L*a*b*, log gradients at three scales; each (B, c, h, w)."""

    colour: Tensor
    deviation: Tensor
    gradients: tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class _Relative:
    """Cells compared with their own image; each (B, c, h, w).

    Attributes:
        ground: Log difference to what lies at the bottom.
        light: Log difference to the brightest parts.
        texture: Log gradients less the image's mean.
        contrast: Deviation of L*a*b*, standardised over the image.
        barrier: Strongest edge, at two scales, on the way down to the bottom of the image.
        others: Log difference to the top, colour less the image's mean, strongest edge on the way up.
    """

    ground: Tensor
    light: Tensor
    texture: Tensor
    contrast: Tensor
    barrier: Tensor
    others: Tensor


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


def _cells(lab: Tensor, side: int) -> _Cells:
    """Describe each cell of `side` x `side` pixels of an L*a*b* image (B, 3, H, W)."""
    light = lab[:, :1]
    colour = functional.avg_pool2d(lab, side)
    variance = functional.avg_pool2d(lab.square(), side) - colour.square()
    fine, middle, coarse = (_gradients(functional.avg_pool2d(light, step), side // step) for step in (1, 2, 4))
    return _Cells(colour, (variance.clamp(min=0) + 1e-6).sqrt(), (fine, middle, coarse))


def _gradients(light: Tensor, side: int) -> Tensor:
    """Return the log gradient strength of each cell: in all, across, down and on the diagonals, (B, 4, h, w).

    The two diagonals go together, so that a mirror image has mirrored features.
    """
    padded = functional.pad(light, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]).square() / 4
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]).square() / 4
    power = across + down + 1e-8
    strength = power.sqrt()
    # Fourth powers of the cosines between the gradient and each direction: narrow enough to tell four apart.
    diagonal = (across.square() + 6 * across * down + down.square()) / 4
    parts = [strength, *(part / power.square() * strength for part in (across.square(), down.square(), diagonal))]
    return (functional.avg_pool2d(torch.cat(parts, dim=1), side) + 1e-4).log()


def _relative(cells: _Cells) -> _Relative:
    """Compare the cells of each image with the rest of that image."""
    fine, middle, coarse = cells.gradients
    light = cells.colour[:, :1]
    brightest = light.flatten(2).quantile(0.95, dim=2)[..., None, None]
    look = torch.cat([cells.colour, cells.deviation[:, :1], fine[:, :1]], dim=1)
    height, width = light.shape[-2:]
    bottom = look[..., int(height * 0.75) :, width // 4 : width - width // 4].flatten(2).median(dim=2).values
    top = look[..., : max(height // 4, 1), :].mean(dim=(2, 3))
    edges = _box_mean(torch.cat([middle[:, :1], coarse[:, :1]], dim=1), 3)
    return _Relative(
        ground=_log_difference(look, bottom),
        light=((brightest - light).clamp(min=0) + 0.02).log(),
        texture=middle - _image_mean(middle),
        contrast=(cells.deviation - _image_mean(cells.deviation))
        / (cells.deviation.std(dim=(2, 3), keepdim=True, correction=0) + 1e-3),
        barrier=edges.flip(2).cummax(dim=2).values.flip(2),
        others=torch.cat(
            [_log_difference(look, top), cells.colour - _image_mean(cells.colour), edges.cummax(dim=2).values], dim=1
        ),
    )


def _image_mean(maps: Tensor) -> Tensor:
    """Return the mean over each image, (B, c, 1, 1)."""
    return maps.mean(dim=(2, 3), keepdim=True)


def _log_difference(look: Tensor, other: Tensor) -> Tensor:
    """Return how much each cell's look (B, 5, h, w) differs from one look (B, 5), as a logarithm, (B, 1, h, w)."""
    steps = (look - other[..., None, None]) / look.new_tensor(_YARDSTICK)[:, None, None]
    return (steps.square().sum(dim=1, keepdim=True).sqrt() + 0.3).log()


def _region_means(maps: Tensor, look: Tensor) -> Tensor:
    """Average maps (B, c, h, w) over cells of similar look (B, d, h, w) nearby, twice.

    This is a bilateral filter (Tomasi & Manduchi, ICCV 1998) over cells in place of pixels. Of a large map, the
    averages are made over coarser anchors. Images are done one by one, so that none depends on its batch.
    """
    height, width = maps.shape[-2:]
    shrink = min(1.0, math.sqrt(MOST_ANCHORS / (height * width)))
    size = max(int(height * shrink), 1), max(int(width * shrink), 1)
    results = []
    for one, appearance in zip(maps, _with_place(look), strict=True):
        anchors = functional.adaptive_avg_pool2d(appearance, size).flatten(1).T
        values = functional.adaptive_avg_pool2d(one, size).flatten(1).T
        values = _affinity(anchors, anchors) @ values
        results.append((_affinity(appearance.flatten(1).T, anchors) @ values).T.reshape(-1, height, width))
    return torch.stack(results)


def _with_place(look: Tensor) -> Tensor:
    """Put look and place of each cell side by side, in units at which affinity falls to 1/e."""
    batch, _, height, width = look.shape
    y = (torch.arange(height, device=look.device, dtype=look.dtype) + 0.5) / height
    x = (torch.arange(width, device=look.device, dtype=look.dtype) + 0.5) / height
    place = torch.stack([y[:, None].expand(height, width), x.expand(height, width)])
    return torch.cat([look / _ALIKE, place.expand(batch, -1, -1, -1) / _NEAR], dim=1)


def _affinity(queries: Tensor, anchors: Tensor) -> Tensor:
    """Return the weight of each anchor (M, d) for each query (N, d), shape (N, M); rows sum to 1."""
    return torch.softmax(-torch.cdist(queries, anchors).square(), dim=1)


def _in_contexts(maps: Tensor) -> Tensor:
    """Put maps and their means over the larger contexts side by side."""
    return torch.cat([_box_mean(maps, context) for context in CONTEXTS], dim=1)


def _box_mean(maps: Tensor, side: int) -> Tensor:
    """Return the mean over a square of cells around each cell, cut off at the border."""
    return functional.avg_pool2d(maps, side, stride=1, padding=side // 2, count_include_pad=False)


def _place(maps: Tensor) -> Tensor:
    """Return height in the image and distance from its vertical centre line, (B, 2, h, w)."""
    batch, _, height, width = maps.shape
    y = (torch.arange(height, device=maps.device, dtype=maps.dtype) + 0.5) / height * 2 - 1
    x = (torch.arange(width, device=maps.device, dtype=maps.dtype) + 0.5) / width * 2 - 1
    grid = torch.stack([y[:, None].expand(height, width), x.abs().expand(height, width)])
    return grid.expand(batch, -1, -1, -1)
