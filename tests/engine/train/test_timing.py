"""Timing of what a plan promises, with a clock that tells what the test wants."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from stego_cli.backbones.base import Backbone
from stego_cli.config.losses import LossConfig, OptimiserConfig
from stego_cli.config.model import StegoConfig
from stego_cli.engine.train import timing
from stego_cli.engine.train.step import build_train_state
from stego_cli.methods.stego.draws import draw_step, plan_draws
from stego_cli.methods.stego.step import StepInput

SPANS = [100.0, 3.0, 1.0, 2.0]  # of the calls; the first one warms up


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def times() -> Iterator[float]:
        now = 0.0
        for span in SPANS:
            yield now
            now += span
            yield now

    ticks = times()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(ticks))


@pytest.mark.usefixtures("clock")
def test_the_first_call_does_not_count() -> None:
    called: list[int] = []

    def work(number: int) -> float:
        called.append(number)
        return 0.0

    assert timing.median_seconds(work) == 2.0
    assert called == [0, 1, 2, 3]


@pytest.mark.usefixtures("clock")
def test_a_step_is_timed_by_training() -> None:
    loss = LossConfig(feature_samples=3, negative_samples=1)
    state = build_train_state(StegoConfig(code_dim=3), loss, OptimiserConfig(), 5, 2, None, 0)
    before = state.trainee.cluster_probe.centroids.detach().clone()
    features = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    step = StepInput(features, draw_step(plan_draws(loss, 0.0, 2, 5), 0, 0), neighbor_features=features.flip(0))
    assert timing.step_seconds(state, step) == 2.0
    assert not torch.equal(before, state.trainee.cluster_probe.centroids)


class Watched(Backbone):
    """Remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_size, self.channels = 8, 1
        self.seen: list[tuple[int, ...]] = []

    def features(self, images: torch.Tensor) -> torch.Tensor:
        assert torch.is_inference_mode_enabled()
        self.seen.append(tuple(images.shape))
        return images[:, :1, ::8, ::8]


@pytest.mark.usefixtures("clock")
def test_a_backbone_is_timed_by_the_image() -> None:
    backbone = Watched()
    assert timing.backbone_seconds(backbone, 16, 4) == 0.5
    assert backbone.seen == [(4, 3, 16, 16)] * 4
