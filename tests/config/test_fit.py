"""Rules of the settings of `stego fit`."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from stego_cli.config.fit import FitConfig


def test_a_dataset_is_all_that_is_needed() -> None:
    config = FitConfig(dataset="photos")
    assert (config.backbone.kind, config.resolution, config.restarts, config.seed) == ("filterbank", 320, 5, 0)


def test_a_backbone_without_weights_takes_no_weights() -> None:
    with pytest.raises(ValidationError, match="no weights"):
        FitConfig(dataset="photos", weights="dino.pth")
    assert FitConfig(dataset="photos", weights="dino.pth", backbone="dino_vits8").weights is not None


def test_no_class_at_all_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        FitConfig(dataset="photos", classes=0)
