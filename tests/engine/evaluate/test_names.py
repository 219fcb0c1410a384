"""The classes of clusters, written into models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stego_cli.catalog.models import embedded_path
from stego_cli.checkpoints.native import load_checkpoint, read_safetensors, save_checkpoint
from stego_cli.config.model import LabelSpace
from stego_cli.engine.evaluate.names import save_names, target_for_names
from stego_cli.errors import OutputError
from stego_cli.progress import Silence

TWO = LabelSpace(name="two", names=("light", "dark"), colours=((9, 9, 9), (1, 1, 1)))


def test_everything_but_names_and_scores_stays_what_it_was(tiny_model: Path, tmp_path: Path) -> None:
    target = tmp_path / "named.safetensors"
    before = load_checkpoint(tiny_model)
    save_names(tiny_model, target, before.config.label_space, [1, -1, 0], {"x miou": 0.5}, Silence())
    after = load_checkpoint(target)
    assert after.config.cluster_to_class == (1, -1, 0)
    assert after.config.about.scores == {**before.config.about.scores, "x miou": 0.5}
    same = {"cluster_to_class": None, "about": before.config.about}
    assert after.config.model_copy(update=same) == before.config.model_copy(update=same)
    assert after.tensors.keys() == before.tensors.keys()
    assert all(torch.equal(after.tensors[key], before.tensors[key]) for key in before.tensors)


def test_half_precision_stays_half(tiny_model: Path, tmp_path: Path) -> None:
    half, target = tmp_path / "half.safetensors", tmp_path / "named.safetensors"
    save_checkpoint(load_checkpoint(tiny_model), half, torch.float16)
    save_names(half, target, load_checkpoint(half).config.label_space, [0, 1, 2], {}, Silence())
    kinds = {tensor.dtype for tensor in read_safetensors(target)[1].values() if tensor.is_floating_point()}
    assert kinds == {torch.float16}


def test_a_copy_for_other_classes_is_without_the_linear_probe(tiny_model: Path, tmp_path: Path) -> None:
    target = tmp_path / "named.safetensors"
    save_names(tiny_model, target, TWO, [0, 1, -1], {}, Silence())
    named = load_checkpoint(target)
    assert named.config.label_space == TWO
    assert not any(key.startswith("linear_probe.") for key in named.tensors)


def test_released_and_embedded_files_are_never_changed(tmp_path: Path) -> None:
    released = tmp_path / "potsdam.ckpt"
    torch.save({"state_dict": {}}, released)
    with pytest.raises(OutputError, match=r"never changed\n\nhint: name a copy, such as --out potsdam.safetensors"):
        target_for_names(released, None, overwrite=True)
    with pytest.raises(OutputError, match="embedded model is never changed"):
        target_for_names(embedded_path(), None, overwrite=True)


def test_a_target_is_a_new_model_file(tiny_model: Path, tmp_path: Path) -> None:
    for wrong, meant in ((tmp_path, tmp_path / "named.safetensors"), (tmp_path / "x.pt", tmp_path / "x.safetensors")):
        with pytest.raises(OutputError, match=f"use --out {meant}"):
            target_for_names(tiny_model, wrong, overwrite=True)
    there = tmp_path / "there.safetensors"
    there.touch()
    with pytest.raises(OutputError, match="exists"):
        target_for_names(tiny_model, there, overwrite=False)
    assert target_for_names(tiny_model, there, overwrite=True) == there
    with pytest.raises(OutputError, match="--overwrite if they may"):
        target_for_names(tiny_model, None, overwrite=False)
    assert target_for_names(tiny_model, None, overwrite=True) == tiny_model
