from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stego_cli.checkpoints.native import load_checkpoint, save_checkpoint
from stego_cli.checkpoints.released import backbone_hash, convert_released
from stego_cli.config.model import DinoConfig, LabelSpace, StegoConfig, VitArchitecture
from stego_cli.errors import CheckpointError

Make = Callable[..., dict[str, Tensor]]
CFG = {
    "model_type": "vit_tiny", "dino_patch_size": 4, "dino_feat_type": "KK", "projection_type": "nonlinear", "dim": 5,
    "extra_clusters": 1, "res": 224, "dataset_name": "unheard of", "crop_type": "five", "dropout": True,
    "nested": [1, {"a": None}],
}  # fmt: skip
NAMES = {
    "backbone.cls_token": "net.model.cls_token",
    "head.linear.weight": "net.cluster1.0.weight",
    "head.hidden.bias": "net.cluster2.0.bias",
    "head.output.weight": "net.cluster2.2.weight",
    "cluster_probe.centroids": "cluster_probe.clusters",
    "linear_probe.bias": "linear_probe.bias",
}


@pytest.fixture
def write(tmp_path: Path, write_lightning: Callable[..., Path]) -> Callable[..., Path]:
    """Write a Lightning checkpoint with changes to its config; None removes a key."""

    def make(state: dict[str, Tensor], n_classes: int | None = 3, **changes: object) -> Path:
        cfg = {key: value for key, value in (CFG | changes).items() if value != "absent"}
        return write_lightning(tmp_path / "theirs.ckpt", state, cfg, n_classes)

    return make


def test_every_tensor_is_kept_under_our_name(stego_state: Make, write: Callable[..., Path]) -> None:
    state = stego_state()
    made = convert_released(write(state))
    for ours, theirs in NAMES.items():
        assert torch.equal(made.tensors[ours], state[theirs])
    assert torch.equal(made.tensors["linear_probe.weight"], state["linear_probe.weight"][:, :, 0, 0])
    left_out = [key for key in state if key.startswith(("train_cluster_probe", "decoder"))]
    assert len(made.tensors) == len(state) - len(left_out)


def test_the_config_comes_from_tensors_and_hyper_parameters(stego_state: Make, write: Callable[..., Path]) -> None:
    config = convert_released(write(stego_state())).config
    assert config.backbone.kind == "vit"
    assert config.backbone.name == "custom"
    assert config.backbone.architecture == VitArchitecture(patch_size=4, width=12, depth=2, heads=3, image_size=12)
    assert config.backbone.feature_type == "KK"
    assert config.method == StegoConfig(code_dim=5, projection="nonlinear", dropout=0.1)
    assert (config.num_clusters, len(config.label_space), config.resolution) == (4, 3, 320)
    assert config.label_space.names == ("class 0", "class 1", "class 2")
    assert config.cluster_to_class is None
    assert config.about.source == "theirs.ckpt"
    assert "Apache-2.0" in config.about.licence
    assert config.about.trained_on == "unheard of, crops: five"


def test_what_was_converted_can_be_saved_and_loaded(
    tmp_path: Path, stego_state: Make, write: Callable[..., Path]
) -> None:
    made = convert_released(write(stego_state()))
    save_checkpoint(made, tmp_path / "ours")
    assert load_checkpoint(tmp_path / "ours").config == made.config


@pytest.mark.parametrize(
    ("projection", "method"),
    [
        ("nonlinear", StegoConfig(code_dim=5)),
        ("linear", StegoConfig(code_dim=5, projection="linear")),
        (None, DinoConfig()),
    ],
)
def test_the_projection_shows_in_the_tensors(
    stego_state: Make, write: Callable[..., Path], projection: str | None, method: object
) -> None:
    path = write(stego_state(projection), projection_type="absent")
    assert convert_released(path).config.method == method


def test_dropout_that_was_off_stays_off(stego_state: Make, write: Callable[..., Path]) -> None:
    method = convert_released(write(stego_state(), dropout=False)).config.method
    assert method == StegoConfig(code_dim=5, dropout=0.0)


def test_a_standard_backbone_gets_its_registered_name(stego_state: Make, write: Callable[..., Path]) -> None:
    state = stego_state(width=384, patch=16, depth=12, side=14, code_dim=2)
    backbone = convert_released(write(state, model_type="absent")).config.backbone
    assert backbone.kind == "vit"
    assert (backbone.name, backbone.architecture) == ("dino_vits16", None)


@pytest.mark.parametrize(
    ("given", "model_type", "found"), [(2, "vit_small", 2), (None, "vit_small", 6), (None, "vit_base", 12)]
)
def test_heads_come_from_the_caller_or_the_model_type(
    stego_state: Make, write: Callable[..., Path], given: int | None, model_type: str, found: int
) -> None:
    backbone = convert_released(write(stego_state(), model_type=model_type), heads=given).config.backbone
    assert backbone.kind == "vit"
    assert backbone.architecture
    assert backbone.architecture.heads == found


def test_heads_that_cannot_be_known_are_asked_for(stego_state: Make, write: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=r"theirs\.ckpt.*heads(.|\n)*width of 12(.|\n)*--heads"):
        convert_released(write(stego_state(), model_type="absent"))


def test_an_older_config_may_lack_almost_everything(
    tmp_path: Path, stego_state: Make, write_lightning: Callable[..., Path]
) -> None:
    path = write_lightning(tmp_path / "old.ckpt", stego_state(), {}, None, class_as_key=True)
    config = convert_released(path, heads=3).config
    assert config.backbone.kind == "vit"
    assert config.backbone.feature_type == "feat"
    assert (config.num_clusters, len(config.label_space)) == (4, 3)
    assert config.about.trained_on == ""


@pytest.mark.parametrize("nested", [True, False])
def test_a_bare_state_dict_is_enough(tmp_path: Path, stego_state: Make, nested: bool) -> None:
    state = stego_state()
    torch.save({"state_dict": state} if nested else state, tmp_path / "bare.pth")
    made = convert_released(tmp_path / "bare.pth", heads=3)
    assert made.config.num_clusters == 4
    assert "feature type `feat` is assumed" in made.config.about.description


def test_without_a_linear_probe_there_are_as_many_classes_as_stated(
    stego_state: Make, write: Callable[..., Path]
) -> None:
    state = {key: value for key, value in stego_state().items() if not key.startswith("linear_probe")}
    config = convert_released(write(state, n_classes=2)).config
    assert not config.has_linear_probe
    assert len(config.label_space) == 2


def test_known_data_sets_bring_their_class_names(stego_state: Make, write: Callable[..., Path]) -> None:
    known = stego_state(classes=27, clusters=27)
    config = convert_released(write(known, n_classes=27, dataset_name="cocostuff27")).config
    assert config.label_space.name == "cocostuff27"
    assert len(config.label_space) == 27
    other = convert_released(write(stego_state(), dataset_name="cocostuff27")).config  # three classes, not 27
    assert other.label_space.names == ("class 0", "class 1", "class 2")


def test_the_caller_may_name_the_classes(stego_state: Make, write: Callable[..., Path]) -> None:
    space = LabelSpace(name="mine", names=("a", "b", "c"), colours=((0, 0, 0), (1, 0, 0), (2, 0, 0)))
    assert convert_released(write(stego_state()), label_space=space).config.label_space == space


def changed(state: dict[str, Tensor], change: str) -> dict[str, Tensor]:
    """Spoil a state dict in one way."""
    remove = {
        "no head bias": "net.cluster2.2.bias",
        "no block part": "net.model.blocks.1.attn.proj.bias",
        "no class token": "net.model.cls_token",
        "no bias of the probe": "linear_probe.bias",
    }
    add = {
        "unknown tensor": {"net.upsampler.weight": torch.ones(1)},
        "unknown part of the backbone": {"net.model.register_tokens": torch.ones(1)},
        "not square": {"net.model.pos_embed": torch.ones(1, 8, 12)},
        "flat clusters": {"cluster_probe.clusters": torch.ones(20)},
        "no clusters": {"cluster_probe.clusters": torch.ones(0, 5)},
        "clusters of another code": {"cluster_probe.clusters": torch.ones(4, 9)},
        "more classes": {"linear_probe.weight": torch.ones(9, 5, 1, 1)},
        "flat token": {"net.model.cls_token": torch.ones(12)},
    }
    return {key: value for key, value in state.items() if key != remove.get(change)} | add.get(change, {})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("no head bias", r"head lacks net\.cluster2\.2\.bias"),
        ("no block part", r"1 missing: blocks\.1\.attn\.proj\.bias"),
        ("no class token", "`cls_token` is missing"),
        ("no bias of the probe", r"`linear_probe\.bias` is missing"),
        ("unknown tensor", r"no place in a STEGO model: net\.upsampler\.weight"),
        ("unknown part of the backbone", "1 unexpected: register_tokens"),
        ("not square", "7 positions"),
        ("flat clusters", r"shape \(20,\)"),
        ("no clusters", r"shape \(0, 5\)"),
        ("clusters of another code", r"shape \(4, 9\), the config says \(4, 5\)"),
        ("more classes", "3 classes, the linear probe has 9"),
        ("flat token", r"`cls_token` has the shape \(12,\)"),
    ],
)
def test_what_does_not_fit_is_named(stego_state: Make, write: Callable[..., Path], change: str, words: str) -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        convert_released(write(changed(stego_state(), change)))
    assert "theirs.ckpt" in str(caught.value)
    assert "hint: " in str(caught.value)


def test_an_unknown_feature_type_is_refused(stego_state: Make, write: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match="`xk`; known are feat"):
        convert_released(write(stego_state(), dino_feat_type="xk"))


@pytest.mark.parametrize("content", [{"state_dict": {"fc.weight": torch.ones(2)}}, {"epoch": 1}, [torch.ones(2)], None])
def test_other_files_are_no_stego_checkpoints(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"other\.ckpt`: no STEGO checkpoint"):
        convert_released(tmp_path / "other.ckpt")


def test_the_hash_of_weights_depends_on_names_shapes_and_values_only() -> None:
    weights = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[3.0]])}
    same = backbone_hash(weights)
    assert len(same) == 64
    assert backbone_hash(dict(reversed(weights.items()))) == same
    assert backbone_hash({key: value.double() for key, value in weights.items()}) == same
    assert backbone_hash({key: value.half() for key, value in weights.items()}) == same
    inside = {f"backbone.{key}": value for key, value in weights.items()} | {"cluster_probe.centroids": torch.ones(2)}
    assert backbone_hash(inside) == same
    assert backbone_hash(weights | {"b": torch.tensor([3.0])}) != same
    assert backbone_hash(weights | {"b": torch.tensor([[3.5]])}) != same
    assert backbone_hash({"a": weights["a"], "c": weights["b"]}) != same


def test_a_model_without_weights_in_its_backbone_has_no_hash() -> None:
    assert backbone_hash({"cluster_probe.centroids": torch.ones(2)}) == ""
