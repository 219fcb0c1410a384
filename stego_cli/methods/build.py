"""The only place that turns a method's config into the method."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from stego_cli.config.model import (
    DinoConfig,
    HnneConfig,
    MethodConfig,
    PcaConfig,
    RpConfig,
    StegoConfig,
    UmapConfig,
)
from stego_cli.methods.dimred.landmarks import LandmarkProjection
from stego_cli.methods.dimred.pca import Pca
from stego_cli.methods.dimred.random_projection import RandomProjection
from stego_cli.methods.dino.head import Dino
from stego_cli.methods.stego.head import StegoHead

if TYPE_CHECKING:
    from stego_cli.methods.base import Method


def build_method(config: MethodConfig, feature_dim: int) -> Method:
    """Return the method that `config` describes, for features with `feature_dim` channels.

    Raises:
        ConfigError: If there cannot be such a method for so many channels.
    """
    match config:
        case StegoConfig():
            return StegoHead(config, feature_dim)
        case DinoConfig():
            return Dino(feature_dim)
        case PcaConfig():
            return Pca(config, feature_dim)
        case RpConfig():
            return RandomProjection(config, feature_dim)
        case HnneConfig() | UmapConfig():
            return LandmarkProjection(config, feature_dim)
        case _:
            assert_never(config)
