"""Golden case `dimred`: PCA and random projection of the STEGO study, standardised batch by batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stego_cli.config.model import PcaConfig, RpConfig
from stego_cli.methods.base import FeatureSource
from stego_cli.methods.dimred.pca import Pca, PcaBasis
from stego_cli.methods.dimred.random_projection import RandomProjection

ATOL = 5e-5


@pytest.fixture(scope="module")
def folder(golden: Path, whole_set: bool) -> Path:
    found = golden / "stego" / "dimred"
    if not found.is_dir() and not whole_set:
        pytest.skip("the travelling copy has no `dimred`")
    return found


@pytest.fixture(scope="module")
def meta(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "meta.json").read_text("utf-8"))
    return loaded


@pytest.fixture(scope="module")
def pca_case(folder: Path) -> dict[str, torch.Tensor]:
    return arrays(folder / "pca.npz")


@pytest.fixture(scope="module")
def rp_case(folder: Path) -> dict[str, torch.Tensor]:
    return arrays(folder / "rp.npz")


def arrays(path: Path) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in np.load(path).items()}


@pytest.fixture(scope="module")
def basis(pca_case: dict[str, torch.Tensor], meta: dict[str, Any]) -> PcaBasis:
    """What our PCA finds in the images that the study fitted to."""
    maps, limit = pca_case["fit_feats"], meta["num_images_limit"]
    config = PcaConfig(code_dim=1, standardise="batch", fit_on="first", fit_images=limit or len(maps))
    seen: list[int] = []

    def read(images: np.ndarray) -> torch.Tensor:
        seen.extend(images.tolist())
        return maps[torch.from_numpy(images)]

    source = FeatureSource(np.arange(len(maps)), read, meta["fit_batches"], lambda items, *_: items)
    fitted = Pca(config, maps.shape[1]).fit(source, seed=0)
    assert seen == list(range(meta["images_used_for_fit"]))
    return PcaBasis.from_tensors(fitted)


def batchwise(case: dict[str, torch.Tensor], components: torch.Tensor, count: int) -> Pca:
    """Return the study's projection with given components."""
    method = Pca(PcaConfig(code_dim=count, standardise="batch"), components.shape[1])
    method.components.copy_(components[:count])
    return method


def test_axes_and_variances(basis: PcaBasis, pca_case: dict[str, torch.Tensor]) -> None:
    theirs = pca_case["components"]
    signs = (basis.components * theirs).sum(1, keepdim=True).sign()
    # The study computes in float32, whose rounding turns axes of nearly equal deviation into each other.
    deviations = pca_case["explained_variance"].sqrt()
    steps = -deviations.diff()
    gaps = torch.minimum(torch.cat([steps[:1], steps]), torch.cat([steps, steps[-1:]]))
    allowed = ATOL + 8 * torch.finfo(torch.float32).eps * deviations[0] / gaps
    assert ((basis.components * signs - theirs).abs().amax(1) < allowed).all()
    assert allowed.median() < 2 * ATOL
    torch.testing.assert_close(basis.variances, pca_case["explained_variance"], rtol=0, atol=ATOL)
    torch.testing.assert_close(basis.variance_ratio, pca_case["explained_variance_ratio"], rtol=0, atol=ATOL)
    # They are the axes of standardised features, whose mean is 0.
    assert pca_case["mean"].abs().max() < ATOL


def test_projection_with_their_axes(pca_case: dict[str, torch.Tensor], meta: dict[str, Any]) -> None:
    method = batchwise(pca_case, pca_case["components"], meta["n_components"])
    torch.testing.assert_close(method.code(pca_case["batch"]), pca_case["output"], rtol=0, atol=ATOL)


def test_projection_with_our_axes(basis: PcaBasis, pca_case: dict[str, torch.Tensor], meta: dict[str, Any]) -> None:
    count = meta["n_components"]
    signs = (basis.components * pca_case["components"]).sum(1).sign()[:count]
    method = batchwise(pca_case, basis.components, count)
    found = method.code(pca_case["batch"]) * signs[:, None, None]
    torch.testing.assert_close(found, pca_case["output"], rtol=0, atol=ATOL)


def test_an_image_alone_is_another_batch(pca_case: dict[str, torch.Tensor], meta: dict[str, Any]) -> None:
    method = batchwise(pca_case, pca_case["components"], meta["n_components"])
    alone = method.code(pca_case["batch"][:1])
    torch.testing.assert_close(alone, pca_case["output_first_image_alone"], rtol=0, atol=ATOL)
    assert (alone - method.code(pca_case["batch"])[:1]).abs().max() > 100 * ATOL


def with_constant(batch: torch.Tensor, meta: dict[str, Any]) -> torch.Tensor:
    changed = batch.clone()
    changed[:, meta["constant_channel"]] = meta["constant_value"]
    return changed


def test_a_constant_channel_counts_as_nothing_where_the_study_had_no_number(
    pca_case: dict[str, torch.Tensor], meta: dict[str, Any]
) -> None:
    assert pca_case["output_with_constant_channel"].isnan().all()
    method = batchwise(pca_case, pca_case["components"], meta["n_components"])
    found = method.code(with_constant(pca_case["batch"], meta))
    without = batchwise(pca_case, pca_case["components"], meta["n_components"])
    without.components[:, meta["constant_channel"]] = 0
    torch.testing.assert_close(found, without.code(pca_case["batch"]), rtol=0, atol=ATOL)


@pytest.mark.parametrize("constant", [False, True])
def test_random_projection(rp_case: dict[str, torch.Tensor], meta: dict[str, Any], constant: bool) -> None:
    components = rp_case["components"].float()
    method = RandomProjection(RpConfig(code_dim=len(components), standardise="batch"), components.shape[1])
    method.components.copy_(components)
    batch = with_constant(rp_case["batch"], meta) if constant else rp_case["batch"]
    expected = rp_case["output_with_constant_channel" if constant else "output"].float()
    torch.testing.assert_close(method.code(batch), expected, rtol=0, atol=ATOL)


def test_the_random_matrix_has_their_deviation(meta: dict[str, Any]) -> None:
    count, channels = meta["n_components"], 20_000
    method = RandomProjection(RpConfig(code_dim=count, standardise="batch"), channels)
    method.adopt({}, seed=3)
    assert method.components.std().item() == pytest.approx(meta["rp_component_std_theory"], rel=0.01)
    assert method.components.mean().item() == pytest.approx(0, abs=0.01)
