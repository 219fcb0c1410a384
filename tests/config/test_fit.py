"""Rules of the settings of `stego fit`."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from stego_cli.config.data import DataConfig
from stego_cli.config.fit import FitConfig


def test_a_dataset_is_all_that_is_needed() -> None:
    config = FitConfig(dataset="photos")
    assert (config.backbone.kind, config.resolution, config.restarts, config.seed) == ("filterbank", 320, 5, 0)


def test_it_says_of_a_dataset_all_that_every_command_can_say() -> None:
    given = {"dataset": "potsdam", "data_dir": "here", "crop": "five", "crop_ratio": 0.3, "bands": "4,3,2"}
    config, same = FitConfig(**given), DataConfig(**given)
    assert {name: getattr(config, name) for name in DataConfig.model_fields} == dict(same)


def test_a_backbone_without_weights_takes_no_weights() -> None:
    with pytest.raises(ValidationError, match="no weights"):
        FitConfig(dataset="photos", weights="dino.pth")
    assert FitConfig(dataset="photos", weights="dino.pth", backbone="dino_vits8").weights is not None


def test_no_class_at_all_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        FitConfig(dataset="photos", classes=0)
