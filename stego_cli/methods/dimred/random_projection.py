"""A random projection of standardised features."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stego_cli.methods.dimred.pca import COMPONENTS, along
from stego_cli.methods.dimred.positions import spread_positions
from stego_cli.methods.dimred.projection import Projection
from stego_cli.methods.dimred.standard import moments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stego_cli.config.model import RpConfig
    from stego_cli.methods.base import FeatureSource


class RandomProjection(Projection):
    """Standardised features times a Gaussian matrix, which keeps distances in the mean (Johnson & Lindenstrauss).

    Attributes:
        components: Shape (K, C), drawn with deviation 1 / sqrt(K).
    """

    components: Tensor

    def __init__(self, config: RpConfig, feature_dim: int) -> None:
        super().__init__(config, feature_dim)
        self.config = config
        self.register_buffer(COMPONENTS, torch.zeros(config.code_dim, feature_dim))

    def project(self, features: Tensor) -> Tensor:
        """Map standardised features (B, C, h, w) to code (B, K, h, w)."""
        return along(features, self.components)

    def recipe(self, seed: int) -> dict[str, Any]:  # noqa: ARG002 - what is fitted is the same for every seed
        """Return what the fit depends on: it is mean and deviation alone, and the matrix is drawn."""
        return self.config.model_dump(mode="json", exclude={"code_dim"})

    def fit(self, source: FeatureSource, seed: int) -> dict[str, Tensor]:  # noqa: ARG002 - as above
        """Find mean and deviation of every channel, if they are used."""
        if self.by_batch:
            return {}
        vectors = spread_positions(source, self.config.fit_images, self.config.fit_positions)
        return moments(vectors, pairs=False).to_standardise()

    def adopt(self, fitted: Mapping[str, Tensor], seed: int) -> None:
        """Take mean and deviation, and draw the matrix after the seed."""
        self.adopt_standard(fitted)
        drawn = torch.randn(self.components.shape, generator=torch.Generator().manual_seed(seed))
        self.components.copy_(drawn / math.sqrt(self.code_dim))

    def as_fitted(self) -> RpConfig:
        """Return the config."""
        return self.config
