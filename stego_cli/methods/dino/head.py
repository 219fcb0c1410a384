"""The baseline without a head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stego_cli.methods.base import Method

if TYPE_CHECKING:
    from torch import Tensor


class Dino(Method):
    """The code is the feature map itself; it has no parameters."""

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.code_dim = feature_dim

    def code(self, features: Tensor) -> Tensor:
        """Return the features unchanged."""
        return features
