"""The cluster probe against the golden numbers of the reference (README of the set, section 2)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stego_cli.probes.cluster import ClusterProbe

ATOL = 5e-6


@pytest.fixture
def arrays(golden: Path) -> dict[str, torch.Tensor]:
    with np.load(golden / "stego/head/cluster_lookup.npz", allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file}


@pytest.fixture
def alphas(golden: Path) -> dict[str, float | None]:
    """Case name to alpha, the hard assignment included."""
    listed = json.loads((golden / "stego/head/cluster_lookup.json").read_text())["alphas"]
    return {"hard": None} | {f"alpha{str(alpha).replace('.', 'p')}": alpha for alpha in listed}


@pytest.fixture
def probe(arrays: dict[str, torch.Tensor]) -> ClusterProbe:
    probe = ClusterProbe(*arrays["clusters"].shape)
    probe.load_state_dict({"centroids": arrays["clusters"]})
    return probe


def test_assignments_match_the_reference(arrays, alphas, probe):
    for case, alpha in alphas.items():
        probs = probe.probs(arrays["x"], alpha)
        torch.testing.assert_close(probs, arrays[f"{case}_probs"].float(), atol=ATOL, rtol=0, msg=case)


def test_hard_assignment_is_the_arg_max(arrays, probe):
    assert torch.equal(probe.inner_products(arrays["x"]).argmax(dim=1), arrays["hard_argmax"])


def test_log_probabilities_match_the_reference(arrays, alphas, probe):
    for case, alpha in alphas.items():
        if alpha is not None:
            log_probs = probe.log_probs(arrays["x"], alpha)
            torch.testing.assert_close(log_probs, arrays[f"{case}_log_probs"], atol=ATOL, rtol=0, msg=case)


def test_losses_and_gradients_match_the_reference(arrays, alphas, probe):
    for case, alpha in alphas.items():
        code = arrays["x"].clone().requires_grad_()
        probe.zero_grad()
        loss = probe.loss(code, alpha)
        loss.backward()
        assert loss.item() == pytest.approx(arrays[f"{case}_loss"].item(), abs=ATOL), case
        for found, wanted in ((probe.centroids.grad, "clusters"), (code.grad, "x")):
            expected = arrays[f"{case}_grad_{wanted}"]
            torch.testing.assert_close(found, expected, atol=1e-7 + 1e-4 * expected.abs().max().item(), rtol=0)
