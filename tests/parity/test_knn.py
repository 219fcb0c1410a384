"""Golden case `knn`: pooled features, neighbours and file names of the STEGO reference."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stego_cli.neighbors.index import NeighborIndex
from stego_cli.neighbors.pooling import pool
from stego_cli.neighbors.reference import load_reference, reference_name, save_reference
from stego_cli.neighbors.search import search

ROUNDING = 1e-6  # the reference multiplies in float32; what is closer than this it may have in either order
NAME = re.compile(r"nns_(?P<model>\w+)_(?P<dataset>[^_]+)_(?P<split>train|val)_(?P<crop>[^_]+)_(?P<res>\d+)\.npz")


@pytest.fixture(scope="module")
def folder(golden: Path, whole_set: bool) -> Path:
    found = golden / "stego" / "knn"
    if not found.is_dir() and not whole_set:
        pytest.skip("the travelling copy has no `knn`")
    return found


@pytest.fixture(scope="module")
def meta(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "meta.json").read_text("utf-8"))
    return loaded


@pytest.fixture(scope="module")
def cases(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    found = {path.stem: dict(np.load(path)) for path in sorted(folder.glob("*.npz"))}
    assert found
    return found


def test_pooled_features(cases: dict[str, dict[str, np.ndarray]]) -> None:
    for case in cases.values():
        vectors = pool(torch.from_numpy(case["feature_maps"])).numpy()
        np.testing.assert_allclose(vectors, case["pooled_normalised"], rtol=0, atol=1e-6)


def test_neighbours_and_their_order(cases: dict[str, dict[str, np.ndarray]], meta: dict[str, Any]) -> None:
    for case in cases.values():
        vectors, theirs = case["pooled_normalised"], case["nns"]
        found = search(vectors, meta["k"])
        assert found.neighbors.shape == theirs.shape
        assert (found.neighbors[:, 0] == theirs[:, 0]).all()
        products = vectors.astype(np.float64) @ vectors.astype(np.float64).T
        ours_at, theirs_at = (np.take_along_axis(products, ids, 1) for ids in (found.neighbors, theirs))
        differing = found.neighbors != theirs
        assert (np.abs(ours_at - theirs_at)[differing] < ROUNDING).all()
        np.testing.assert_allclose(found.similarities, theirs_at, rtol=0, atol=ROUNDING)


def test_neighbours_from_the_feature_maps(cases: dict[str, dict[str, np.ndarray]], meta: dict[str, Any]) -> None:
    for case in cases.values():
        found = search(pool(torch.from_numpy(case["feature_maps"])).numpy(), meta["k"])
        products = case["pooled_normalised"].astype(np.float64) @ case["pooled_normalised"].T.astype(np.float64)
        ours_at, theirs_at = (np.take_along_axis(products, ids, 1) for ids in (found.neighbors, case["nns"]))
        np.testing.assert_allclose(ours_at, theirs_at, rtol=0, atol=ROUNDING)


def test_file_names(meta: dict[str, Any]) -> None:
    for name in meta["cache_file_names_written"]:
        parts = NAME.fullmatch(name)
        assert parts is not None
        crop = None if parts["crop"] == "None" else parts["crop"]
        assert reference_name(parts["model"], parts["dataset"], parts["split"], crop, int(parts["res"])) == name


def test_layout_of_the_file(cases: dict[str, dict[str, np.ndarray]], meta: dict[str, Any], tmp_path: Path) -> None:
    for case in cases.values():
        table = case["nns"]
        path = tmp_path / "nns.npz"
        save_reference(NeighborIndex(table, None, np.ones(len(table), bool)), path)
        with np.load(path, allow_pickle=False) as file:
            assert file.files == [meta["array_name"]]
            assert file[meta["array_name"]].dtype == meta["array_dtype"]
            np.testing.assert_array_equal(file[meta["array_name"]], table)
        np.testing.assert_array_equal(load_reference(path, len(table)).neighbors, table)
