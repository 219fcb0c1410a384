"""What states of runs have in common on disk: tensors by name, in one file without pickles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetensors.torch import save

from stego_cli.checkpoints.native import read_safetensors
from stego_cli.errors import CheckpointError
from stego_cli.files import atomic_write, printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor
    from torch.optim import Optimizer


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write tensors of any device, and what they are; the file appears whole or not at all.

    Args:
        path: Of the file.
        tensors: By name.
        about: One entry only: the library writes several in an order that changes from run to run.

    Raises:
        OutputError: If it cannot be written; the one that was there stays.
    """
    own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    data = save(own, metadata=dict(about))
    with atomic_write(path) as file:
        file.write(data)


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read what `write_tensors` wrote: what it is, and tensors by name.

    Raises:
        CheckpointError: If it is damaged. It says how to start anew: there is no original to copy it from again.
    """
    try:
        return read_safetensors(path)
    except CheckpointError as error:
        raise unusable(path, "it is missing, damaged or cut short") from error


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return those tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def optimizer_tensors(prefix: str, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return what an optimizer remembers, named `prefix`, number of the parameter, dot, what it is.

    Its settings are not among it: they are those of the run, which are checked apart.
    """
    return {
        f"{prefix}{number}.{kind}": value
        for number, entries in optimizer.state_dict()["state"].items()
        for kind, value in entries.items()
    }


def restore_optimizer(prefix: str, optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put what `optimizer_tensors` returned back into a fresh optimizer of the same parameters.

    Args:
        prefix: As it was then.
        optimizer: Remembers nothing yet.
        tensors: May hold others, too.

    Raises:
        ValueError: If a name is none of an optimizer's.
    """
    entries: dict[int, dict[str, Tensor]] = {}
    for name, value in below(prefix, tensors).items():
        number, _, kind = name.partition(".")
        entries.setdefault(int(number), {})[kind] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})


def unusable(path: Path, why: str) -> CheckpointError:
    """Return the error for a state that no run can go on from."""
    name = printable(path)
    return CheckpointError(f"no run can go on from `{name}`: {why}\n\nhint: start anew with --overwrite")
