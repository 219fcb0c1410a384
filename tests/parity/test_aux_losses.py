"""CRF, reconstruction and alignment losses against the golden numbers of the reference (README, section 4)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from stego_cli.config.losses import CrfLossConfig
from stego_cli.methods.stego.draws import CRF_SIDE
from stego_cli.methods.stego.losses import (
    alignment_loss,
    crf_kernel,
    crf_loss,
    on_square,
    pairwise_crf_loss,
    reconstruction_loss,
    squared_distances,
)
from stego_cli.methods.stego.sampling import at_coords, map_source, size_of

SCALAR = {"atol": 1e-6, "rtol": 0}
ELEMENTS = {"rtol": 1e-5, "atol": 5e-6}


@pytest.fixture(scope="module")
def folder(golden: Path, whole_set: bool) -> Path:
    folder = golden / "stego" / "aux_losses"
    if not folder.is_dir() and not whole_set:
        pytest.skip("the carried part of the golden set has no aux_losses")
    return folder


def load(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path, allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file}


def assert_gradient(leaf: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(leaf.grad, expected, atol=1e-7 + 1e-4 * expected.abs().max().item(), rtol=0)


def crf_config(facts: dict) -> CrfLossConfig:
    return CrfLossConfig(
        alpha=facts["alpha"],
        beta=facts["beta"],
        gamma=facts["gamma"],
        appearance_weight=facts["w1"],
        smoothness_weight=facts["w2"],
        shift=facts["shift"],
    )


def test_crf_loss_on_given_maps(folder: Path) -> None:
    arrays, config = load(folder / "crf_loss.npz"), crf_config(json.loads((folder / "crf_loss.json").read_text()))
    rows, columns = cells = arrays["direct_coords"]
    maps = arrays["direct_clusters"].clone().requires_grad_()
    guidance, code = (each[:, :, rows, columns].movedim(1, 2) for each in (arrays["direct_guidance"], maps))
    matrix = -(code @ code.mT) * crf_kernel(config, squared_distances(cells), guidance)
    torch.testing.assert_close(matrix, arrays["direct_loss_matrix"], **ELEMENTS)
    loss = pairwise_crf_loss(config, guidance, code, cells)
    loss.backward()
    torch.testing.assert_close(loss, arrays["direct_loss"], **ELEMENTS)
    assert_gradient(maps, arrays["direct_grad_clusters"])


def test_crf_loss_as_in_training(folder: Path) -> None:
    facts, arrays = json.loads((folder / "crf_loss.json").read_text()), load(folder / "crf_loss.npz")
    assert facts["train_size"] == CRF_SIDE
    cells, code = arrays["train_coords"], arrays["train_code"].clone().requires_grad_()
    for maps, name in ((arrays["train_img"], "guidance"), (code, "clusters")):
        found = on_square(maps, cells).detach()
        found = functional.normalize(found, dim=-1) if name == "clusters" else found
        torch.testing.assert_close(found.mT, arrays[f"train_{name}56_at_coords"], **ELEMENTS)
    loss = crf_loss(crf_config(facts), arrays["train_img"], code, cells)
    loss.backward()
    torch.testing.assert_close(loss, arrays["train_loss"], **SCALAR)
    assert_gradient(code, arrays["train_grad_code"])


def test_reconstruction_loss(folder: Path) -> None:
    arrays = load(folder / "rec_loss.npz")
    leaves = {name: arrays[name].clone().requires_grad_() for name in ("code", "decoder_weight", "decoder_bias")}
    rebuilt = functional.conv2d(*leaves.values())
    torch.testing.assert_close(rebuilt, arrays["rec_feats"], **ELEMENTS)
    loss = reconstruction_loss(rebuilt, arrays["feats"])
    loss.backward()
    torch.testing.assert_close(loss, arrays["loss"], **SCALAR)
    for name, leaf in leaves.items():
        assert_gradient(leaf, arrays[f"grad_{name}"])


def alignment_cases(arrays: dict[str, torch.Tensor]) -> list[str]:
    return [name.removesuffix("_coord_aug") for name in arrays if name.endswith("_coord_aug")]


def test_alignment_loss_of_the_reference(folder: Path) -> None:
    arrays = load(folder / "aug_alignment.npz")
    assert alignment_cases(arrays)
    for case in alignment_cases(arrays):
        code, augmented = arrays["code"].clone().requires_grad_(), arrays[f"{case}_code_aug"].clone().requires_grad_()
        places = arrays[f"{case}_down_coords"]
        sampled = map_source(arrays["code"]).sample(at_coords(places, size_of(code))).mT
        expected = arrays[f"{case}_sampled"]
        torch.testing.assert_close(sampled.reshape(expected.shape), expected, atol=1e-6, rtol=0)
        loss = alignment_loss(code, augmented, arrays[f"{case}_coord_aug"], "paper")
        loss.backward()
        torch.testing.assert_close(loss, arrays[f"{case}_loss"], **SCALAR)
        assert_gradient(code, arrays[f"{case}_grad_code"])
        assert_gradient(augmented, arrays[f"{case}_grad_code_aug"])


def test_alignment_of_equivariant_codes_by_the_reference_and_by_us(folder: Path) -> None:
    """Under `paper` both quirks are the reference's; under `native` a code that moves with its image gives -1."""
    arrays = load(folder / "aug_alignment.npz")
    code = arrays["code"]
    for case, moved in (("identity", code), ("hflip", code.flip(3))):
        coords = arrays[f"{case}_coord_aug"]
        for name, augmented in (("equivariant", moved), ("vertically_flipped", code.flip(2))):
            expected = arrays[f"{case}_loss_of_{name}_code"]
            torch.testing.assert_close(alignment_loss(code, augmented, coords, "paper"), expected, **SCALAR)
        assert alignment_loss(code, moved, coords, "native").item() == pytest.approx(-1, abs=1e-6)
        assert alignment_loss(code, code.flip(2), coords, "native").item() > -0.9
