"""Bringing every channel to mean 0 and deviation 1, by numbers kept from training or by those of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stego_cli.errors import StegoError

if TYPE_CHECKING:
    from collections.abc import Iterable

MEAN, DEVIATION = "mean", "deviation"


@dataclass(frozen=True, eq=False)  # comparing tensors has no single answer
class Moments:
    """Mean and spread of many vectors.

    Attributes:
        count: How many vectors.
        mean: Shape (C,), float64.
        products: Sums of products of what the channels differ from their means: for all pairs of channels (C, C),
            or of each with itself (C,); float64.
        constant: Channels in which all vectors agree, shape (C,), bool.
    """

    count: int
    mean: Tensor
    products: Tensor
    constant: Tensor

    @property
    def deviation(self) -> Tensor:
        """Population deviation of every channel, shape (C,), float64; 1 where a channel is constant."""
        squares = self.products.diagonal() if self.products.ndim == 2 else self.products
        return torch.where(self.constant, 1.0, (squares / self.count).sqrt())

    def to_standardise(self) -> dict[str, Tensor]:
        """Return mean and deviation as float32, by name."""
        return {MEAN: self.mean.float(), DEVIATION: self.deviation.float()}


def moments(chunks: Iterable[Tensor], *, pairs: bool) -> Moments:
    """Return mean and spread of vectors that come in chunks (n, C), in one pass.

    Chunks are merged by the update of Chan, Golub & LeVeque (The American Statistician, 1983), which loses no digits
    where means are large beside deviations.

    Args:
        chunks: Vectors of any floating type.
        pairs: Whether products of all pairs of channels are needed.

    Raises:
        StegoError: If there is no vector, or one is no finite number.
    """
    count, mean, products = 0, torch.zeros(()), torch.zeros(())
    lowest, highest = torch.full((), torch.inf), torch.full((), -torch.inf)
    for chunk in chunks:
        if not len(chunk):
            continue
        own, own_mean = len(chunk), chunk.double().mean(0)
        centred = chunk.double() - own_mean
        step = own_mean - mean
        products = products + (centred.T @ centred if pairs else centred.square().sum(0))
        products = products + count * own / (count + own) * (torch.outer(step, step) if pairs else step.square())
        mean = mean + step * (own / (count + own))
        count += own
        lowest, highest = torch.minimum(lowest, chunk.amin(0)), torch.maximum(highest, chunk.amax(0))
    if not count:
        raise StegoError("there are no features to fit to\n\nhint: see the messages above, or give another folder")
    if not bool(torch.isfinite(products).all()):
        raise StegoError(
            "some features to fit to are no finite numbers\n\n"
            "hint: compute them anew with `stego features build --overwrite`"
        )
    return Moments(count, mean, products, lowest == highest)


def standardised(features: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Return features (B, C, h, w) less a mean (C,), over a deviation (C,)."""
    return (features - mean[:, None, None]) / deviation[:, None, None]


def standardised_by_own(features: Tensor) -> Tensor:
    """Standardise features (B, C, h, w) by mean and population deviation over their own images and positions.

    A channel that is the same everywhere becomes 0. (In the study, such a channel made the whole output of PCA no
    number, and became 0 for the random projection.)
    """
    over = (0, 2, 3)
    variance, mean = torch.var_mean(features, over, correction=0)
    constant = features.amin(over) == features.amax(over)
    deviation = torch.where(constant, 1.0, variance.sqrt())
    # A mean of equal numbers may be off by rounding; less the number itself it is 0.
    return standardised(features, torch.where(constant, features[0, :, 0, 0], mean), deviation)
