"""Golden case `cause/backbones`: the networks of DINO's relatives, at their native resolution and at another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stego_cli.backbones.family import Dinov2Vit, MsnVit, msn_positions
from stego_cli.backbones.layouts import from_dino, from_dinov2
from stego_cli.backbones.positions import dino_positions
from stego_cli.backbones.vit import DinoVit, VitBackbone
from stego_cli.backbones.weights import freeze, load_strictly
from stego_cli.config.model import VitArchitecture

NETWORKS = {
    "dino_mae": (DinoVit, from_dino),
    "ibot": (DinoVit, from_dino),
    "dinov2": (Dinov2Vit, from_dinov2),
    "msn": (MsnVit, from_dino),
}


@pytest.fixture(scope="module")
def folder(golden: Path, *, whole_set: bool) -> Path:
    found = golden / "cause"
    if not whole_set and not (found / "backbones.json").is_file():
        pytest.skip("this case does not travel with the project")
    return found


def cases(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    return list(json.loads((folder / "backbones.json").read_text()).items())


def architecture(sizes: dict[str, Any]) -> VitArchitecture:
    return VitArchitecture(
        patch_size=sizes["patch"],
        width=sizes["embed_dim"],
        depth=sizes["depth"],
        heads=sizes["num_heads"],
        mlp_ratio=sizes["mlp_ratio"],
        image_size=sizes["native_resolution"],
        norm_eps=sizes["layernorm_eps"],
    )


def test_there_are_cases_for_every_network(folder: Path) -> None:
    assert {name for name, _ in cases(folder)} == set(NETWORKS)


def test_patch_tokens_of_every_size(folder: Path) -> None:
    expected = np.load(folder / "backbones.npz")
    for name, sizes in cases(folder):
        make, convert = NETWORKS[name]
        network = make(architecture(sizes))
        load_strictly(network, convert(load_file(folder / f"backbone_{name}.safetensors")), name)
        vit = VitBackbone(network)
        freeze(vit)
        for side in sizes["resolutions"]:
            features = vit(torch.from_numpy(expected[f"{name}/{side}/img"]))
            tokens = features.flatten(2).transpose(1, 2)  # (1, C, h, w) -> (1, h*w, C)
            wanted = expected[f"{name}/{side}/tokens"][:, 1:]
            np.testing.assert_allclose(tokens.numpy(), wanted, atol=1e-4, rtol=0, err_msg=f"{name} {side}")


def test_position_tables(folder: Path) -> None:
    expected = np.load(folder / "backbones.npz")
    for key in (key for key in expected if key.endswith("/pos_embed_used")):
        name, side = key.split("/")[:2]
        table = load_file(folder / f"backbone_{name}.safetensors")["pos_embed"]
        cells = int(side) // dict(cases(folder))[name]["patch"]
        if name == "msn":
            used = msn_positions(table, (cells, cells))
        else:
            used = dino_positions(table, (cells, cells), square_image=True)
        np.testing.assert_allclose(used.numpy(), expected[key], atol=1e-5, rtol=0, err_msg=key)
