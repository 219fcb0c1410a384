from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from stego_cli.checkpoints.describe import describe_checkpoint, load_any
from stego_cli.checkpoints.native import Checkpoint, save_checkpoint
from stego_cli.checkpoints.released import convert_released
from stego_cli.config.backbone_file import BACKBONE_KEY
from stego_cli.config.model import VitArchitecture, VitConfig
from stego_cli.errors import CheckpointError

Make = Callable[..., dict[str, Tensor]]
CFG = {"model_type": "vit_small", "dataset_name": "cocostuff27", "dino_feat_type": "feat"}


@pytest.fixture
def released(tmp_path: Path, stego_state: Make, write_lightning: Callable[..., Path]) -> Path:
    return write_lightning(tmp_path / "their model.ckpt", stego_state(), CFG)


@pytest.fixture
def ours(tmp_path: Path, released: Path) -> Path:
    save_checkpoint(convert_released(released), tmp_path / "ours.safetensors")
    return tmp_path / "ours.safetensors"


def test_our_model_is_described(ours: Path) -> None:
    said = describe_checkpoint(ours)
    facts = dict(said.rows)
    assert said.kind == "model"
    assert said.problems == []
    assert said.title.startswith("STEGO with 5 code dimensions")
    assert facts["cluster probe"] == "4 clusters, never matched to classes"
    assert facts["linear probe"] == "3 classes"
    assert facts["stored as"] == "float32"
    assert "width 12" in facts["backbone"]
    assert said.next_step == f"stego predict IMAGES --model {ours}"


def test_a_released_checkpoint_is_described(released: Path) -> None:
    said = describe_checkpoint(released)
    assert said.kind == "released STEGO checkpoint"
    assert said.problems == []
    assert dict(said.rows)["Lightning"] == "1.5.10"
    assert "stego convert" in said.next_step
    assert f"'{released}'" in said.next_step  # the name has a space


def test_a_description_is_plain_values(ours: Path) -> None:
    said = json.loads(json.dumps(describe_checkpoint(ours).as_dict()))
    assert said["sound"] is True
    assert said["facts"]["code"] == "5 dimensions"
    assert set(said) == {"title", "kind", "sound", "facts", "problems", "next_step"}


def test_half_precision_is_said_and_its_hash_not_held_against_it(tmp_path: Path, released: Path) -> None:
    save_checkpoint(convert_released(released), tmp_path / "half", torch.float16)
    said = describe_checkpoint(tmp_path / "half")
    assert dict(said.rows)["stored as"] == "float16"
    assert said.problems == []


def test_another_backbone_under_the_old_hash_is_noticed(tmp_path: Path, released: Path) -> None:
    made = convert_released(released)
    tensors = made.tensors | {"backbone.cls_token": made.tensors["backbone.cls_token"] + 1}
    save_checkpoint(Checkpoint(made.config, tensors), tmp_path / "changed")
    said = describe_checkpoint(tmp_path / "changed")
    assert any("SHA-256" in problem for problem in said.problems)
    assert said.as_dict()["sound"] is False


def test_values_that_are_not_finite_are_a_problem(
    tmp_path: Path, stego_state: Make, write_lightning: Callable[..., Path]
) -> None:
    state = stego_state()
    state["net.cluster1.0.bias"][1] = float("nan")
    said = describe_checkpoint(write_lightning(tmp_path / "nan.ckpt", state, CFG))
    assert said.problems == ["values that are not finite in head.linear.bias"]
    assert "again" in said.next_step


def test_matched_clusters_and_scores_are_said(tmp_path: Path, released: Path) -> None:
    made = convert_released(released)
    about = made.config.about.model_copy(update={"scores": {"val miou": 0.281}, "seed": 3})
    config = made.config.model_copy(update={"cluster_to_class": (0, 1, 2, -1), "about": about})
    save_checkpoint(Checkpoint(config, made.tensors), tmp_path / "m")
    facts = dict(describe_checkpoint(tmp_path / "m").rows)
    assert facts["cluster probe"] == "4 clusters, matched to classes"
    assert facts["score val miou"] == "28.1 %"
    assert facts["seed"] == "3"


def test_weights_of_a_registered_backbone_are_recognised(tmp_path: Path, vit: Make) -> None:
    torch.save(vit(width=384, depth=12, patch=8, side=28), tmp_path / "w.pth")
    said = describe_checkpoint(tmp_path / "w.pth")
    assert said.kind == "backbone weights"
    assert said.title == "w.pth: weights of a ViT-S/8"
    assert dict(said.rows)["fits the backbones"] == "dino_vits8_300ep, dino_vits8"
    assert "`dino_vits8_300ep`" in said.next_step


def test_the_file_name_settles_which_of_two_equal_backbones_it_is(tmp_path: Path, vit: Make) -> None:
    path = tmp_path / "dino_deitsmall8_pretrain.pth"
    torch.save(vit(width=384, depth=12, patch=8, side=28), path)
    assert "`dino_vits8`" in describe_checkpoint(path).next_step


def test_other_weights_say_what_was_left_out_and_what_is_unknown(tmp_path: Path, vit: Make) -> None:
    torch.save({"teacher": {f"backbone.{key}": value for key, value in vit().items()}, "epoch": 3}, tmp_path / "w.pth")
    said = describe_checkpoint(tmp_path / "w.pth")
    assert dict(said.rows)["found"] == "under `teacher`, prefix `backbone.`"
    assert dict(said.rows)["left out"] == "epoch"
    assert "attention heads" in dict(said.rows)["network"]
    assert "--heads" in said.next_step
    assert describe_checkpoint(tmp_path / "w.pth", heads=3).kind == "backbone weights"


def test_bare_safetensors_are_weights(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.ones(2)}, tmp_path / "w.safetensors")
    assert describe_checkpoint(tmp_path / "w.safetensors").kind == "network weights"


def test_words_out_of_a_file_cannot_steer_the_terminal(tmp_path: Path) -> None:
    save_file({"conv\x1b[2J.weight": torch.tensor([float("nan")])}, tmp_path / "w.safetensors")
    said = describe_checkpoint(tmp_path / "w.safetensors")
    assert said.problems == [r"values that are not finite in conv\x1b[2J.weight"]


def test_a_neighbour_file_lists_its_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "nns.npz", nns=np.zeros((2, 3)), other=np.zeros(1))
    said = describe_checkpoint(tmp_path / "nns.npz")
    assert said.title.endswith("not a model file")
    assert dict(said.rows)["arrays"] == "nns, other"
    assert said.problems == []


def test_an_image_is_no_model(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    said = describe_checkpoint(tmp_path / "a.png")
    assert said.kind == "a PNG image"
    assert "stego predict" in said.next_step


@pytest.mark.parametrize(
    "data", [b"", b"<html>no</html>", b"version https://git-lfs.github.com/spec/v1\n", b"PK\x03\x04x"]
)
def test_what_came_broken_is_a_problem(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.ckpt").write_bytes(data)
    said = describe_checkpoint(tmp_path / "m.ckpt")
    assert len(said.problems) == 1
    assert said.next_step


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch PWNED",)


def test_a_hostile_file_is_described_without_running_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "x": Hostile()}, "bad.ckpt")
    said = describe_checkpoint(Path("bad.ckpt"))
    assert "system" in said.problems[0]
    assert said.as_dict()["sound"] is False
    assert not Path("PWNED").exists()


def test_a_checkpoint_that_lacks_its_heads_asks_for_them(
    tmp_path: Path, stego_state: Make, write_lightning: Callable[..., Path]
) -> None:
    path = write_lightning(tmp_path / "a.ckpt", stego_state(), {})
    assert "--heads" in describe_checkpoint(path).next_step
    assert describe_checkpoint(path, heads=3).problems == []


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        describe_checkpoint(tmp_path / "nowhere")


def test_models_are_loaded_by_content_whatever_the_suffix(tmp_path: Path, ours: Path, released: Path) -> None:
    ours.rename(tmp_path / "a.ckpt")
    released.rename(tmp_path / "b.safetensors")
    first, second = load_any(tmp_path / "a.ckpt"), load_any(tmp_path / "b.safetensors", heads=2)
    assert first.tensors.keys() == second.tensors.keys()
    assert second.config.backbone.kind == "vit"
    assert second.config.backbone.architecture
    assert second.config.backbone.architecture.heads == 2


def test_what_is_no_model_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "m.ckpt").write_text("hello")
    with pytest.raises(CheckpointError, match=r"m\.ckpt` is a text file(.|\n)*hint: "):
        load_any(tmp_path / "m.ckpt")


def test_weights_that_say_how_their_network_is_built_are_described(tmp_path: Path) -> None:
    sizes = VitArchitecture(patch_size=8, width=24, depth=1, heads=2, stem="filterbank")
    path = tmp_path / "small.safetensors"
    tensors = {"norm.weight": torch.ones(24), "norm.bias": torch.zeros(24)}
    save_file(tensors, path, {BACKBONE_KEY: VitConfig(name="small", architecture=sizes).model_dump_json()})
    said = describe_checkpoint(path)
    assert (said.kind, said.problems) == ("backbone weights", [])
    assert "width 24, depth 1, 2 heads, patches of 8 pixels, on the filter bank's channels" in said.title
    assert said.next_step.startswith("stego train FOLDER --classes N --backbone ")

    save_file({"norm.weight": torch.full((24,), torch.nan)}, path, {BACKBONE_KEY: "{}"})
    assert describe_checkpoint(path).problems != []
    save_file(tensors, path, {BACKBONE_KEY: '{"architecture": {"width": -1}}'})
    assert "does not say how its network is built" in describe_checkpoint(path).problems[0]
