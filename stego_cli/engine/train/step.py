"""One step of training: head, cluster probe and linear probe, updated once from one backward pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import Adam

from stego_cli.engine.train.probe_terms import linear_loss
from stego_cli.methods.build import build_method
from stego_cli.methods.stego.objective import StegoObjective
from stego_cli.probes.cluster import ClusterProbe
from stego_cli.probes.linear import LinearProbe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stego_cli.config.losses import LossConfig, OptimiserConfig
    from stego_cli.config.model import MethodConfig
    from stego_cli.methods.stego.step import StepInput

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class Sealed:
    """Keeps a step's input as it is on its way through wrappers of a model.

    Those that spread a model over devices copy and cast whatever they find in arguments, and stop at a frozen
    dataclass.
    """

    __slots__ = ("step",)

    def __init__(self, step: StepInput) -> None:
        self.step = step


class Trainee(nn.Module):
    """Everything that learns, as one module, so that one wrapper can compile it or spread it over devices.

    Attributes:
        objective: Head, decoder and what they are trained for.
        cluster_probe: Learns from detached code without labels.
        linear_probe: Learns from detached code with labels; None where there are none.
    """

    def __init__(
        self, objective: StegoObjective, cluster_probe: ClusterProbe, linear_probe: LinearProbe | None
    ) -> None:
        super().__init__()
        self.objective = objective
        self.cluster_probe = cluster_probe
        self.linear_probe = linear_probe

    def forward(self, sealed: Sealed) -> dict[str, Tensor]:
        """Return every loss term by name, and their weighted sum as `total`, which alone has a gradient."""
        step = sealed.step
        found = self.objective(step)
        code = found.code.detach()  # probes never steer the head
        with torch.autocast(code.device.type, enabled=False):
            terms = {**found.terms, "cluster": self.cluster_probe.loss(code)}
            total = found.loss + terms["cluster"]
            if self.linear_probe is not None and step.labels is not None:
                terms["linear"] = linear_loss(self.linear_probe, code, step.labels)
                total = total + terms["linear"]
        return {**{name: term.detach() for name, term in terms.items()}, "total": total}


@dataclass
class TrainState:
    """What changes from step to step.

    Attributes:
        model: The trainee, or a wrapper of it that takes the same arguments.
        trainee: What is inside the wrapper.
        optimizers: By name: head (absent if it has no parameters), cluster, linear (absent without labels).
        first_bad: Number of the first step whose loss or gradient was no finite number, or -1; int64, on the device.
        watch_gradients: Whether gradients are looked at, too. Off under a gradient scaler, which has its own watch
            and lets them overflow on purpose.
    """

    model: nn.Module
    trainee: Trainee
    optimizers: dict[str, torch.optim.Optimizer]
    first_bad: Tensor
    watch_gradients: bool = field(default=True)

    def to(self, device: torch.device) -> TrainState:
        """Move a fresh state, whose optimizers remember nothing yet, and return it."""
        self.trainee.to(device)
        self.first_bad = self.first_bad.to(device)
        return self

    def bad_step(self) -> int | None:
        """Return the first step that went wrong, or None. Waits for the device, so ask now and then.

        Since that step nothing was updated any more: the state is the last good one.
        """
        number = int(self.first_bad)
        return None if number < 0 else number


def train_step(
    state: TrainState, step: StepInput, number: int, backward: Callable[[Tensor], None] = Tensor.backward
) -> dict[str, Tensor]:
    """Update the head and both probes once, and return every loss term by name, as it was before the update.

    Nothing waits for the device: terms are tensors without gradient, and a step that is no finite number is noted and
    skipped on the device itself.

    Args:
        state: Updated in place.
        step: A batch on the state's device.
        number: Number of the step, from 0.
        backward: How the total is differentiated, for engines that scale it or gather gradients.

    Returns:
        self, knn, random and their code similarities self_corr, knn_corr, random_corr; rec, aug, crf where they
        have weight; cluster; linear where there are labels; total.
    """
    for optimizer in state.optimizers.values():
        optimizer.zero_grad()
    terms: dict[str, Tensor] = state.model(Sealed(step))
    backward(terms["total"])
    terms["total"] = terms["total"].detach()
    _note_trouble(state, terms["total"], number)
    skip = (state.first_bad >= 0).float()
    for optimizer in state.optimizers.values():
        _unwrapped(optimizer).found_inf = skip  # type: ignore[attr-defined]  # what gradient scalers set, too
        optimizer.step()
    return terms


def _note_trouble(state: TrainState, total: Tensor, number: int) -> None:
    """Remember the number of the first step whose loss or gradient is not finite."""
    fine = torch.isfinite(total)
    if state.watch_gradients:
        gradients = [each.grad for each in state.trainee.parameters() if each.grad is not None]
        fine = fine & torch.isfinite(torch.nn.utils.get_total_norm(gradients))
    before = state.first_bad.to(total.device)
    state.first_bad = torch.where((before < 0) & ~fine, number, before)


def build_train_state(
    method: MethodConfig,
    loss: LossConfig,
    rates: OptimiserConfig,
    feature_dim: int,
    num_clusters: int,
    num_classes: int | None,
    seed: int,
) -> TrainState:
    """Return a fresh state on the CPU, the same for the same seed, whatever was drawn before.

    Args:
        method: The head.
        loss: What it is trained for.
        rates: Learning rates.
        feature_dim: Channels of the features.
        num_clusters: Clusters of the cluster probe.
        num_classes: Classes of the linear probe; None without labels.
        seed: Seed of the initial weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        objective = StegoObjective(loss, build_method(method, feature_dim), feature_dim, num_classes)
        cluster_probe = ClusterProbe(num_clusters, objective.head.code_dim)
        linear_probe = None if num_classes is None else LinearProbe(num_classes, objective.head.code_dim)
    return new_state(Trainee(objective, cluster_probe, linear_probe), rates)


def new_state(trainee: Trainee, rates: OptimiserConfig) -> TrainState:
    """Return a state with fresh optimisers for the trainee, on the device that the trainee is on."""
    groups: dict[str, tuple[nn.Module | None, float]] = {
        "head": (trainee.objective, rates.lr),
        "cluster": (trainee.cluster_probe, rates.probe_lr),
        "linear": (trainee.linear_probe, rates.probe_lr),
    }
    optimizers: dict[str, torch.optim.Optimizer] = {
        name: _adam(module.parameters(), rate)
        for name, (module, rate) in groups.items()
        if module is not None and any(True for _ in module.parameters())
    }
    device = trainee.cluster_probe.centroids.device
    return TrainState(trainee, trainee, optimizers, torch.full((), -1, dtype=torch.int64, device=device))


def reset_probes(state: TrainState, seed: int) -> None:
    """Let both probes start anew, from weights that depend on the seed only, and forget their optimisers' past."""
    trainee = state.trainee
    drawn = torch.randn(trainee.cluster_probe.centroids.shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        trainee.cluster_probe.centroids.copy_(drawn)
        if trainee.linear_probe is not None:
            trainee.linear_probe.weight.zero_()
            trainee.linear_probe.bias.zero_()
    for name in state.optimizers.keys() - {"head"}:
        _unwrapped(state.optimizers[name]).state.clear()


def _adam(parameters: Iterable[nn.Parameter], rate: float) -> Adam:
    # Fused: the only kind that can skip a step on the device (`found_inf`), without asking the host.
    return Adam(parameters, lr=rate, betas=BETAS, eps=EPSILON, fused=True)


def _unwrapped(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimiser inside a wrapper that an engine may have put around it."""
    inner = getattr(optimizer, "optimizer", optimizer)
    return inner if isinstance(inner, torch.optim.Optimizer) else optimizer
