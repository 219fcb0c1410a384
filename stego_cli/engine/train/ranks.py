"""One process, or several that train one model together; the latter through Lightning Fabric, which is loaded then."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stego_cli.engine.device import choose_device
from stego_cli.engine.extract import rank_and_world
from stego_cli.errors import ConfigError, DeviceError, MissingDependencyError, StegoError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stego_cli.config.train import TrainConfig
    from stego_cli.engine.train.step import TrainState

# What gloo and nccl say when the other end is gone.
GONE = ("connection closed by peer", "connection reset by peer", "broken pipe", "remote process exited")


class InType(nn.Module):
    """A model whose products are computed in another type; what must not be says so itself."""

    def __init__(self, model: nn.Module, kind: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.kind = kind

    def forward(self, sealed: Any) -> Any:
        """Call the model under autocast."""
        with torch.autocast(sealed.step.features.device.type, self.kind):
            return self.model(sealed)


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, as one of them sees it.

    Attributes:
        device: Where this process computes.
        rank: Its number, from 0; only that one writes and speaks.
        world: How many there are.
        fabric: What connects them; None for a single process, which pays for none of it.
    """

    device: torch.device
    rank: int = 0
    world: int = 1
    fabric: Any = None

    def spread(self, state: TrainState) -> Callable[[Tensor], None]:
        """Let the processes share gradients of a state's model; return how to differentiate."""
        if self.fabric is None:
            return Tensor.backward
        state.model = self.fabric.setup_module(state.model, move_to_device=False)
        backward: Callable[[Tensor], None] = self.fabric.backward
        return backward

    def any(self, wish: bool) -> bool:
        """Say whether any process has a wish; all must ask at the same step."""
        if self.fabric is None:
            return wish
        flag = torch.tensor(float(wish), device=self.device)
        return bool(self.fabric.all_reduce(flag, reduce_op="sum") > 0)

    def together(self, task: Callable[[], object]) -> None:
        """Let the first process do something that the others need, and all of them end if it cannot.

        Raises:
            StegoError: What the first one raises; the others say that it did.
        """
        error: StegoError | None = None
        if self.rank == 0:
            try:
                task()
            except StegoError as caught:
                error = caught
        if self.any(error is not None):
            raise error or StegoError("the first process ended the run\n\nhint: see its message")

    @contextmanager
    def bound(self) -> Iterator[None]:
        """Say in words that another process is gone, which those that wait for it hear from the network first.

        Raises:
            StegoError: If so.
        """
        try:
            yield
        except RuntimeError as error:
            if self.fabric is None or not any(sign in str(error).lower() for sign in GONE):
                raise
            raise StegoError(
                "another process of this run ended, so that this one cannot go on\n\n"
                "hint: see its message, if there is one; the same command goes on after the last saved state"
            ) from error

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.fabric is not None:
            self.fabric.barrier()


def start_ranks(config: TrainConfig) -> Ranks:
    """Return this process's part: alone, or one of those that `--devices`, torchrun or SLURM ask for.

    Raises:
        DeviceError: If there are not so many devices.
        ConfigError: If the batch cannot be shared evenly.
        MissingDependencyError: If there are several and Lightning Fabric is not installed.
    """
    launched = rank_and_world()[1]
    if launched == 1 and config.devices == 1:
        return Ranks(choose_device(config.device))
    kind = choose_device(config.device).type
    here = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("SLURM_NTASKS_PER_NODE", config.devices)))
    if kind == "cuda" and torch.cuda.device_count() < here:
        raise DeviceError(f"there are {torch.cuda.device_count()} GPUs for {here} devices\n\nhint: use fewer --devices")
    if kind == "mps":
        raise DeviceError("Apple's GPU cannot be shared by several processes\n\nhint: leave out --devices")
    world = launched if launched > 1 else here
    if config.batch_size % world:
        raise ConfigError(
            f"{config.batch_size} images cannot be shared evenly by {world} processes\n\n"
            f"hint: use --batch-size {max(config.batch_size // world, 1) * world}"
        )
    fabric = _fabric(config, kind, here, max(world // here, 1))
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it counts processes aloud, even if all is quiet
    fabric.launch()
    # What prepares features and neighbours asks these; processes that Fabric started itself lack one of them.
    os.environ.update(RANK=str(fabric.global_rank), WORLD_SIZE=str(fabric.world_size))
    return Ranks(fabric.device, fabric.global_rank, fabric.world_size, fabric)


def _fabric(config: TrainConfig, kind: str, devices: int, nodes: int) -> Any:
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy
    except ImportError as error:
        raise MissingDependencyError(
            "several devices need Lightning Fabric, which is not installed\n\nhint: pip install lightning-fabric"
        ) from error
    loss = config.loss
    idle = not (loss.correspondence_weight or loss.rec_weight or loss.aug_weight or loss.crf_weight)
    strategy = DDPStrategy(find_unused_parameters=idle, process_group_backend="nccl" if kind == "cuda" else "gloo")
    return Fabric(accelerator=kind, devices=devices, num_nodes=nodes, strategy=strategy)
