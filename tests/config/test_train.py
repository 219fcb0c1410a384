"""Rules of the settings of `stego train`, and the presets."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from stego_cli.config.load import load_config
from stego_cli.config.losses import LossConfig
from stego_cli.config.train import TrainConfig

PRESETS = sorted((Path(__file__).parents[2] / "configs" / "train").glob("*.yaml"))


def test_a_dataset_is_all_that_is_needed() -> None:
    config = TrainConfig(dataset="photos")
    assert (config.method.kind, config.method.code_dim, config.steps, config.batch_size) == ("stego", 70, 5000, 16)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"compile": "yes"}, "'auto', 'on' or 'off'"),
        ({"final_probes": "new"}, "'trained' or 'refit'"),
        ({"wandb": ""}, "at least 1"),
        ({"loss": {"aug_weight": 1}, "features": "cache"}, "auto or live"),
        ({"resume": True, "overwrite": True}, "started anew"),
        ({"batch_size": 16, "devices": 3}, "evenly"),
        ({"reset_probes_at": 10, "steps": 10}, "last step is 9"),
        ({"steps": 0}, "greater than 0"),
        ({"minutes": 0}, "greater than 0"),
        ({"seed": -1}, "greater than or equal to 0"),
    ],
    ids=str,
)
def test_what_could_not_do_what_it_promises_is_refused(wrong, words) -> None:
    with pytest.raises(ValidationError, match=words):
        TrainConfig(dataset="photos", **wrong)


def test_every_setting_is_described() -> None:
    bare = [name for name, field in TrainConfig.model_fields.items() if not field.description]
    assert bare == ["backbone", "method", "loss", "optimiser"]  # blocks of their own, described there


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_shipped_preset_loads_and_holds_only_what_differs(path: Path) -> None:
    config, usual = load_config(TrainConfig, file=path), TrainConfig()
    assert config.dataset.rstrip("/") in path.stem
    for name in config.model_fields_set - {"loss", "method", "dataset"}:
        assert getattr(config, name) != getattr(usual, name), name
    for name in config.loss.model_fields_set:
        assert getattr(config.loss, name) != getattr(LossConfig(), name), name


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # hyper-parameters of the published runs, README of stego-studies
        ("cocostuff27_vitb8", (90, 7000, 32, "five", 1.0, 0.2, 0.1, 0.12, 0.1538476246415498, 1.0, True)),
        (
            "cityscapes_vitb8",
            (
                *(100, 7000, 32, "five", 0.577453483136995, 0.1754346515479633, 1.0, 0.45828472207),
                *(0.9058762625226623, 0.31361241889448443, False),
            ),
        ),
        ("potsdam_vits8", (70, 5000, 16, None, 0.25, 0.02, 0.67, 0.08, 0.63, 0.76, True)),
    ],
)
def test_published_runs_have_their_published_settings(name, expected) -> None:
    config = load_config(TrainConfig, file=PRESETS[0].parent / f"{name}.yaml")
    loss = config.loss
    assert (
        *(config.method.code_dim, config.steps, config.batch_size, config.crop, loss.knn_weight, loss.knn_shift),
        *(loss.self_weight, loss.self_shift, loss.random_weight, loss.random_shift, loss.pointwise),
    ) == expected
    assert config.backbone.name == {"vitb8": "dino_vitb8", "vits8": "dino_vits8_300ep"}[name.split("_")[1]]
