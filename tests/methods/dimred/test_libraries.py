"""The packages that embed: called so that they repeat themselves, and missing in words."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from stego_cli.config.model import HnneConfig, UmapConfig
from stego_cli.errors import MissingDependencyError, StegoError
from stego_cli.methods.dimred.libraries import check_installed, embed

CONFIGS = {"hnne": HnneConfig(code_dim=2), "umap": UmapConfig(code_dim=2)}


@pytest.mark.parametrize(("kind", "package"), [("hnne", "hnne"), ("umap", "umap-learn")])
def test_a_missing_package_is_named_with_the_extra(kind: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, kind, None)
    for call in (lambda: check_installed(CONFIGS[kind]), lambda: embed(torch.randn(9, 4), CONFIGS[kind], 0)):
        with pytest.raises(MissingDependencyError, match=rf"(?s)`{package}`.*pip install 'stego-cli\[dimred\]'"):
            call()


@pytest.mark.parametrize("kind", ["hnne", "umap"])
def test_clusters_stay_apart_and_the_seed_decides(kind: str) -> None:
    pytest.importorskip(kind)
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(90, 8, generator=draw) + 30 * torch.eye(8)[:3].repeat_interleave(30, dim=0)
    places = embed(vectors, CONFIGS[kind], seed=1)
    assert places.shape == (90, 2)
    assert torch.equal(places, embed(vectors, CONFIGS[kind], seed=1))
    apart = torch.cdist(places, places).fill_diagonal_(torch.inf)
    nearest = apart.argmin(1) // 30
    assert nearest.tolist() == (torch.arange(90) // 30).tolist()


class Fake:
    """An embedding that does what a test wants."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def __call__(self, *_: Any, **__: Any) -> Fake:
        return self

    def fit_transform(self, vectors: np.ndarray) -> np.ndarray:
        if isinstance(self.result, Exception):
            raise self.result
        return np.full((len(vectors), 2), self.result)


def test_what_a_library_says_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Fake(TypeError("k >= N"))))
    with pytest.raises(StegoError, match=r"(?s)UMAP could not embed 9 positions: k >= N.*--dim"):
        embed(torch.randn(9, 4), CONFIGS["umap"], 0)


def test_places_that_are_no_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hnne", SimpleNamespace(HNNE=Fake(np.nan)))
    with pytest.raises(StegoError, match="h-NNE put some of 9 positions nowhere"):
        embed(torch.randn(9, 4), CONFIGS["hnne"], 0)
