"""The only place that turns a method's config into the method."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from stego_cli.config.model import DinoConfig, MethodConfig, StegoConfig
from stego_cli.methods.dino.head import Dino
from stego_cli.methods.stego.head import StegoHead

if TYPE_CHECKING:
    from stego_cli.methods.base import Method


def build_method(config: MethodConfig, feature_dim: int) -> Method:
    """Return the method that `config` describes, for features with `feature_dim` channels."""
    match config:
        case StegoConfig():
            return StegoHead(config, feature_dim)
        case DinoConfig():
            return Dino(feature_dim)
        case _:
            assert_never(config)
