"""Golden case `checkpoint`: a realistic released file is read whole, a hostile one is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from stego_cli.checkpoints.describe import describe_checkpoint
from stego_cli.checkpoints.native import Checkpoint, load_checkpoint, save_checkpoint
from stego_cli.checkpoints.plain import to_plain
from stego_cli.checkpoints.released import convert_released
from stego_cli.checkpoints.safe_torch import read_torch_file
from stego_cli.errors import CheckpointError

# The sums were taken in float64 over float32 values.
CLOSE = {"rel": 1e-9, "abs": 1e-9}
NOT_IN_A_MODEL = ("train_cluster_probe.", "decoder.")


@pytest.fixture(scope="module")
def folder(golden: Path) -> Path:
    return golden / "stego" / "checkpoint"


@pytest.fixture(scope="module")
def meta(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "meta.json").read_text("utf-8"))
    return loaded


@pytest.fixture(scope="module")
def converted(folder: Path, meta: dict[str, Any]) -> Checkpoint:
    """The released file as ours; the number of heads is not in the tensors, so it is taken from the golden set."""
    return convert_released(folder / "stego.ckpt", heads=meta["arch"]["num_heads"])


def figures(tensor: Tensor) -> dict[str, float]:
    values = tensor.double()
    return {"sum": values.sum().item(), "abs_sum": values.abs().sum().item()}


def our_name(key: str) -> str:
    """Translate a tensor's name, independently of the code under test."""
    if key.startswith("net.model."):
        return "backbone." + key[len("net.model.") :]
    for theirs, ours in (("cluster1.0", "linear"), ("cluster2.0", "hidden"), ("cluster2.2", "output")):
        key = key.replace(f"net.{theirs}", f"head.{ours}")
    return key.replace("cluster_probe.clusters", "cluster_probe.centroids")


def test_every_tensor_has_its_shape_type_and_sums(folder: Path, meta: dict[str, Any]) -> None:
    content = read_torch_file(folder / "stego.ckpt")
    assert list(content) == meta["top_level_keys"]
    assert content["state_dict"].keys() == meta["state_dict"].keys()
    for key, expected in meta["state_dict"].items():
        tensor = content["state_dict"][key]
        assert tensor.device.type == "cpu", meta["storage_location"]
        assert list(tensor.shape) == expected["shape"]
        assert str(tensor.dtype) == f"torch.{expected['dtype']}"
        assert figures(tensor) == pytest.approx({name: expected[name] for name in ("sum", "abs_sum")}, **CLOSE)


def test_the_rest_of_the_file_is_read_too(folder: Path, meta: dict[str, Any]) -> None:
    content = read_torch_file(folder / "stego.ckpt")
    assert content["pytorch-lightning_version"] == meta["lightning_version"]
    assert (content["epoch"], content["global_step"]) == (meta["epoch"], meta["global_step"])
    assert len(content["optimizer_states"]) == meta["n_optimizers"]
    hyper = to_plain(content["hyper_parameters"])
    assert list(hyper) == meta["hyper_parameters_keys"]
    assert hyper["cfg"] == meta["cfg"]


def test_conversion_keeps_every_tensor_of_the_model(converted: Checkpoint, meta: dict[str, Any]) -> None:
    tensors = converted.tensors
    kept = {key: value for key, value in meta["state_dict"].items() if not key.startswith(NOT_IN_A_MODEL)}
    assert tensors.keys() == {our_name(key) for key in kept}
    for key, expected in kept.items():
        tensor = tensors[our_name(key)]
        assert tensor.numel() == math.prod(expected["shape"])
        assert figures(tensor) == pytest.approx({name: expected[name] for name in ("sum", "abs_sum")}, **CLOSE)


def test_the_config_says_what_the_reference_says(converted: Checkpoint, meta: dict[str, Any]) -> None:
    config = converted.config
    arch = meta["arch"]
    assert config.backbone.kind == "vit"
    assert config.backbone.feature_type == meta["feat_type"]
    sizes = config.backbone.architecture
    assert sizes is not None
    assert (sizes.patch_size, sizes.width, sizes.depth) == (arch["patch_size"], arch["embed_dim"], arch["depth"])
    assert (sizes.heads, sizes.mlp_ratio, sizes.qkv_bias) == (arch["num_heads"], arch["mlp_ratio"], arch["qkv_bias"])
    assert (sizes.image_size, sizes.norm_eps) == (arch["img_size"], arch["ln_eps"])
    method = config.method
    assert getattr(method, "projection", None) == meta["projection_type"]
    assert getattr(method, "code_dim", meta["code_dim"]) == meta["code_dim"]
    assert config.num_clusters == meta["n_classes"] + meta["extra_clusters"]
    assert len(config.label_space) == meta["n_classes"]
    assert config.alpha == meta["alpha"]


def test_our_file_of_it_holds_the_same(converted: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(converted, tmp_path / "ours.safetensors")
    back = load_checkpoint(tmp_path / "ours.safetensors")
    assert back.config == converted.config
    assert back.tensors.keys() == converted.tensors.keys()
    assert all(figures(back.tensors[key]) == figures(value) for key, value in converted.tensors.items())


def test_the_hostile_file_is_refused_by_name_and_nothing_runs(
    folder: Path, meta: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, whole_set: bool
) -> None:
    if not whole_set:
        pytest.skip("the set that travels with the project leaves this file out, for its size")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        convert_released(folder / "hostile.ckpt")
    assert any(f"`{name}`" in str(caught.value) for name in meta["hostile_pickle_global"])
    assert describe_checkpoint(folder / "hostile.ckpt").problems
    assert not (tmp_path / meta["hostile_marker_file"]).exists()
    assert list(tmp_path.iterdir()) == []
