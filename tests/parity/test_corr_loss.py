"""The correspondence loss against the golden numbers of the reference (README of the set, section 3)."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from stego_cli.config.losses import LossConfig
from stego_cli.methods.stego.correspondence import (
    Compared,
    correspondence,
    feature_correspondence,
    feature_pulls,
    loss_elements,
)
from stego_cli.methods.stego.draws import avoid_self
from stego_cli.methods.stego.objective import weigh
from stego_cli.methods.stego.salience import mix, salient_coords
from stego_cli.methods.stego.sampling import at_coords, map_source, size_of

SWITCHES = list(itertools.product([True, False], repeat=3))
OURS = {"pos_intra": "self", "pos_inter": "knn", "neg_inter": "random"}
ELEMENTS = {"rtol": 1e-5, "atol": 5e-6}


@pytest.fixture(scope="module")
def folder(golden: Path, whole_set: bool) -> Path:
    folder = golden / "stego" / "corr_loss"
    if not folder.is_dir() and not whole_set:
        pytest.skip("the carried part of the golden set has no corr_loss")
    return folder


def cases(folder: Path, *, salience: bool) -> list[tuple[dict, dict[str, torch.Tensor]]]:
    found = []
    for path in sorted(folder.glob("*.json")):
        if path.stem.startswith("salience") == salience:
            with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
                found.append((json.loads(path.read_text()), {name: torch.from_numpy(file[name]) for name in file}))
    assert found
    return found


def config_of(facts: dict, **switches: bool) -> LossConfig:
    settings = {
        f"{ours}_{what}": facts[f"{theirs}_{what}"] for theirs, ours in OURS.items() for what in ("weight", "shift")
    }
    return LossConfig(correspondence_weight=facts["correspondence_weight"], **settings, **switches)


def name_of(switches: tuple[bool, bool, bool]) -> str:
    return "pointwise{:d}_zeroclamp{:d}_stabalize{:d}__".format(*switches)


def check(config: LossConfig, arrays: dict[str, torch.Tensor], coords: tuple, prefix: str) -> torch.Tensor:
    """Compare losses, similarities and gradients; return the loss of every comparison."""
    code, code_pos = (arrays[name].clone().requires_grad_() for name in ("code", "code_pos"))
    found = correspondence(
        config,
        Compared(map_source(arrays["feats"]), map_source(code)),
        Compared(map_source(arrays["feats_pos"]), map_source(code_pos)),
        coords,
        arrays["perms"],
    )
    terms = found.terms()
    total = weigh(config, terms, code)
    total.backward()
    losses = torch.stack([terms["self"], terms["knn"], terms["random"], total]).detach()
    torch.testing.assert_close(losses, arrays[f"{prefix}losses"], atol=1e-6, rtol=0)
    similarities = torch.stack([terms[f"{name}_corr"] for name in OURS.values()])
    torch.testing.assert_close(similarities, arrays[f"{prefix}cd_means"], atol=1e-6, rtol=0)
    for leaf, name in ((code, "code"), (code_pos, "code_pos")):
        expected = arrays[f"{prefix}grad_{name}"]
        torch.testing.assert_close(leaf.grad, expected, atol=1e-7 + 1e-4 * expected.abs().max().item(), rtol=0)
    return found.losses.detach()


@pytest.mark.parametrize("switches", SWITCHES, ids=name_of)
def test_losses_similarities_and_gradients(folder: Path, switches: tuple[bool, bool, bool]) -> None:
    pointwise, zero_clamp, stabilise = switches
    for facts, arrays in cases(folder, salience=False):
        config = config_of(facts, pointwise=pointwise, zero_clamp=zero_clamp, stabilise=stabilise)
        coords = (arrays["coords1"], arrays["coords2"])
        losses = check(config, arrays, coords, name_of(switches))
        expected = arrays[f"{name_of(switches)}neg_loss_per_draw"]
        torch.testing.assert_close(losses[2:], expected, atol=1e-6, rtol=0)


def test_sampling_transposes_the_grid_first(folder: Path) -> None:
    for _, arrays in cases(folder, salience=False):
        for maps, sampled in (("feats", "sampled_feats"), ("code", "sampled_code")):
            positions = at_coords(arrays["coords1"], size_of(arrays[maps]))
            found = map_source(arrays[maps]).sample(positions).transpose(1, 2)
            torch.testing.assert_close(found.reshape(arrays[sampled].shape), arrays[sampled], atol=1e-6, rtol=0)


def test_whole_loss_tensors(folder: Path, whole_set: bool) -> None:
    """Every element, where the set has them, not only their means."""
    checked = 0
    for facts, arrays in cases(folder, salience=False):
        for key in (name for name in arrays if name.endswith("__neg_loss")):
            prefix = key.removesuffix("neg_loss")
            pointwise, zero_clamp, stabilise = (digit == "1" for digit in re.findall(r"\d", prefix))
            config = config_of(facts, pointwise=pointwise, zero_clamp=zero_clamp, stabilise=stabilise)
            corr = {}
            for name in ("feats", "code"):
                own, other = map_source(arrays[name]), map_source(arrays[f"{name}_pos"])
                here, there = (at_coords(arrays[coords], own.size) for coords in ("coords1", "coords2"))
                first, others = own.sample(here), own.sample(there, arrays["perms"])
                random = feature_correspondence(first, others.flatten(1, 2)).unflatten(2, others.shape[1:3])
                corr[name] = (feature_correspondence(first, other.sample(there)), random)
            side = arrays["coords1"].shape[1]
            knn = corr["code"][0].reshape(-1, side, side, side, side)
            torch.testing.assert_close(knn, arrays[f"{prefix}pos_inter_cd"], **ELEMENTS)
            pulls = feature_pulls(config, corr["feats"][1], config.random_shift)
            elements = loss_elements(config, pulls, corr["code"][1]).movedim(2, 0)
            found = elements.reshape(-1, side, side, side, side)
            torch.testing.assert_close(found, arrays[key], **ELEMENTS)
            checked += 1
    if not checked and not whole_set:
        pytest.skip("the whole tensors do not travel with the project, for their size")
    assert checked


def test_super_perm_rule(folder: Path) -> None:
    with np.load(folder / "super_perm.npz", allow_pickle=False) as file:
        sizes = [name.removeprefix("randperm_") for name in file if name.startswith("randperm_")]
        assert sizes
        for size in sizes:
            found = avoid_self(torch.from_numpy(file[f"randperm_{size}"]))
            np.testing.assert_array_equal(found, file[f"result_{size}"])


def chances_of(draws: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return numbers in [0, 1) that pick what the reference drew: places in the list of pixels, or rows and columns."""
    if draws.ndim == 2:
        return (draws + 0.5) / len(mask)
    picked = (draws + 0.5) / (mask != 0).sum()
    return torch.stack([picked, torch.zeros_like(picked)], dim=-1)


def test_salience_sampling(folder: Path) -> None:
    empty_masks = 0
    for facts, arrays in cases(folder, salience=True):
        config = config_of(facts, **{ours: facts[theirs] for ours, theirs in SALIENCE_SWITCHES.items()})
        coords = []
        for view, name in enumerate(("salience", "salience_pos"), start=1):
            masks = arrays[name]
            chances = torch.stack([chances_of(arrays[f"draw{view}_{i}"], mask) for i, mask in enumerate(masks)])
            empty_masks += int((masks.flatten(1) == 0).all(1).sum())
            found = salient_coords(masks, chances.float(), size_of(arrays["feats"]), "paper")
            expected = arrays[f"nonzero_coords{view}"]
            torch.testing.assert_close(found.reshape(expected.shape), expected, atol=1e-6, rtol=0)
            coords.append(mix(2 * arrays[f"uniform{view}"] - 1, found, arrays["uniform_mask"]))
            torch.testing.assert_close(coords[-1], arrays[f"coords{view}"], atol=1e-6, rtol=0)
        check(config, arrays, tuple(coords), "")
    assert empty_masks, "the set is to have images without any salient pixel"


SALIENCE_SWITCHES = {"pointwise": "pointwise", "zero_clamp": "zero_clamp", "stabilise": "stabalize"}
