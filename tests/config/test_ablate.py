"""Settings of a grid: what may be said, what is refused, and what each cell gets of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stego_cli.config.ablate import AblateConfig, has_dimension, known_methods
from stego_cli.config.load import load_config
from stego_cli.errors import ConfigError

PRESETS = Path(__file__).parent.parent.parent / "configs" / "ablate"


def test_comma_lists_and_lists_mean_the_same() -> None:
    typed = load_config(AblateConfig, options={"methods": "dino, stego", "dims": "3,12", "backbones": "filterbank"})
    listed = AblateConfig.model_validate({"methods": ["dino", "stego"], "dims": [3, 12], "backbones": ["filterbank"]})
    assert typed == listed


def test_shared_settings_stand_for_missing_lists() -> None:
    config = AblateConfig(dataset="a", backbone="filterbank")
    assert config.all_datasets == ("a",)
    assert [each.name for each in config.all_backbones] == ["filterbank"]
    several = AblateConfig(dataset="a", datasets="b,c,b")
    assert several.all_datasets == ("b", "c")


def test_a_method_gets_its_settings_and_the_dimension_of_the_grid() -> None:
    config = load_config(AblateConfig, overrides=["method.stego.dropout=0"])
    stego = config.method_config("stego", 12)
    assert (stego.kind, stego.code_dim, stego.dropout) == ("stego", 12, 0)  # type: ignore[union-attr]
    assert config.method_config("dino", 12).kind == "dino"


def test_only_the_features_themselves_have_no_dimension() -> None:
    assert [method for method in known_methods() if not has_dimension(method)] == ["dino"]


def test_what_is_trained_reaches_the_training() -> None:
    config = load_config(
        AblateConfig, overrides=["train.steps=7", "train.loss.knn_weight=3", "protocol=native", "classes=5"]
    )
    train = config.for_ground("somewhere", config.all_backbones[0])
    assert (train.steps, train.loss.knn_weight, train.protocol, train.classes) == (7, 3, "native", 5)
    assert train.dataset == "somewhere"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"methods": "dino,pac"}, "did you mean 'pca'"),
        ({"methods": ""}, "name at least one"),
        ({"dims": ""}, "--dims 12,48"),
        ({"resume": True, "overwrite": True}, "started anew"),
        ({"train": {"steps": 5, "reset_probes_at": 5}}, "the last step is 4"),
        ({"train": {"loss": {"aug_weight": 1}}}, "cached features"),
        ({"method": {"stego": {"dropout": 7}}}, "stego.dropout"),
        ({"method": {"stego": {"code_dim": 7}}}, "given by `dims`"),
        ({"method": {"nothing": {}}}, "no method is called `nothing`"),
        ({"protocol": "paper", "mirror": False}, "mirror"),
    ],
)
def test_what_cannot_work_is_refused_in_words(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("[", r"\[")):
        load_config(AblateConfig, options=values)


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_loads(path: Path) -> None:
    config = load_config(AblateConfig, file=path)
    assert config.methods or config.checkpoints


def test_presets_keep_apart_what_they_write() -> None:
    outs = [load_config(AblateConfig, file=path).out for path in PRESETS.glob("*.yaml")]
    assert None not in outs
    assert len(set(outs)) == len(outs) == 5
