"""What every method is: features to code."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn


class Method(nn.Module):
    """The trained part between a frozen backbone and the probes.

    Attributes:
        code_dim: Channels K of the code.
    """

    code_dim: int

    @abstractmethod
    def code(self, features: Tensor) -> Tensor:
        """Map features (B, C, h, w) to code (B, K, h, w)."""

    def forward(self, features: Tensor) -> Tensor:
        """Map features to code; the same as `code`."""
        return self.code(features)
