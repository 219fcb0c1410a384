"""The search for neighbours: what is found, in which order, and for which images."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stego_cli.errors import ConfigError, ShapeError, StegoError
from stego_cli.neighbors import exact
from stego_cli.neighbors.search import Found, search
from stego_cli.progress import Silence
from support import Heard


def unit(count: int, channels: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, channels))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def brute_force(vectors: np.ndarray, columns: int) -> list[list[int]]:
    """Sort all others of every image, by decreasing inner product and then by number."""
    products = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    everybody = range(len(vectors))
    return [
        [
            own,
            *sorted((other for other in everybody if other != own), key=lambda other: (-products[own, other], other)),
        ][:columns]
        for own in everybody
    ]


# Whole numbers have exact products, and so few of them that ties and copies abound.
tables = st.integers(2, 23).flatmap(
    lambda count: st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=count, max_size=count)
)


@given(tables, st.integers(2, 25), st.sampled_from([1, 3, 8, 64]), st.integers(1, 3))
def test_the_search_agrees_with_sorting_all_pairs(rows: list[list[int]], columns: int, tile: int, threads: int) -> None:
    vectors = np.array(rows, np.float32)
    with mock.patch.object(exact, "TILE", tile):
        found = search(vectors, columns, threads=threads)
    assert found.neighbors.tolist() == brute_force(vectors, columns)
    expected = (vectors @ vectors.T)[np.arange(len(rows))[:, None], found.neighbors]
    assert found.similarities.tolist() == expected.tolist()
    assert found.recall is None


@given(tables, st.lists(st.integers(0, 22), min_size=1, max_size=9), st.sampled_from([1, 3, 64]))
def test_asking_for_some_rows_gives_the_same_as_for_all(rows: list[list[int]], some: list[int], tile: int) -> None:
    vectors = np.array(rows, np.float32)
    wanted = np.array([row % len(rows) for row in some])
    with mock.patch.object(exact, "TILE", tile):
        part = exact.nearest_of(vectors, wanted, len(rows) - 1, threads=2)
    assert part.ids.tolist() == [brute_force(vectors, len(rows))[row][1:] for row in wanted]


def test_thirty_columns_are_the_image_and_29_others() -> None:
    found = search(unit(50, 8), 30)
    assert found.neighbors.shape == found.similarities.shape == (50, 30)
    assert (found.neighbors.dtype, found.similarities.dtype) == (np.int64, np.float32)
    assert found.neighbors[:, 0].tolist() == list(range(50))
    assert all(len(set(row)) == 30 for row in found.neighbors.tolist())


def test_exact_copies_come_after_the_image_itself_in_the_order_of_their_numbers() -> None:
    vectors = unit(60, 16)
    vectors[[5, 17, 31, 44]] = vectors[2]
    found = search(vectors, 6)
    assert found.neighbors[31, :5].tolist() == [31, 2, 5, 17, 44]
    assert found.neighbors[2, :5].tolist() == [2, 5, 17, 31, 44]
    assert len(set(found.similarities[31, :5].tolist())) == 1


def test_the_result_depends_neither_on_tiles_nor_on_threads() -> None:
    vectors = unit(700, 48)
    vectors[400:440] = vectors[:40]
    vectors[600:] = vectors[600]
    vectors[650:] += np.float32(1e-7)  # all but copies: what is nearer is decided by the last bit
    one = search(vectors, 12, threads=1)
    for tile, threads in ((64, 4), (100, 3), (699, 2)):
        with mock.patch.object(exact, "TILE", tile):
            other = search(vectors, 12, threads=threads)
        np.testing.assert_array_equal(other.neighbors, one.neighbors)
        np.testing.assert_array_equal(other.similarities, one.similarities)


def test_similarities_are_products_in_double_precision_rounded_once() -> None:
    vectors = unit(80, 384)
    found = search(vectors, 80)
    products = (vectors.astype(np.float64) @ vectors.astype(np.float64).T).astype(np.float32)
    np.testing.assert_allclose(
        found.similarities, np.take_along_axis(products, found.neighbors, 1), rtol=1e-7, atol=1e-9
    )
    assert (np.diff(found.similarities[:, 1:]) <= 0).all()


def test_vectors_that_are_not_of_unit_length_are_compared_by_inner_product_too() -> None:
    vectors = unit(40, 8) * np.linspace(0.1, 1000, 40, dtype=np.float32)[:, None]
    assert search(vectors, 10).neighbors.tolist() == brute_force(vectors, 10)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_an_image_that_could_not_be_read_has_no_neighbours_and_is_nobodys(bad: float, kind: str) -> None:
    vectors = unit(40, 8)
    whole = search(np.delete(vectors, [0, 7, 39], axis=0), 37, kind)
    vectors[0], vectors[7, 3], vectors[39, :2] = np.nan, bad, (np.inf, -np.inf)
    found = search(vectors, 37, kind)
    for row in (0, 7, 39):
        assert found.neighbors[row].tolist() == [row] + [-1] * 36
        assert np.isnan(found.similarities[row]).all()
    rest = np.delete(np.arange(40), [0, 7, 39])
    np.testing.assert_array_equal(found.neighbors[rest], rest[whole.neighbors])
    np.testing.assert_array_equal(found.similarities[rest], whole.similarities)


def test_vectors_of_zeros_are_similar_to_nobody_but_have_neighbours() -> None:
    vectors = unit(6, 4)
    vectors[[1, 3]] = 0
    found = search(vectors, 6)
    assert found.neighbors[3].tolist() == [3, 0, 1, 2, 4, 5]
    assert found.similarities[3].tolist() == [0.0] * 6


def test_fewer_images_than_columns_give_as_many_columns_as_there_are_and_a_note() -> None:
    notes = Heard()
    vectors = unit(7, 4)
    vectors[4] = np.nan
    found = search(vectors, 30, report=notes)
    assert found.neighbors.shape == (7, 6)
    assert len(notes.notes) == 1
    assert "6 usable images" in notes.notes[0]
    assert "30" in notes.notes[0]
    search(vectors, 6, report=notes)
    assert len(notes.notes) == 1


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_two_images_are_each_others_neighbours(kind: str) -> None:
    assert search(unit(2, 4), 30, kind).neighbors.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (np.empty((0, 8)), "no images"),
        (np.empty((0, 0)), "no images"),
        (np.ones((1, 8)), "the only image"),
        (np.full((5, 8), np.nan), "none of 5 images"),
        (np.where(np.arange(5)[:, None] == 2, 1.0, np.nan), "1 of 5 images"),
    ],
)
def test_too_few_images_get_a_clear_answer(vectors: np.ndarray, words: str) -> None:
    with pytest.raises(StegoError, match=words) as raised:
        search(vectors)
    assert "\n\nhint: " in str(raised.value)


@pytest.mark.parametrize("columns", [1, 0, -3])
def test_an_image_alone_is_no_list_of_neighbours(columns: int) -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        search(unit(5, 4), columns)


@pytest.mark.parametrize("shape", [(5,), (5, 4, 3), (5, 0)])
def test_what_is_no_table_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="expected"):
        search(np.zeros(shape, np.float32))


def test_arrays_of_any_layout_and_precision_are_taken_and_left_as_they_are() -> None:
    vectors = unit(30, 6).astype(np.float16)
    expected = search(vectors.astype(np.float32), 9)
    frozen = np.asfortranarray(vectors.astype(np.float64))
    frozen.flags.writeable = False
    for given_vectors in (vectors, frozen, np.repeat(vectors, 2, axis=0)[::2]):
        before = given_vectors.copy()
        np.testing.assert_array_equal(search(given_vectors, 9).neighbors, expected.neighbors)
        np.testing.assert_array_equal(given_vectors, before)


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_the_threads_of_pytorch_are_given_back(kind: str) -> None:
    before = torch.get_num_threads()
    search(unit(50, 4), 5, kind, threads=before + 1)
    assert torch.get_num_threads() == before


def test_what_fails_in_a_thread_is_raised_and_the_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with mock.patch.object(exact.kernels, "update_rows", side_effect=MemoryError), pytest.raises(MemoryError):
        search(unit(50, 4), 5, threads=before + 1)
    assert torch.get_num_threads() == before


def test_progress_is_told_tile_by_tile() -> None:
    class Counting(Silence):
        def track(self, items, doing, total):
            seen.append((doing, total))
            yield from items

    seen: list[tuple[str, int]] = []
    with mock.patch.object(exact, "TILE", 10):
        found = search(unit(35, 4), 5, report=Counting())
    assert isinstance(found, Found)
    assert seen == [("Comparing images", 10)]  # 4 blocks: 4 + 3 + 2 + 1 pairs
