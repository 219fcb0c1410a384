"""What validation finds, in words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from stego_cli.config.fit import FitConfig
from stego_cli.config.model import ModelConfig
from stego_cli.config.predict import PredictConfig
from stego_cli.config.problems import describe, shown


def problems(model: Any, values: dict[str, Any]) -> dict[str, str]:
    """Return what is said of each key, dotted."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(values)
    found = describe(model, values, caught.value)
    return {".".join(map(str, location)): problem.text for problem in found for location in problem.locations}


@pytest.mark.parametrize(
    ("values", "key", "text"),
    [
        ({"batch_size": "many"}, "batch_size", "expected a whole number, got 'many'"),
        ({"batch_size": 2.5}, "batch_size", "expected a whole number, got 2.5"),
        ({"batch_size": 0}, "batch_size", "expected a number above 0, got 0"),
        ({"workers": -1}, "workers", "expected a number of at least 0, got -1"),
        ({"crf": "maybe"}, "crf", "expected true or false, got 'maybe'"),
        ({"crf_parameters": 3}, "crf_parameters", "expected a block of settings, got 3"),
        ({"crf_parameters": {"bilateral_xy": "far"}}, "crf_parameters.bilateral_xy", "expected a number, got 'far'"),
        (
            {"crf_parameters": {"gaussian_xy": float("inf")}},
            "crf_parameters.gaussian_xy",
            "expected a finite number, got inf",
        ),
        ({"model": 5}, "model", "expected text, got 5; put it in quotes"),
        ({"out": 2024}, "out", "expected a path, got 2024; put it in quotes"),
        ({"out": None}, "out", "expected a path, got nothing"),
        ({"model": ""}, "model", "expected text that is not empty, got ''"),
        ({"bands": [1, 2]}, "bands.2", "expected more values, got [1, 2]"),
        ({"bands": [1, 2, 3, 4]}, "bands", "expected at most 3 values, got [1, 2, 3, 4]"),
        ({"protocol": "papr"}, "protocol", "expected one of native, paper, got 'papr'; did you mean `paper`?"),
        ({"save": "labels,foo"}, "save", "expected one of labels, overlay, probs, html, got 'foo'"),
        ({"batchsize": 3}, "batchsize", "unknown key; did you mean `batch_size`?"),
        ({"xyzzy": 3}, "xyzzy", "unknown key"),
    ],
)
def test_each_mistake_is_said_in_plain_words(values: dict[str, Any], key: str, text: str) -> None:
    assert problems(PredictConfig, values) == {key: text}


def test_all_mistakes_are_found_at_once() -> None:
    values = {"batch_size": "x", "crf": "x", "nothing": 1, "crf_parameters": {"iterations": 0}}
    assert set(problems(PredictConfig, values)) == {"batch_size", "crf", "nothing", "crf_parameters.iterations"}


def test_the_tag_of_a_union_is_no_part_of_the_key() -> None:
    found = problems(FitConfig, {"dataset": "x", "backbone": {"kind": "vit", "block": 2, "nam": "y"}})
    assert set(found) == {"backbone.block", "backbone.nam"}
    architecture = {"patch_size": 8, "width": 48, "depth": "deep", "heads": 6}
    found = problems(FitConfig, {"dataset": "x", "backbone": {"kind": "vit", "architecture": architecture}})
    assert found == {"backbone.architecture.depth": "expected a whole number, got 'deep'"}


def test_a_short_form_is_named_by_its_own_key() -> None:
    assert set(problems(FitConfig, {"dataset": "x", "backbone": 7})) == {"backbone"}


def test_an_unknown_kind_is_named_with_the_known_ones() -> None:
    found = problems(FitConfig, {"dataset": "x", "backbone": {"kind": "vitt"}})
    assert found == {"backbone.kind": "expected one of vit, filterbank, got 'vitt'; did you mean `vit`?"}


def test_a_key_of_another_kind_is_told_apart_from_an_unknown_one() -> None:
    found = problems(FitConfig, {"dataset": "x", "backbone": {"kind": "filterbank", "feature_type": "KK"}})
    assert "kind: vit" in found["backbone.feature_type"]


def test_what_is_missing_inside_a_block_is_named_with_the_block() -> None:
    values = {
        "backbone": {"kind": "filterbank"},
        "method": {"kind": "stego"},
        "num_clusters": 2,
        "label_space": {"name": "two", "names": ["a", "b"]},
    }
    assert problems(ModelConfig, values) == {"label_space.colours": "is needed and was not given"}


def test_rules_written_as_plain_errors_keep_their_words() -> None:
    values = {
        "backbone": {"kind": "filterbank"},
        "method": {"kind": "stego"},
        "num_clusters": 2,
        "label_space": {"name": "two", "names": ["a", "b"], "colours": [[0, 0, 0]]},
    }
    assert "2 names but 1 colours" in problems(ModelConfig, values)["label_space"]


def test_long_and_odd_values_are_shown_short_and_printable() -> None:
    assert len(shown("x" * 1000)) == 60
    assert shown("caf\udce9").encode("utf-8")
