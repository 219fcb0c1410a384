"""How long a step and a look of the backbone take here: a few of each are timed, on made-up numbers."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import torch

from stego_cli.engine.train.step import train_step

if TYPE_CHECKING:
    from collections.abc import Callable

    from stego_cli.backbones.base import Backbone
    from stego_cli.engine.train.step import TrainState
    from stego_cli.methods.stego.step import StepInput

TIMED = 3  # calls, after one that is not


def median_seconds(work: Callable[[int], float]) -> float:
    """Return the median seconds of some calls.

    Args:
        work: Called with 0, which is not timed, 1 and so on. It returns a number, so that the device has finished.
    """
    times = []
    for number in range(TIMED + 1):
        started = time.perf_counter()
        work(number)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def step_seconds(state: TrainState, step: StepInput) -> float:
    """Return the median seconds of a training step; the state is trained by it, and of no use afterwards."""
    return median_seconds(lambda number: float(train_step(state, step, number)["total"]))


@torch.inference_mode()
def backbone_seconds(backbone: Backbone, side: int, batch: int) -> float:
    """Return the median seconds that a backbone takes for an image, reading it apart.

    Args:
        backbone: On its device.
        side: Of the square images, in pixels.
        batch: Images that it sees together.
    """
    device = next((each.device for each in (*backbone.parameters(), *backbone.buffers())), torch.device("cpu"))
    images = torch.zeros(batch, 3, side, side, device=device)
    return median_seconds(lambda _: float(backbone(images).sum())) / batch
