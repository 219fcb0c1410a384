"""The projection head of STEGO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from stego_cli.methods.base import Method

if TYPE_CHECKING:
    from stego_cli.config.model import StegoConfig


class StegoHead(Method):
    """A linear projection plus, by default, a two-layer one beside it (Hamilton et al., ICLR 2022, section 3.2).

    While training, whole channels of the input are dropped before each of the two projections, with masks drawn
    independently and in this order: linear, non-linear.
    """

    def __init__(self, config: StegoConfig, feature_dim: int) -> None:
        super().__init__()
        self.code_dim = config.code_dim
        self.linear = nn.Conv2d(feature_dim, config.code_dim, 1)
        self.nonlinear = config.projection == "nonlinear"
        if self.nonlinear:
            self.hidden = nn.Conv2d(feature_dim, feature_dim, 1)
            self.output = nn.Conv2d(feature_dim, config.code_dim, 1)
        self.dropout = nn.Dropout2d(config.dropout)

    def code(self, features: Tensor) -> Tensor:
        """Project features (B, C, h, w) to code (B, K, h, w)."""
        code: Tensor = self.linear(self.dropout(features))
        if self.nonlinear:
            code = code + self.output(nn.functional.relu(self.hidden(self.dropout(features))))
        return code
