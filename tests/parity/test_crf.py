"""The CRF reproduces the reference on every case of the golden set."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stego_cli.config.crf import CrfParameters
from stego_cli.crf.base import seen_by_crf
from stego_cli.crf.build import build_crf

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def cases(golden: Path) -> dict[str, dict[str, Any]]:
    known = json.loads((golden / "stego" / "crf" / "params.json").read_text())
    return {name: case for name, case in known.items() if isinstance(case, dict)}


@pytest.fixture(params=["fast", "torch", "reference"])
def implementation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def parameters(case: dict[str, Any], iterations: int, implementation: str) -> CrfParameters:
    return CrfParameters(
        implementation=implementation,
        iterations=iterations,
        gaussian_weight=case["pos_w"],
        gaussian_xy=case["pos_xy_std"],
        bilateral_weight=case["bi_w"],
        bilateral_xy=case["bi_xy_std"],
        bilateral_rgb=case["bi_rgb_std"],
    )


def arrays(golden: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(golden / "stego" / "crf" / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


def refine(case: dict[str, Any], stored: dict[str, np.ndarray], iterations: int, implementation: str) -> np.ndarray:
    crf = build_crf(parameters(case, iterations, implementation))
    (probabilities,) = crf.refine(stored["image_uint8_seen"], [stored["logits"]])
    return probabilities


def test_there_are_cases(cases: dict[str, dict[str, Any]]) -> None:
    assert cases


def test_the_image_shown_to_the_crf_is_equal(golden: Path, cases: dict[str, dict[str, Any]]) -> None:
    facts = json.loads((golden / "stego" / "labels" / "facts.json").read_text())["normalisation"]
    for name in cases:
        stored = arrays(golden, name)
        seen = seen_by_crf(stored["image"], facts["mean"], facts["std"])
        np.testing.assert_array_equal(seen, stored["image_uint8_seen"], err_msg=name)


def test_probabilities_after_all_iterations(
    golden: Path, cases: dict[str, dict[str, Any]], implementation: str
) -> None:
    for name, case in cases.items():
        stored = arrays(golden, name)
        found = refine(case, stored, case["max_iter"], implementation)
        assert found.shape == (case["n_classes"], case["height"], case["width"]), name
        stride = case["q_stride"]
        difference = np.abs(found[:, ::stride, ::stride] - stored["q"])
        assert difference.mean() < 1e-5, name
        assert (difference <= 1e-3).mean() >= 0.999, name
        assert (found.argmax(0) == stored["argmax"]).mean() >= 0.999, name
        # The whole picture, not only the stored positions: these two are kept at full resolution.
        assert (np.abs(found.max(0) - stored["max_prob"]) <= 1e-3).mean() >= 0.999, name
        sums = found.sum((1, 2), dtype=np.float64)
        np.testing.assert_allclose(sums, stored["q_class_sums"], atol=1e-5 * case["height"] * case["width"])


def test_probabilities_after_one_iteration(golden: Path, cases: dict[str, dict[str, Any]], implementation: str) -> None:
    checked = 0
    for name, case in cases.items():
        stored = arrays(golden, name)
        if "q_iter1" not in stored:
            continue
        found = refine(case, stored, 1, implementation)[:, ::2, ::2]
        np.testing.assert_allclose(found, stored["q_iter1"], atol=1e-4, rtol=0, err_msg=name)
        checked += 1
    assert checked
