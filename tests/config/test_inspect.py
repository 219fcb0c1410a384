from __future__ import annotations

import pytest
from pydantic import ValidationError

from stego_cli.config.inspect import InspectConfig
from stego_cli.config.load import load_config


def test_without_any_setting_all_splits_get_a_quick_look() -> None:
    config = InspectConfig()
    assert (config.split, config.full, config.classes) == (None, False, None)
    assert config.dataset == "cocostuff27"


def test_splits_are_a_list_a_comma_list_or_absent() -> None:
    assert InspectConfig(split=["train", "val"]).split == ("train", "val")
    assert InspectConfig(split="train, val").split == ("train", "val")
    assert InspectConfig(split=[]).split is None  # nothing typed
    assert load_config(InspectConfig, overrides=["split=val"]).split == ("val",)


@pytest.mark.parametrize("wrong", [{"classes": 0}, {"workers": -1}, {"resolution": 0}, {"splits": "train"}])
def test_values_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        InspectConfig.model_validate(wrong)


def test_the_number_of_threads_follows_the_machine() -> None:
    assert 1 <= InspectConfig().workers <= 4
