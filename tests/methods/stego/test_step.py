"""A step's input checks its shapes when it is made."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stego_cli.errors import ShapeError
from stego_cli.methods.stego.draws import DrawPlan, draw_step
from stego_cli.methods.stego.step import StepInput

DRAWS = draw_step(DrawPlan(batch=2, channels=4, samples=3), 0, 0)
STEP = StepInput(torch.zeros(2, 4, 5, 5), DRAWS, neighbor_features=torch.zeros(2, 4, 6, 5), labels=torch.zeros(2, 9, 9))


@pytest.mark.parametrize(
    "wrong",
    [
        {"features": torch.zeros(2, 4, 5)},
        {"features": torch.zeros(3, 4, 5, 5)},
        {"neighbor_features": torch.zeros(2, 5, 5, 5)},
        {"augmented_features": torch.zeros(1, 4, 5, 5)},
        {"labels": torch.zeros(1, 9, 9)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_shapes_that_do_not_go_together_are_refused(wrong: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ShapeError):
        replace(STEP, **wrong)


def test_only_what_is_there_is_listed_and_moved() -> None:
    assert set(STEP.tensors()) == {"features", "neighbor_features", "labels"}
    moved = STEP.to(torch.device("meta"))
    assert moved.labels.device.type == moved.draws.coords1.device.type == "meta"
    assert moved.images is None
