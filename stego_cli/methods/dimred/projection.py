"""What all fitted projections share: features in float32, standardised, then projected."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stego_cli.errors import ConfigError
from stego_cli.methods.base import Method
from stego_cli.methods.dimred.standard import DEVIATION, MEAN, standardised, standardised_by_own

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stego_cli.config.model import ProjectionConfig


class Projection(Method):
    """A method without parameters; what it was fitted to is in buffers, and so in checkpoints.

    Attributes:
        mean: Of every channel, shape (C,); only with `standardise: train`, like the next.
        deviation: Of every channel, shape (C,).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: ProjectionConfig, feature_dim: int) -> None:
        super().__init__()
        self.code_dim = config.code_dim
        self.by_batch = config.standardise == "batch"
        if not self.by_batch:
            self.register_buffer(MEAN, torch.zeros(feature_dim))
            self.register_buffer(DEVIATION, torch.ones(feature_dim))

    def code(self, features: Tensor) -> Tensor:
        """Project features (B, C, h, w) to code (B, K, h, w), float32 whatever comes in."""
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            if self.by_batch:
                return self.project(standardised_by_own(features))
            return self.project(standardised(features, self.mean, self.deviation))

    @abstractmethod
    def project(self, features: Tensor) -> Tensor:
        """Map standardised features (B, C, h, w), float32, to code (B, K, h, w)."""

    def check_ready(self) -> None:
        """Find everything in place: the fit needs no other package."""

    def adopt_standard(self, fitted: Mapping[str, Tensor]) -> None:
        """Take over mean and deviation, if they are used."""
        if not self.by_batch:
            self.mean.copy_(fitted[MEAN])
            self.deviation.copy_(fitted[DEVIATION])


def refuse_more(kind: str, code_dim: int, feature_dim: int) -> None:
    """Refuse more dimensions than there are channels.

    Raises:
        ConfigError: Names both.
    """
    if code_dim > feature_dim:
        raise ConfigError(
            f"method.code_dim is {code_dim}, but {kind} cannot make more of {feature_dim} channels\n\n"
            f"hint: use --dim {feature_dim} or less"
        )
