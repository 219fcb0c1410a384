"""Processes that share an evaluation."""

from __future__ import annotations

import pytest
import torch

from stego_cli.engine.ranks import Ranks, open_ranks


def test_every_item_belongs_to_one_process() -> None:
    shares = [Ranks(rank, 3).share(range(8)) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == list(range(8))
    assert [len(share) for share in shares] == [3, 3, 2]


def test_alone_nothing_travels() -> None:
    counts = torch.tensor([1, 2])
    assert Ranks().sum(counts) is counts
    assert Ranks().gather("x") == ["x"]


def test_a_part_of_the_variables_does_not_mean_that_there_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with open_ranks() as ranks:
        assert ranks == Ranks(0, 1)


def test_each_process_gets_a_card_of_its_own_if_it_may_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert Ranks(3, 4).device("auto") == "cuda:1"
    assert Ranks(3, 4).device("cpu") == "cpu"
    assert Ranks().device("auto") == "auto"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert Ranks(3, 4).device("auto") == "auto"
