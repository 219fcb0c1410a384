"""Golden case `vit`: features, keys and position tables of the DINO reference, at several sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stego_cli.backbones.positions import dino_positions
from stego_cli.backbones.vit import DinoVit, VitBackbone, head_key_map
from stego_cli.backbones.weights import freeze, load_strictly
from stego_cli.config.model import FeatureType, VitArchitecture


def architecture(sizes: dict[str, Any]) -> VitArchitecture:
    return VitArchitecture(
        patch_size=sizes["patch_size"],
        width=sizes["embed_dim"],
        depth=sizes["depth"],
        heads=sizes["num_heads"],
        mlp_ratio=sizes["mlp_ratio"],
        qkv_bias=sizes["qkv_bias"],
        image_size=sizes["img_size"],
        norm_eps=sizes["ln_eps"],
    )


def backbone(folder: Path, name: str, feature_type: FeatureType = "feat", block: int = -1) -> VitBackbone:
    sizes = json.loads((folder / f"{name}.json").read_text())["arch"]
    network = DinoVit(architecture(sizes))
    load_strictly(network, load_file(folder / f"{name}.safetensors"), name)
    vit = VitBackbone(network, feature_type=feature_type, block=block)
    freeze(vit)
    return vit


def cases(folder: Path) -> list[tuple[str, str]]:
    return [
        (path.stem, case) for path in sorted(folder.glob("*.json")) for case in json.loads(path.read_text())["cases"]
    ]


@pytest.fixture(scope="module")
def folder(golden: Path) -> Path:
    return golden / "stego" / "vit"


def test_there_are_cases(folder: Path) -> None:
    assert cases(folder)


def test_features_of_every_size(folder: Path) -> None:
    images = np.load(folder / "images.npz")
    for name, case in cases(folder):
        expected = np.load(folder / f"{name}_{case}.npz")
        features = backbone(folder, name)(torch.from_numpy(images[case]))
        np.testing.assert_allclose(features.numpy(), expected["feat"], atol=5e-5, rtol=0, err_msg=f"{name} {case}")


def test_keys_as_the_reference_reads_them(folder: Path) -> None:
    images = np.load(folder / "images.npz")
    for name, case in cases(folder):
        expected = np.load(folder / f"{name}_{case}.npz")
        keys = backbone(folder, name, "KK")(torch.from_numpy(images[case]))
        np.testing.assert_allclose(keys.numpy(), expected["kk"], atol=5e-5, rtol=0, err_msg=f"{name} {case}")


def test_keys_of_every_head(folder: Path, *, whole_set: bool) -> None:
    images, tried = np.load(folder / "images.npz"), 0
    for name, case in cases(folder):
        expected = np.load(folder / f"{name}_{case}.npz")
        if "keys_per_head" not in expected:
            continue
        vit, image = backbone(folder, name, "keys"), torch.from_numpy(images[case])
        per_head = vit.keys_per_head(image)
        np.testing.assert_allclose(per_head.numpy(), expected["keys_per_head"], atol=5e-5, rtol=0)
        grid = expected["feat"].shape[-2:]
        torch.testing.assert_close(vit(image), head_key_map(per_head[:, :, 1:], grid))
        tried += 1
    assert tried or not whole_set


def test_position_tables(folder: Path, *, whole_set: bool) -> None:
    tried = 0
    for name, case in cases(folder):
        expected = np.load(folder / f"{name}_{case}.npz")
        if "pos_embed" not in expected:
            continue
        table = load_file(folder / f"{name}.safetensors")["pos_embed"]
        height, width = expected["feat"].shape[-2:]
        positions = dino_positions(table, (height, width), square_image=height == width)
        np.testing.assert_allclose(positions.numpy(), expected["pos_embed"], atol=2e-5, rtol=0)
        tried += 1
    assert tried or not whole_set


def test_the_block_before_the_last(folder: Path, *, whole_set: bool) -> None:
    images, tried = np.load(folder / "images.npz"), 0
    for name, case in cases(folder):
        expected = np.load(folder / f"{name}_{case}.npz")
        if "feat_n2" not in expected:
            continue
        features = backbone(folder, name, block=-2)(torch.from_numpy(images[case]))
        np.testing.assert_allclose(features.numpy(), expected["feat_n2"], atol=5e-5, rtol=0)
        tried += 1
    assert tried or not whole_set
