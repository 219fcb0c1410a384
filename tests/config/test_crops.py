"""Rules of the settings of `stego crop`."""

from __future__ import annotations

from pathlib import Path

import pytest

from stego_cli.config.crops import CropsConfig
from stego_cli.config.load import load_config
from stego_cli.errors import ConfigError


def test_the_defaults_are_those_of_the_reference() -> None:
    config = CropsConfig()
    assert (config.dataset, config.crop, config.crop_ratio, config.quality) == ("cocostuff27", "five", 0.5, 75)
    assert config.splits is None


@pytest.mark.parametrize(("said", "meant"), [("random", "random"), ("none", "five"), ("five", "five")])
def test_the_crops_of_the_project_are_those_that_are_made(tmp_path: Path, said: str, meant: str) -> None:
    project = tmp_path / "stego.yaml"
    project.write_text(f"crop: {said}\ncrop_ratio: 0.7\ndataset: photos\ncrops:\n  quality: 90\n")
    config = load_config(CropsConfig, project=project)
    assert (config.dataset, config.crop, config.crop_ratio, config.quality) == ("photos", meant, 0.7, 90)


def test_splits_may_be_a_comma_list() -> None:
    assert CropsConfig.model_validate({"splits": "train, val"}).splits == ("train", "val")


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop_ratio": 0},
        {"crop_ratio": 1},
        {"quality": 0},
        {"quality": 101},
        {"splits": ""},
        {"workers": -1},
        {"hash_rule": "python2"},
        {"crop": "ten"},
        {"out": " "},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong)) + "|--ratio|--split|--five"):
        load_config(CropsConfig, options=wrong)
