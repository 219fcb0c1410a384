"""Steps as one compiled program."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stego_cli.config.losses import LossConfig, OptimiserConfig
from stego_cli.config.model import StegoConfig
from stego_cli.engine.train.compiled import LONG, compile_step, pays
from stego_cli.engine.train.step import TrainState, build_train_state, train_step
from stego_cli.methods.stego.draws import draw_step, plan_draws
from stego_cli.methods.stego.step import StepInput
from support import Heard

LOSS = LossConfig(feature_samples=3, negative_samples=2)


def fresh() -> TrainState:
    return build_train_state(StegoConfig(code_dim=6), LOSS, OptimiserConfig(), 10, 4, 3, seed=0)


def step_for(number: int) -> StepInput:
    generator = torch.Generator().manual_seed(number)
    features = torch.randn(2, 3, 10, 4, 4, generator=generator)
    labels = torch.randint(0, 3, (3, 16, 16), generator=generator)
    draws = draw_step(plan_draws(LOSS, 0.1, 3, 10), seed=1, step=number)
    return StepInput(features[0], draws, neighbor_features=features[1], labels=labels)


@pytest.mark.parametrize(
    ("wanted", "device", "steps", "world", "answer"),
    [
        ("auto", "cuda", LONG, 1, True),
        ("auto", "cuda", LONG - 1, 1, False),
        ("auto", "cpu", 10**6, 1, False),
        ("auto", "cuda", LONG, 2, False),
        ("on", "cpu", 1, 1, True),
        ("on", "cuda", LONG, 2, False),
        ("off", "cuda", 10**6, 1, False),
    ],
)
def test_auto_compiles_long_runs_on_cards_alone(wanted: Any, device: str, steps: int, world: int, answer: bool) -> None:
    assert pays(wanted, torch.device(device), steps, world) is answer


def test_compiled_steps_are_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a compiler that changes nothing: what is tested is that the trial leaves no trace and the model is used."""
    monkeypatch.setattr(torch, "compile", torch._dynamo.optimize("eager"))
    plain, compiled, heard = fresh(), fresh(), Heard()
    compile_step(compiled, lambda: step_for(0), heard)
    assert compiled.model is not compiled.trainee
    assert heard.notes == []
    assert all(parameter.grad is None for parameter in compiled.trainee.parameters())
    for number in range(3):
        one, other = (train_step(state, step_for(number), number) for state in (plain, compiled))
        for name, value in one.items():
            torch.testing.assert_close(other[name], value)
    torch.testing.assert_close(compiled.trainee.state_dict(), plain.trainee.state_dict())


@pytest.mark.parametrize("breaks", ["forward", "backward"])
def test_what_cannot_be_compiled_is_computed_as_it_is_with_one_note(
    monkeypatch: pytest.MonkeyPatch, breaks: str
) -> None:
    class Broken(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, sealed: Any) -> Any:
            if breaks == "forward":
                raise RuntimeError("no C++ compiler\nand forty more lines")
            found = self.model(sealed)
            found["total"].register_hook(self._fail)
            return found

        def _fail(self, _gradient: torch.Tensor) -> None:
            raise subprocess.CalledProcessError(1, "cc")

    monkeypatch.setattr(torch, "compile", Broken)
    plain, state, heard = fresh(), fresh(), Heard()
    compile_step(state, lambda: step_for(0), heard)
    assert state.model is state.trainee
    (note,) = heard.notes
    assert "cannot be compiled" in note
    assert "\n" not in note
    for number in range(2):
        train_step(plain, step_for(number), number)
        train_step(state, step_for(number), number)
    assert all(
        torch.equal(value, state.trainee.state_dict()[name]) for name, value in plain.trainee.state_dict().items()
    )


def test_a_machine_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real one, which looks for a C++ compiler when it is first used."""
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", (str(tmp_path / "no-such-compiler"),))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    state, heard = fresh(), Heard()
    compile_step(state, lambda: step_for(0), heard)
    assert len(heard.notes) == 1
    assert train_step(state, step_for(0), 0)["total"].isfinite()
