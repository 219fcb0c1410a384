"""How long a grid takes: a few steps timed on made-up features, then corrected by the cells that are done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from stego_cli.config.model import DinoConfig
from stego_cli.crf.build import build_crf
from stego_cli.data import views
from stego_cli.engine.ablate.ground import look_of, without_head
from stego_cli.engine.ablate.validation import groups_of
from stego_cli.engine.device import choose_device
from stego_cli.engine.train.step import build_train_state
from stego_cli.engine.train.timing import median_seconds, step_seconds
from stego_cli.methods.stego.draws import draw_step, plan_draws
from stego_cli.methods.stego.step import StepInput
from stego_cli.probes.cluster import ClusterProbe
from stego_cli.probes.linear import LinearProbe
from stego_cli.progress import Silence

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stego_cli.config.ablate import AblateConfig
    from stego_cli.engine.ablate.grid import Cell
    from stego_cli.engine.train.setup import Plan


@dataclass
class Pace:
    """Seconds that are left, by estimates of single cells and what those that are done really took.

    Attributes:
        estimates: Seconds of every cell, by its key.
        places: Cells at work at the same time.
    """

    estimates: Mapping[str, float]
    places: int
    _taken: dict[str, float] = field(default_factory=dict, init=False)

    def done(self, key: str, seconds: float) -> None:
        """Learn what a cell took."""
        self._taken[key] = seconds

    def left(self, keys: Iterable[str]) -> float:
        """Return the seconds until these cells are done.

        Example:
            >>> pace = Pace({"a": 1.0, "b": 2.0, "c": 3.0}, places=1)
            >>> pace.done("a", 2.0)  # twice as long as estimated, and so may the others
            >>> pace.left(["b", "c"])
            10.0
        """
        expected = sum(self.estimates.get(key, 0.0) for key in self._taken)
        factor = sum(self._taken.values()) / expected if expected > 0 else 1.0
        return factor * sum(self.estimates.get(key, 0.0) for key in keys) / max(self.places, 1)


def estimate_cells(config: AblateConfig, plan: Plan, cells: Sequence[Cell], threads: int) -> dict[str, float]:
    """Return about how many seconds each cell of a ground takes, by its key.

    Args:
        config: Settings of the grid.
        plan: Training images, backbone and classes.
        cells: The cells.
        threads: Of a process that works on one cell.
    """
    if not cells:
        return {}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found: dict[str, float] = {}
        images = len(plan.validation or ())
        sharpening = _timed_crf(config, plan) if config.crf else 0.0
        for learns in (False, True):
            some = [cell for cell in cells if config.method_config(cell.method, cell.dim).learns == learns]
            for cell, seconds in zip(some, _between(config, plan, some), strict=True):
                found[cell.key] = seconds + images * sharpening
        return found
    finally:
        torch.set_num_threads(before)


def _between(config: AblateConfig, plan: Plan, cells: Sequence[Cell]) -> list[float]:
    """Time the least and the most dimensions, and take what lies between as lying between."""
    if not cells:
        return []
    ends = sorted({cells[0].dim, *(cell.dim for cell in cells)})
    dims = [ends[0], ends[-1]]
    first = {cell.dim: cell for cell in cells}
    images = len(plan.validation or ())
    times = [
        config.train.steps * _timed_step(config, plan, first[dim]) + images * _timed_image(config, plan, dim)
        for dim in dict.fromkeys(dims)
    ]
    return np.interp([cell.dim for cell in cells], list(dict.fromkeys(dims)), times).tolist()


def _timed_step(config: AblateConfig, plan: Plan, cell: Cell) -> float:
    """Return the median seconds of a step on made-up features."""
    method, train = config.method_config(cell.method, cell.dim), plan.config
    learns = method.learns
    channels = plan.run.backbone.channels if learns else cell.dim
    loss = train.loss if learns else without_head(train.loss)
    batch, side = min(train.batch_size, len(plan.run.dataset)), train.resolution // plan.run.backbone.patch_size
    device = choose_device(train.device)
    state = build_train_state(
        method if learns else DinoConfig(), loss, train.optimiser, channels, plan.clusters, len(plan.space), 0
    )
    state.to(device)
    features = torch.randn(batch, channels, side, side)
    pixels = len(range(0, train.resolution, config.train.label_stride))
    step = StepInput(
        features,
        draw_step(plan_draws(loss, 0.0, batch, channels), 0, 0),
        neighbor_features=features.flip(0) if learns else None,
        labels=torch.zeros(batch, pixels, pixels, dtype=torch.uint8),
    ).to(device)
    return step_seconds(state, step)


@torch.inference_mode()
def _timed_image(config: AblateConfig, plan: Plan, dim: int) -> float:
    """Return the median seconds of measuring one made-up image without a CRF."""
    look = look_of(config, plan)
    group = groups_of(look, Silence())[0]
    code = torch.randn(1, dim, *group.fingerprint.shape[1:])
    clusters, classes = ClusterProbe(plan.clusters, dim), LinearProbe(len(plan.space), dim)
    view = look.view(*group.dataset.size(0))

    def one(_number: int) -> float:
        for scores in (clusters.log_probs(code, 2.0, view.size), classes.log_probs(code, view.size)):
            if config.protocol == "native":
                views.restore_labels(view, scores[0].numpy())
        return 0.0

    return median_seconds(one)


def _timed_crf(config: AblateConfig, plan: Plan) -> float:
    """Return the median seconds of sharpening what both probes say of one made-up image."""
    group = groups_of(look_of(config, plan), Silence())[0]
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (*group.size, 3), dtype=np.uint8)
    stacks = [random.random((count, *group.size), np.float32) for count in (plan.clusters, len(plan.space))]
    crf = build_crf(config.crf_parameters)
    return median_seconds(lambda _: float(crf.refine(image, stacks)[0][0, 0, 0]))
