"""What configs know of themselves: keys, blocks, and the key that was meant."""

from __future__ import annotations

import pytest

from stego_cli.config.fit import FitConfig
from stego_cli.config.predict import PredictConfig
from stego_cli.config.schema import dotted_keys, expanded, nearest, option_of, stops_at, suggest, with_default_kinds


def test_dotted_keys_reach_into_blocks_and_unions() -> None:
    assert "crf_parameters.bilateral_rgb" in dotted_keys(PredictConfig)
    keys = dotted_keys(FitConfig)
    assert {"backbone", "backbone.kind", "backbone.feature_type", "backbone.architecture.width"} <= set(keys)
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("location", "meant"),
    [
        (["batchsize"], "batch_size"),
        (["res"], "resolution"),
        (["iterations"], "crf_parameters.iterations"),
        (["crf_parameters", "iteration"], "iterations"),
        (["crf_parameters", "batch_size"], "batch_size"),
        (["xyzzy"], None),
    ],
)
def test_suggestions_look_beside_the_key_first_then_everywhere(location: list[str], meant: str | None) -> None:
    assert suggest(PredictConfig, location) == meant


def test_short_words_are_not_completed_to_anything() -> None:
    assert nearest("x", ["xylophone"]) is None


def test_a_path_stops_at_a_single_value_only() -> None:
    assert stops_at(PredictConfig, ["crf", "iterations"]) == "crf"
    assert stops_at(FitConfig, ["backbone", "name", "x"]) == "backbone.name"
    assert stops_at(PredictConfig, ["crf_parameters", "iterations"]) is None
    assert stops_at(PredictConfig, ["nonsense", "iterations"]) is None


def test_options_are_called_what_people_type() -> None:
    assert option_of(PredictConfig, "resolution", 3) == "--res"
    assert option_of(PredictConfig, "batch_size", 3) == "--batch-size"
    assert option_of(PredictConfig, "mirror", False) == "--no-mirror"
    assert option_of(FitConfig, "dataset", "x") == "DATASET"


def test_short_forms_are_written_out_and_other_values_left_alone() -> None:
    assert expanded(FitConfig, "backbone", "dino_vits8") == {"kind": "vit", "name": "dino_vits8"}
    assert expanded(FitConfig, "backbone", {"kind": "filterbank"}) == {"kind": "filterbank"}
    assert expanded(FitConfig, "seed", 3) == 3


def test_the_default_kind_is_filled_in_only_where_none_is_said() -> None:
    assert with_default_kinds(FitConfig, {"backbone": {"block": -1}})["backbone"] == {"kind": "filterbank", "block": -1}
    assert with_default_kinds(FitConfig, {"backbone": {"kind": "vit"}})["backbone"] == {"kind": "vit"}
    assert with_default_kinds(FitConfig, {}) == {}
