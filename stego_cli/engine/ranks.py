"""Several processes that share one evaluation, as torchrun starts them: each takes every n-th image."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

T = TypeVar("T")

# torchrun sets all of them; a part of them alone, as in a shell of SLURM, does not mean that there are others.
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is.

    Attributes:
        rank: From 0.
        world: How many there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return this process's part of the items: every `world`-th, so that all get alike ones."""
        return items[self.rank :: self.world]

    def sum(self, counts: Tensor) -> Tensor:
        """Return the sum of what all processes have; integers, so that the order does not matter."""
        if self.world > 1:
            counts = counts.clone()
            dist.all_reduce(counts)
        return counts

    def gather(self, item: T) -> list[T]:
        """Return what every process has, in the order of the ranks."""
        if self.world == 1:
            return [item]
        items: list[Any] = [None] * self.world
        dist.all_gather_object(items, item)
        return items

    def device(self, name: str) -> str:
        """Return the device for this process: under `auto` each gets a CUDA card of its own, where there are some."""
        cards = torch.cuda.device_count()
        if name != "auto" or self.world == 1 or not cards:
            return name
        return f"cuda:{int(os.environ.get('LOCAL_RANK', self.rank)) % cards}"


@contextmanager
def open_ranks() -> Iterator[Ranks]:
    """Join the processes that torchrun started, if it did; counts travel over gloo, whatever computes them."""
    if dist.is_available() and dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size())
        return
    if not all(os.environ.get(name) for name in _VARIABLES) or os.environ["WORLD_SIZE"] == "1":
        yield Ranks()
        return
    dist.init_process_group("gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
