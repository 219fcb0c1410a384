"""Settings of `stego eval`: defaults, and what does not go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stego_cli.config.evaluate import EvalConfig
from stego_cli.config.load import load_config
from stego_cli.errors import ConfigError


def test_the_published_protocol_is_the_default() -> None:
    config = EvalConfig()
    assert (config.protocol, config.probe, config.splits, config.crf) == ("paper", "both", ("val",), False)
    assert (config.dataset, config.extra, config.checkpoints) == ("cocostuff27", None, ())


def test_lists_may_be_written_with_commas() -> None:
    config = load_config(EvalConfig, overrides=["checkpoints=a,b", "splits=train,val"])
    assert (config.checkpoints, config.splits) == (("a", "b"), ("train", "val"))


def test_the_project_file_may_name_the_model(tmp_path: Path) -> None:
    project = tmp_path / "stego.yaml"
    project.write_text("model: embedded\nclasses: 4\neval: {crf: true}")
    config = load_config(EvalConfig, project=project)
    assert (config.model, config.classes, config.crf) == ("embedded", 4, True)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mirror": False}, "always averages"),
        ({"precision": "fp16"}, "computes in fp32"),
        ({"protocol": "native", "precision": "fp16", "device": "cpu"}, "fp16 is too slow"),
        ({"save_names": True, "checkpoints": ["a", "b"]}, "one checkpoint"),
        ({"save_names": True, "probe": "linear"}, "names are found for clusters"),
        ({"out": "x.safetensors"}, "only --save-names writes"),
        ({"overcluster": True, "probe": "linear"}, "about clusters"),
        ({"splits": ""}, "split"),
        ({"checkpoints": [""]}, "CHECKPOINT"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(EvalConfig, options=settings)
