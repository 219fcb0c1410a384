"""The terms beside the correspondence loss: contrastive CRF, reconstruction, alignment with an augmented image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from stego_cli.methods.stego.correspondence import MIN_NORM
from stego_cli.methods.stego.draws import CRF_SIDE
from stego_cli.methods.stego.sampling import at_cells, at_coords, edges_to_corners, map_source, size_of

if TYPE_CHECKING:
    from torch import Tensor

    from stego_cli.config.losses import CrfLossConfig
    from stego_cli.config.words import Protocol
    from stego_cli.methods.stego.sampling import Size

KERNEL_BUDGET = 2**22  # elements of kernel matrices that lie in memory at once


def crf_loss(config: CrfLossConfig, images: Tensor, code: Tensor, cells: Tensor) -> Tensor:
    """Contrastive CRF loss: codes agree where place and colour do (STEGO's code, after Krahenbuhl & Koltun 2011).

    Image and code are read where a resize of both to a square of `CRF_SIDE` cells would put the sampled cells, without
    making the resized maps.

    Args:
        config: Kernel.
        images: Normalised images, shape (B, 3, H, W); any size.
        code: Shape (B, K, h, w).
        cells: Sampled cells of the square, row and column, shape (2, n), the same for the whole batch.

    Returns:
        A scalar: the negative mean of cosine times kernel over all pairs, each cell with itself included.
    """
    with torch.no_grad():
        guidance = on_square(images, cells)
    return pairwise_crf_loss(
        config, guidance, functional.normalize(on_square(code, cells), dim=-1, eps=MIN_NORM), cells
    )


def on_square(maps: Tensor, cells: Tensor) -> Tensor:
    """Return what maps (B, C, h, w), resized bilinearly to `CRF_SIDE`, hold at cells (2, n): shape (B, n, C)."""
    size = size_of(maps)
    rows, columns = ((cells[axis] + 0.5) * (size[axis] / CRF_SIDE) - 0.5 for axis in (0, 1))
    return map_source(maps).sample(at_cells(rows.expand(len(maps), -1), columns.expand(len(maps), -1), size))


def pairwise_crf_loss(config: CrfLossConfig, guidance: Tensor, code: Tensor, cells: Tensor) -> Tensor:
    """Return the negative mean of <code, code> times kernel over all pairs of positions.

    The kernel is symmetric and has no gradient, so that of the code is twice the filtered code. Kernel matrices are
    made, used and dropped a few images at a time; none is kept for the backward pass.

    Args:
        config: Kernel.
        guidance: Colours, shape (B, n, 3).
        code: Shape (B, n, K); used as it is.
        cells: Positions, shape (2, n).
    """
    batch, count, _ = code.shape
    with torch.no_grad():
        near = squared_distances(cells)
        at_once = max(KERNEL_BUDGET // count**2, 1)
        parts = zip(torch.split(guidance, at_once), torch.split(code.detach(), at_once), strict=True)
        filtered = torch.cat([crf_kernel(config, near, colours) @ codes for colours, codes in parts])
        value = (code * filtered).sum()
    scale = -1.0 / (batch * count**2)
    twice = 2 * (code * filtered).sum()  # has the gradient; its own value is taken off again
    return scale * (twice - twice.detach() + value)


def crf_kernel(config: CrfLossConfig, distances: Tensor, guidance: Tensor) -> Tensor:
    """Return how alike pairs of positions are, by place and colour, less the shift.

    Args:
        config: Weights and variances.
        distances: Squared distances of the positions, shape (n, n).
        guidance: Colours, shape (B, n, 3).

    Returns:
        Shape (B, n, n).
    """
    exponent = (distances / (-2 * config.alpha)).repeat(len(guidance), 1, 1)
    scaled = guidance / (2 * config.beta) ** 0.5
    for channel in scaled.unbind(-1):  # one at a time: (B, n, n) in memory, not (B, n, n, 3)
        difference = channel[:, :, None] - channel[:, None]
        exponent.addcmul_(difference, difference, value=-1)
    appearance = exponent.exp_()
    smoothness = config.smoothness_weight * torch.exp(distances / (-2 * config.gamma)) - config.shift
    return appearance.mul_(config.appearance_weight).add_(smoothness)


def squared_distances(cells: Tensor) -> Tensor:
    """Return squared distances (n, n) between cells (2, n)."""
    return (cells[:, :, None] - cells[:, None]).square().sum(0).float()


def reconstruction_loss(rebuilt: Tensor, features: Tensor) -> Tensor:
    """Return the negative mean cosine between what a decoder makes of the code and the features, both (B, C, h, w)."""
    features = features.detach()
    products = (rebuilt * features).sum(1)
    for vectors in (rebuilt, features):
        products = products / torch.linalg.vector_norm(vectors, dim=1).clamp(min=MIN_NORM)
    return -products.mean()


def alignment_loss(code: Tensor, augmented: Tensor, coords: Tensor, protocol: Protocol) -> Tensor:
    """Return the negative mean cosine between the code of augmented images and the code they should have.

    `native` is exact: a code that moves with the image gives -1 under the identity, flips and shifts by whole cells.
    `paper` repeats the reference, which reads (y, x) as (x, y) on a transposed grid, so that a horizontal flip
    becomes a vertical one, and takes cell centres for positions that count from the corner cells' centres, so that
    even the identity does not give -1.

    Args:
        code: Code of the images, shape (B, K, h, w).
        augmented: Code of the augmented images, shape (B, K, i, j).
        coords: For every pixel of the augmented image, which is as large as the image, where in the image it comes
            from: (y, x), both axes from -1, the first pixel's centre, to 1, the last one's; shape (B, H, W, 2).
        protocol: How coordinates are read.
    """
    cells = (augmented.shape[2],) * 2 if protocol == "paper" else size_of(augmented)
    small = functional.interpolate(coords.movedim(-1, 1).float(), cells, mode="bilinear", align_corners=False)
    places = small.movedim(1, -1)  # (B, i, j, 2)
    if protocol == "native":
        places = _pixels_to_cells(places.flip(-1), (coords.shape[1], coords.shape[2]), size_of(code)).transpose(1, 2)
    wanted = map_source(code).sample(at_coords(places, size_of(code)))  # (B, i * j, K)
    found = augmented.flatten(2).transpose(1, 2).float()
    wanted, found = (functional.normalize(vectors, dim=-1, eps=MIN_NORM) for vectors in (wanted, found))
    return -(wanted * found).sum(-1).mean()


def _pixels_to_cells(coords: Tensor, image_size: Size, map_size: Size) -> Tensor:
    """Turn (x, y) from pixel centre to pixel centre of an image into (x, y) from cell centre to cell centre."""
    x, y = coords[..., 0] * (1 - 1 / image_size[1]), coords[..., 1] * (1 - 1 / image_size[0])
    return edges_to_corners(torch.stack([x, y], dim=-1), map_size)
