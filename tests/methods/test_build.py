"""From a method's config to the method."""

from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter

from stego_cli.config.model import MethodConfig
from stego_cli.methods.base import Fitted
from stego_cli.methods.build import build_method

KINDS = ("stego", "dino", "pca", "rp", "hnne", "umap")


def config_of(value: object) -> MethodConfig:
    found: MethodConfig = TypeAdapter(MethodConfig).validate_python(value)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_method_that_makes_code_and_fits_a_strict_load(kind: str) -> None:
    config = config_of({"kind": kind} if kind == "dino" else {"kind": kind, "code_dim": 3})
    method = build_method(config, 7).eval()
    assert method.code_dim == (7 if kind == "dino" else 3)
    build_method(config, 7).load_state_dict(method.state_dict(), strict=True)
    assert method.code(torch.ones(2, 7, 4, 5)).shape == (2, method.code_dim, 4, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_learns_has_parameters_and_what_is_fitted_says_so(kind: str) -> None:
    config = config_of(kind)
    method = build_method(config, 80)
    assert config.kind == kind
    assert config.learns == any(True for _ in method.parameters())
    assert isinstance(method, Fitted) == (kind not in {"stego", "dino"})
    if isinstance(method, Fitted):
        assert method.recipe(0)["kind"] == kind
