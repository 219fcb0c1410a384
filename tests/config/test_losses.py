"""Loss settings are checked and never change."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from stego_cli.config.losses import CrfLossConfig, LossConfig, OptimiserConfig


@pytest.mark.parametrize(
    ("block", "wrong"),
    [
        (LossConfig, {"crf_weight": -1}),
        (LossConfig, {"feature_samples": 0}),
        (LossConfig, {"self_shift": float("nan")}),
        (LossConfig, {"pos_intra_shift": 0.1}),
        (LossConfig, {"positions": "exact"}),
        (CrfLossConfig, {"beta": 0}),
        (OptimiserConfig, {"lr": 0}),
    ],
    ids=str,
)
def test_settings_without_meaning_are_refused(block, wrong) -> None:
    with pytest.raises(ValidationError):
        block(**wrong)


def test_every_setting_is_described() -> None:
    blocks = (LossConfig, CrfLossConfig, OptimiserConfig)
    bare = [name for block in blocks for name, field in block.model_fields.items() if not field.description]
    assert bare == ["crf"]  # a block of its own, described there
    assert all(block.__doc__ for block in blocks)
