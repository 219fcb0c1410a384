"""FAISS' inverted lists and graph: what they find is ranked as in the exact search, and how much they find is true."""

from __future__ import annotations

import numpy as np
import pytest

from stego_cli.neighbors import approximate
from stego_cli.neighbors.search import search
from support import Heard

KINDS = ["ivf", "hnsw"]


def groups(count: int, seed: int = 0) -> np.ndarray:
    """Return vectors around a few centres, as those of real images are."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((12, 24))
    vectors = centres[random.integers(12, size=count)] + 0.4 * random.standard_normal((count, 24))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def counted_recall(found: np.ndarray, true: np.ndarray) -> float:
    """Count, with sets, the share of true neighbours that were found."""
    hits = [len(set(ours[1:]) & set(theirs[1:])) for ours, theirs in zip(found.tolist(), true.tolist(), strict=True)]
    return sum(hits) / (len(found) * (found.shape[1] - 1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_stated_recall_is_the_counted_one_and_high_enough(kind: str) -> None:
    vectors = groups(900)  # fewer than the sample has places: all are in it
    warnings = Heard()
    found, true = search(vectors, 30, kind, report=warnings), search(vectors, 30)
    assert found.recall == pytest.approx(counted_recall(found.neighbors, true.neighbors), abs=1e-9)
    assert found.recall >= approximate.AIM
    assert warnings.warnings == []


@pytest.mark.parametrize("kind", KINDS)
def test_rows_begin_with_the_image_and_go_on_as_in_the_exact_search(kind: str) -> None:
    vectors = groups(500)
    vectors[100:110] = vectors[7]
    found = search(vectors, 10, kind)
    assert found.neighbors[:, 0].tolist() == list(range(500))
    assert all(len(set(row)) == 10 and min(row) >= 0 for row in found.neighbors.tolist())
    products = (vectors.astype(np.float64) @ vectors.astype(np.float64).T).astype(np.float32)
    expected = np.take_along_axis(products, found.neighbors, 1)
    np.testing.assert_allclose(found.similarities, expected, rtol=1e-7, atol=1e-9)
    steps = np.diff(found.similarities[:, 1:])
    assert (steps <= 0).all()
    assert (np.diff(found.neighbors[:, 1:])[steps == 0] > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_effort_is_raised_until_the_recall_suffices(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).standard_normal((3000, 64)).astype(np.float32)  # the hard case: no groups at all
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    monkeypatch.setattr(approximate, "SAMPLE", 200)
    monkeypatch.setattr(approximate, "_LINKS", 6)
    raised = search(vectors, 10, kind)
    monkeypatch.setattr(approximate, "AIM", 0.0)  # content with the first try
    warnings = Heard()
    first = search(vectors, 10, kind, report=warnings)
    assert first.recall < raised.recall
    assert raised.recall >= approximate.LEAST
    true = search(vectors, 10)
    assert raised.recall == pytest.approx(counted_recall(raised.neighbors, true.neighbors), abs=0.03)
    assert len(warnings.warnings) == 1
    assert kind in warnings.warnings[0]
    assert "--index flat" in warnings.warnings[0]


def test_images_for_which_too_few_were_proposed_are_compared_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = groups(300)
    monkeypatch.setattr(approximate, "AIM", 0.0)  # two of seven lists are read, and all others are wanted
    np.testing.assert_array_equal(search(vectors, 300, "ivf").neighbors, search(vectors, 300).neighbors)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_neighbours(kind: str) -> None:
    vectors = groups(600)
    one, again = (search(vectors, 20, kind, seed=3, threads=1) for _ in range(2))
    np.testing.assert_array_equal(one.neighbors, again.neighbors)
    assert one.recall == again.recall


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [2, 3, 38, 40])
def test_tiny_sets_and_sets_of_copies_are_no_trouble(kind: str, count: int, capfd: pytest.CaptureFixture[str]) -> None:
    vectors = groups(count)
    np.testing.assert_array_equal(search(vectors, count, kind).neighbors, search(vectors, count).neighbors)
    vectors[:] = vectors[0]
    np.testing.assert_array_equal(search(vectors, count, kind).neighbors, search(vectors, count).neighbors)
    assert search(np.zeros((count, 4)), count, kind).recall == 1
    assert capfd.readouterr().err == ""  # FAISS would complain of too few points for its groups


def test_faiss_gets_its_threads_back() -> None:
    import faiss

    before = faiss.omp_get_max_threads()
    search(groups(100), 5, "ivf", threads=before + 2)
    assert faiss.omp_get_max_threads() == before


def test_on_macos_faiss_is_kept_to_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate.sys, "platform", "darwin")
    monkeypatch.setenv("KMP_DUPLICATE_LIB_OK", "FALSE")  # restored after the test; what is set already stays
    with approximate._faiss(4) as faiss:
        assert faiss.omp_get_max_threads() == 1


def test_the_exact_search_does_not_import_faiss() -> None:
    import subprocess
    import sys

    code = (
        "import sys, numpy as np; from stego_cli.neighbors.search import search;"
        "search(np.eye(5)); sys.exit('faiss' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("first", ["torch", "faiss"])
def test_faiss_and_torch_share_a_process_in_either_order(first: str) -> None:
    """Each brings an OpenMP runtime of its own."""
    import subprocess
    import sys

    code = (
        f"import {first}; import faiss, torch, numpy as np; from stego_cli.neighbors.search import search;"
        "v = np.random.default_rng(0).standard_normal((1500, 32));"
        "[(torch.ones(500, 500) @ torch.ones(500, 500), search(v, 5, k, threads=3))"
        " for k in ('flat', 'ivf', 'hnsw') * 2]"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=300, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
