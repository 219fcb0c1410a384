"""The contrastive correspondence loss of STEGO (Hamilton et al., ICLR 2022, section 3.2, equations 2 to 4).

Positions whose features are similar should get similar codes, and the others different ones: similarity of features,
less a shift, says how hard a pair of codes is pulled together, or pushed apart where it is negative. Each image is
compared with itself (the reference's pos_intra), with a neighbour (pos_inter) and with random images of the batch
(neg_inter).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from stego_cli.methods.stego.sampling import at_coords

if TYPE_CHECKING:
    from torch import Tensor

    from stego_cli.config.losses import LossConfig
    from stego_cli.methods.stego.sampling import Source

MIN_NORM = 1e-10
NO_CLAMP = -9999.0  # the reference's "no lower bound"
STABLE_CEILING = 0.8


@dataclass(frozen=True)
class Compared:
    """What an image is compared by: where its features come from, and where its code comes from."""

    signal: Source
    code: Source


@dataclass(frozen=True)
class Correspondence:
    """The loss of every comparison, and what the codes looked like; all scalars, means over batch and positions.

    Attributes:
        losses: Shape (2 + negatives,): with itself, with the neighbour, with each random image in turn.
        code_corr: Mean cosine of the compared codes, same shape, without gradient.
    """

    losses: Tensor
    code_corr: Tensor

    def terms(self) -> dict[str, Tensor]:
        """Return the three losses and code similarities by name; those of the random images are averaged."""
        return {
            "self": self.losses[0],
            "knn": self.losses[1],
            "random": self.losses[2:].mean(),
            "self_corr": self.code_corr[0],
            "knn_corr": self.code_corr[1],
            "random_corr": self.code_corr[2:].mean(),
        }


def correspondence(
    config: LossConfig, image: Compared, neighbor: Compared, coords: tuple[Tensor, Tensor], negatives: Tensor
) -> Correspondence:
    """Compare every image with itself, with its neighbour and with random images of the batch.

    Args:
        config: Shifts and switches.
        image: Features (or labels) and code of the images.
        neighbor: The same of their neighbours.
        coords: Positions (B, S, S, 2) in the images, and in what they are compared with; see `sampling.at_coords`.
        negatives: Numbers of the random images, shape (negative samples, B).

    Returns:
        Gradients reach the codes only, both sides of every comparison.
    """
    with torch.no_grad():
        similar = similarities(image.signal, neighbor.signal, coords, negatives)
    alike = similarities(image.code, neighbor.code, coords, negatives)
    shifts = (config.self_shift, config.knn_shift, config.random_shift)
    losses = [
        loss_elements(config, feature_pulls(config, features, shift), codes).mean((0, 1, 3))
        for features, codes, shift in zip(similar, alike, shifts, strict=True)
    ]
    return Correspondence(torch.cat(losses), torch.cat([codes.detach().mean((0, 1, 3)) for codes in alike]))


def feature_correspondence(first: Tensor, second: Tensor) -> Tensor:
    """Cosine between every vector of `first` and every one of `second`.

    Args:
        first: Shape (B, P, C); need not be unit length.
        second: Shape (B, Q, C).

    Returns:
        Shape (B, P, Q), in [-1, 1]; 0 where a vector is zero.

    Example:
        >>> a = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])  # two positions at right angles
        >>> feature_correspondence(a, a)
        tensor([[[1., 0.],
                 [0., 1.]]])
    """
    products = functional.normalize(first, dim=-1, eps=MIN_NORM) @ second.transpose(1, 2)
    # Not by normalising `second`: there are fewer products than numbers in it.
    lengths: Tensor = torch.linalg.vector_norm(second, dim=-1).clamp(min=MIN_NORM)
    return products / lengths[:, None]


def feature_pulls(config: LossConfig, feature_corr: Tensor, shift: float) -> Tensor:
    """Turn similarities of features into pulls between codes: positive pulls together, negative pushes apart.

    Args:
        config: With `pointwise`, every row is centred and then raised by the mean of its comparison over the batch.
        feature_corr: Shape (B, P, comparisons, P); changed in place.
        shift: What is taken off.
    """
    if config.pointwise:
        whole = feature_corr.mean((0, 1, 3), keepdim=True)
        feature_corr -= feature_corr.mean(3, keepdim=True) - whole
    feature_corr -= shift
    return feature_corr


def loss_elements(config: LossConfig, pulls: Tensor, code_corr: Tensor) -> Tensor:
    """Return the loss of every pair of positions, of the shape of both arguments."""
    lower = 0.0 if config.zero_clamp else NO_CLAMP
    clamped = code_corr.clamp(lower, STABLE_CEILING) if config.stabilise else code_corr.clamp(min=lower)
    return -(clamped * pulls)


def similarities(
    image: Source, neighbor: Source, coords: tuple[Tensor, Tensor], negatives: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return cosines with the image itself, with its neighbour and with random images.

    Args:
        image: What is compared: features, labels or codes of the images.
        neighbor: The same of their neighbours.
        coords: As in `correspondence`.
        negatives: As in `correspondence`.

    Returns:
        Three tensors of the shape (B, P, comparisons, P).
    """
    first = image.sample(at_coords(coords[0], image.size))  # (B, P, C)
    second = neighbor.sample(at_coords(coords[1], neighbor.size))
    others = image.sample(at_coords(coords[1], image.size), negatives)  # (B, draws, P, C)
    batch, count, _ = first.shape
    own, near = feature_correspondence(first, first), feature_correspondence(first, second)
    far = feature_correspondence(first, others.flatten(1, 2))  # one product for all draws
    return own[:, :, None], near[:, :, None], far.view(batch, count, -1, count)
