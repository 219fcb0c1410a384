"""Principal components of standardised features: fitted once in full, cut to any number of dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stego_cli.methods.dimred.positions import first_positions, spread_positions
from stego_cli.methods.dimred.projection import Projection, refuse_more
from stego_cli.methods.dimred.standard import DEVIATION, MEAN, moments

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stego_cli.config.model import PcaConfig
    from stego_cli.methods.base import FeatureSource

LEAST_VARIANCE = 1e-6  # of an axis that is whitened, as a share of the first one's; below it there is only rounding
COMPONENTS, VARIANCES = "components", "variances"


@dataclass(frozen=True, eq=False)  # comparing tensors has no single answer
class PcaBasis:
    """The principal axes of standardised features, the most telling one first.

    Attributes:
        mean: Of every channel before it was standardised, shape (C,).
        deviation: Of every channel, population; 1 where a channel was constant; shape (C,).
        components: Unit vectors as rows, shape (n, C); the largest entry of each is positive.
        variances: Variance along every axis, also of those that were cut off (sample variance), shape (C,).
    """

    mean: Tensor
    deviation: Tensor
    components: Tensor
    variances: Tensor

    @property
    def variance_ratio(self) -> Tensor:
        """The share of the variance along every axis, shape (C,), summing to 1."""
        return self.variances / self.variances.sum()

    def cut(self, dimensions: int) -> PcaBasis:
        """Return the basis with the first few axes alone.

        Raises:
            ConfigError: If there are fewer.
        """
        refuse_more("pca", dimensions, len(self.components))
        return PcaBasis(self.mean, self.deviation, self.components[:dimensions], self.variances)

    def white(self) -> Tensor:
        """Return the axes, shape (n, C), each over its deviation; zeros for an axis along which nothing varies."""
        kept = self.variances[: len(self.components), None]
        varies = kept > LEAST_VARIANCE * self.variances[0]
        return torch.where(varies, self.components / kept.clamp(min=torch.finfo(kept.dtype).tiny).sqrt(), 0.0)

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it by name, to be written into a file."""
        return {
            MEAN: self.mean,
            DEVIATION: self.deviation,
            COMPONENTS: self.components,
            VARIANCES: self.variances,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> PcaBasis:
        """Return the basis that `tensors` made them of."""
        return cls(tensors[MEAN], tensors[DEVIATION], tensors[COMPONENTS], tensors[VARIANCES])


def fit_pca(vectors: Iterable[Tensor]) -> PcaBasis:
    """Find all principal axes of vectors that come in chunks (n, C), each channel standardised.

    Raises:
        StegoError: If there is no vector, or one is no finite number.
    """
    found = moments(vectors, pairs=True)
    deviation = found.deviation
    covariance = found.products / max(found.count - 1, 1) / torch.outer(deviation, deviation)
    values, axes = torch.linalg.eigh(covariance)
    components = axes.flip(1).T.float()
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    components = torch.where(largest < 0, -components, components).contiguous()
    return PcaBasis(found.mean.float(), deviation.float(), components, values.flip(0).clamp(min=0).float())


class Pca(Projection):
    """Standardised features along the first principal axes; the mean along them is not taken off again.

    Attributes:
        components: Shape (K, C), unit vectors or, whitened, those over their deviation.
    """

    components: Tensor

    def __init__(self, config: PcaConfig, feature_dim: int) -> None:
        refuse_more(config.kind, config.code_dim, feature_dim)
        super().__init__(config, feature_dim)
        self.config = config
        self.register_buffer(COMPONENTS, torch.zeros(config.code_dim, feature_dim))

    def project(self, features: Tensor) -> Tensor:
        """Map standardised features (B, C, h, w) to code (B, K, h, w)."""
        return along(features, self.components)

    def recipe(self, seed: int) -> dict[str, Any]:  # noqa: ARG002 - the same for every seed
        """Return what the fit depends on; neither seed, dimensions nor `whiten`, so that all share one."""
        return self.config.model_dump(mode="json", exclude={"code_dim", "standardise", "whiten"})

    def fit(self, source: FeatureSource, seed: int) -> dict[str, Tensor]:  # noqa: ARG002 - the same for every seed
        """Find all axes; a smaller number of dimensions is a cut."""
        config = self.config
        if config.fit_on == "first":
            return fit_pca(first_positions(source, config.fit_images)).tensors()
        return fit_pca(spread_positions(source, config.fit_images, config.fit_positions)).tensors()

    def adopt(self, fitted: Mapping[str, Tensor], seed: int) -> None:  # noqa: ARG002 - the same for every seed
        """Take the first axes of a basis."""
        basis = PcaBasis.from_tensors(fitted).cut(self.code_dim)
        self.adopt_standard(fitted)
        self.components.copy_(basis.white() if self.config.whiten else basis.components)

    def as_fitted(self) -> PcaConfig:
        """Return the config."""
        return self.config


def along(features: Tensor, components: Tensor) -> Tensor:
    """Return the products of features (B, C, h, w) with every row of components (K, C), shape (B, K, h, w)."""
    return torch.einsum("bchw,kc->bkhw", features, components)  # a convolution would round to TF32 on some GPUs
