"""A training step as one compiled program, where that pays; where it cannot be compiled, training goes on without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from stego_cli.engine.train.step import Sealed

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from stego_cli.config.words import CompileChoice
    from stego_cli.engine.train.step import TrainState
    from stego_cli.methods.stego.step import StepInput
    from stego_cli.progress import Report

# Steps from which on compiling surely pays: two minutes of it, where a step gains 6 ms (tests/bench/bench_train.py).
LONG = 20_000


def pays(wanted: CompileChoice, device: torch.device, steps: int, world: int) -> bool:
    """Say whether steps are to be compiled.

    Args:
        wanted: What the user asked for; `auto` compiles long runs on CUDA cards.
        device: Where the steps are computed.
        steps: How many there are.
        world: Processes that share them; their wrapper takes no compiled model.
    """
    if wanted == "auto":
        return device.type == "cuda" and steps >= LONG and world == 1
    return wanted == "on" and world == 1


def compile_step(state: TrainState, first: Callable[[], StepInput], report: Report) -> None:
    """Compile the model of a state, if it can be; one trial tells, as compilers start when they are first used.

    Args:
        state: Its model is replaced; nothing of it is trained.
        first: Gives a step to try it on.
        report: Told if it does not work, and why.
    """
    plain = state.model
    try:
        compiled: nn.Module = torch.compile(plain)  # type: ignore[assignment]  # of a module it returns a module
        compiled(Sealed(first()))["total"].backward()
    except Exception as error:  # noqa: BLE001 - anything may be wrong with a compiler; the plain step tells if it is us
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        report.note(f"steps cannot be compiled here, so they are computed as they are: {reason}")
        torch.compiler.reset()
    else:
        state.model = compiled
    finally:
        for parameter in state.trainee.parameters():
            parameter.grad = None
