"""What states of runs have in common on disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from stego_cli.checkpoints.native import read_safetensors
from stego_cli.engine.saved_state import (
    below,
    optimizer_tensors,
    read_tensors,
    restore_optimizer,
    unusable,
    write_tensors,
)
from stego_cli.errors import CheckpointError, OutputError


def trained(kind: type[torch.optim.Optimizer], steps: int) -> tuple[nn.Linear, torch.optim.Optimizer]:
    """Return a layer and its optimizer after some steps of known gradients."""
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    optimizer = kind(layer.parameters(), lr=0.1)  # type: ignore[call-arg]  # all have one
    for number in range(steps):
        step(layer, optimizer, number)
    return layer, optimizer


def step(layer: nn.Linear, optimizer: torch.optim.Optimizer, number: int) -> None:
    for parameter in layer.parameters():
        parameter.grad = torch.full_like(parameter, number + 1.0)
    optimizer.step()


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_an_optimizer_goes_on_as_if_it_had_not_been_saved(kind: type[torch.optim.Optimizer], tmp_path: Path) -> None:
    layer, optimizer = trained(kind, 3)
    write_tensors(tmp_path / "s", optimizer_tensors("optimizer.head.", optimizer), {"about": "a run"})
    other, restored = trained(kind, 0)
    other.load_state_dict(layer.state_dict())
    metadata, tensors = read_safetensors(tmp_path / "s")
    assert metadata["about"] == "a run"
    restore_optimizer("optimizer.head.", restored, tensors)
    for number in (3, 4):
        step(layer, optimizer, number)
        step(other, restored, number)
    assert torch.equal(layer.weight, other.weight)
    assert torch.equal(layer.bias, other.bias)


def test_names_say_which_optimizer_which_parameter_and_what() -> None:
    _, optimizer = trained(torch.optim.Adam, 1)
    names = {f"o.{number}.{kind}" for number in (0, 1) for kind in ("step", "exp_avg", "exp_avg_sq")}
    assert set(optimizer_tensors("o.", optimizer)) == names


def test_an_optimizer_without_a_past_stays_one() -> None:
    layer, optimizer = trained(torch.optim.Adam, 0)
    assert optimizer_tensors("o.", optimizer) == {}
    restore_optimizer("o.", optimizer, {"window.total": torch.zeros(1)})
    assert optimizer.state_dict()["state"] == {}
    step(layer, optimizer, 0)


def test_names_that_are_none_of_an_optimizer_are_refused() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        restore_optimizer("o.", trained(torch.optim.Adam, 0)[1], {"o.first.step": torch.zeros(1)})


def test_a_prefix_chooses_and_is_taken_off() -> None:
    one, two = torch.zeros(1), torch.ones(1)
    found = below("model.", {"model.a": one, "model.b.c": two, "window.model.a": two})
    assert list(found) == ["a", "b.c"]
    assert found["a"] is one


def test_views_and_what_needs_gradients_are_written_by_value(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3).requires_grad_()
    write_tensors(tmp_path / "s", {"turned": whole.T, "same": whole, "again": whole}, {"about": ""})
    _, tensors = read_safetensors(tmp_path / "s")
    assert torch.equal(tensors["turned"], whole.detach().T)
    assert torch.equal(tensors["same"], tensors["again"])


def test_the_same_tensors_are_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    tensors = {"b": torch.ones(2), "a": torch.zeros(3, dtype=torch.int64)}
    write_tensors(tmp_path / "one", tensors, {"about": "x"})
    write_tensors(tmp_path / "two", dict(reversed(tensors.items())), {"about": "x"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_full_disk_leaves_the_state_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tensors(tmp_path / "s", {"a": torch.ones(2)}, {"about": "old"})
    before = (tmp_path / "s").read_bytes()

    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError):
        write_tensors(tmp_path / "s", {"a": torch.zeros(2)}, {"about": "new"})
    assert (tmp_path / "s").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_damaged_state_says_how_to_start_anew(tmp_path: Path) -> None:
    write_tensors(tmp_path / "s", {"a": torch.ones(2)}, {"about": "x"})
    assert read_tensors(tmp_path / "s")[0] == {"about": "x"}
    (tmp_path / "s").write_bytes((tmp_path / "s").read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"cut short\n\nhint: start anew with --overwrite"):
        read_tensors(tmp_path / "s")


def test_a_state_that_cannot_be_used_is_named_with_what_to_do(tmp_path: Path) -> None:
    said = str(unusable(Path(os.fsdecode(b"caf\xe9.state")), "it is of a run with other sizes"))
    assert "caf\\udce9.state`: it is of a run with other sizes\n\nhint: start anew with --overwrite" in said
