"""Rules of the settings of `stego predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from stego_cli.config.fields import usable_cores
from stego_cli.config.predict import PredictConfig


def test_defaults_are_those_of_the_design() -> None:
    config = PredictConfig()
    assert (config.protocol, config.probe, config.save) == ("native", "cluster", ("labels", "overlay", "html"))
    assert (config.crf, config.mirror, config.out) == (False, True, Path("predictions"))
    assert config.workers == min(4, usable_cores())


def test_crf_parameters_are_those_of_the_reference() -> None:
    assert PredictConfig().crf_parameters.model_dump() == {
        "iterations": 10,
        "gaussian_weight": 3,
        "gaussian_xy": 1,
        "bilateral_weight": 4,
        "bilateral_xy": 67,
        "bilateral_rgb": 3,
        "implementation": "auto",
    }


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12", "mps"])
def test_known_devices_are_accepted(device: str) -> None:
    assert PredictConfig(device=device).device == device


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"device": "gpu"}, "cuda:N"),
        ({"device": "cuda:"}, "cuda:N"),
        ({"device": "cpu\n"}, "cuda:N"),
        ({"protocol": "paper", "precision": "bf16"}, "fp32"),
        ({"protocol": "paper", "mirror": False}, "mirror"),
        ({"device": "cpu", "precision": "fp16"}, "bf16 or fp32"),
        ({"save": ""}, "nothing would be written"),
        ({"save": []}, "nothing would be written"),
        ({"save": "html"}, "gallery"),
        ({"save": "probs,html"}, "gallery"),
        ({"out": " "}, "expected a path"),
        ({"bands": "1,0,2"}, "greater than 0"),
        ({"tile": 0}, "greater than 0"),
        ({"protocol": "paper", "tile": 320}, "sees images whole"),
        ({"compile": "yes"}, "'on' or 'off'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        PredictConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"protocol": "paper", "precision": "fp32"},
        {"protocol": "paper", "resolution": 224},
        {"device": "cpu", "precision": "bf16"},
        {"precision": "fp16"},
        {"save": "labels,html"},
        {"save": "probs"},
        {"workers": 0},
    ],
)
def test_settings_that_work_are_accepted(settings: dict[str, Any]) -> None:
    PredictConfig(**settings)


def test_comma_text_and_lists_mean_the_same() -> None:
    assert PredictConfig(save="labels, overlay").save == PredictConfig(save=["labels", "overlay"]).save


def test_home_is_expanded_but_only_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert PredictConfig(out="~/masks").out == Path("/home/someone/masks")
    assert PredictConfig(out="a/~b").out == Path("a/~b")
    assert PredictConfig(out="~no-such-user-anywhere/x").out == Path("~no-such-user-anywhere/x")
