"""Views: pieces of images with the words of their patches, and which patches are hidden."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stego_cli.config.model import VitArchitecture
from stego_cli.config.pretrain import PretrainConfig
from stego_cli.engine.pretrain.views import (
    Piece,
    ViewMaker,
    draw_piece,
    features_of,
    hiding_order,
    other_light,
    words_of,
)
from stego_cli.engine.pretrain.words import WordMaps

SIZES = VitArchitecture(patch_size=8, width=24, depth=1, heads=2, image_size=32)
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def config(**settings: float) -> PretrainConfig:
    return PretrainConfig(architecture=SIZES, **settings)  # type: ignore[arg-type]


@given(height=st.integers(1, 200), width=st.integers(1, 200), least=st.floats(0.01, 1), seed=st.integers(0, 10))
def test_a_piece_lies_within_its_image_and_is_nearly_square(height: int, width: int, least: float, seed: int) -> None:
    piece = draw_piece(height, width, config(least_area=least), np.random.default_rng(seed))
    assert 0 <= piece.top <= piece.top + piece.height <= height
    assert 0 <= piece.left <= piece.left + piece.width <= width
    if min(height, width) * least**0.5 > 20:  # below that, rounding decides
        assert max(piece.height, piece.width) / min(piece.height, piece.width) < 1.9


def test_a_wide_view_shows_a_wide_piece() -> None:
    wide = config(least_area=1, aspect=2)
    pieces = [draw_piece(100, 300, wide, np.random.default_rng(seed)) for seed in range(50)]
    assert np.median([piece.width / piece.height for piece in pieces]) == pytest.approx(2, abs=0.3)
    assert max(piece.height for piece in pieces) == 100
    exact = draw_piece(100, 200, config(least_area=1, aspect=2, stretch=1), np.random.default_rng(0))
    assert exact[:4] == (0, 0, 100, 200)


def test_the_whole_of_a_square_image_has_all_its_words() -> None:
    words = np.arange(16).reshape(4, 4)
    assert (words_of(words, (32, 32), Piece(0, 0, 32, 32, mirrored=False), (4, 4)) == words).all()


def test_a_small_piece_has_the_word_it_was_cut_from() -> None:
    words = np.arange(16).reshape(4, 4)
    assert (words_of(words, (32, 32), Piece(9, 17, 6, 6, mirrored=False), (2, 2)) == 6).all()


def test_the_features_of_the_whole_are_those_of_its_cells() -> None:
    maps = np.random.default_rng(0).standard_normal((3, 4, 4)).astype(np.float16)
    whole = Piece(0, 0, 32, 32, mirrored=False)
    np.testing.assert_array_equal(features_of(maps, (32, 32), whole, (4, 4)), maps.astype(np.float32))


def test_features_between_cells_lie_on_a_line() -> None:
    ramp = np.arange(4, dtype=np.float32)[None, None, :].repeat(4, 1)
    # Cells are centred at 4, 12, 20, 28 pixels; the patches of this piece at 10 and 14: at 0.75 and 1.25 cells.
    found = features_of(ramp, (32, 32), Piece(8, 8, 8, 8, mirrored=False), (2, 2))
    np.testing.assert_allclose(found, [[[0.75, 1.25]] * 2])
    # Outside of the outermost centres there is nothing to lie between.
    edge = features_of(ramp, (32, 32), Piece(0, 0, 4, 4, mirrored=False), (2, 2))
    np.testing.assert_allclose(edge, np.zeros((1, 2, 2)))


def test_hiding_takes_squares_and_every_patch_once() -> None:
    order = hiding_order((6, 6), 3, np.random.default_rng(0))
    assert sorted(order) == list(range(36))
    rows, columns = np.divmod(order[:9], 6)
    assert len({(row // 3, column // 3) for row, column in zip(rows, columns, strict=True)}) == 1


def test_other_light_keeps_grey_grey_and_the_order_of_what_is_brighter() -> None:
    ramp = np.repeat(np.linspace(60, 120, 16).astype(np.uint8)[:, None, None], 3, axis=2)
    lit = other_light(ramp, np.random.default_rng(3))
    assert (lit == lit[..., :1]).all()
    assert (np.diff(lit[:, 0, 0].astype(int)) >= 0).all()


@pytest.fixture
def maker(tmp_path: Path) -> ViewMaker:
    """One image whose left half is black and has word 0, and whose right half is white and has word 1."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, 32:] = 255
    Image.fromarray(pixels).save(tmp_path / "halves.png")
    words = np.repeat(np.array([[0, 0, 0, 0, 1, 1, 1, 1]], np.int32), 8, axis=0)
    maps = WordMaps((tmp_path / "halves.png",), (words,), 64, 8)
    settings = config(batch_size=6, seed=1, workers=2, words=2)
    return ViewMaker(settings, maps, 0, MEAN, STD)


def test_words_stay_with_what_they_name_also_in_the_mirror(maker: ViewMaker) -> None:
    views = maker.batch(0)
    patches = views.images.mean(1).reshape(-1, 4, 8, 4, 8).mean((2, 4)).flatten(1)
    for seen, words in zip(patches, views.words, strict=True):
        assert 0 < words.sum() < 16
        sure = (seen - seen.min() < 0.1) | (seen.max() - seen < 0.1)  # a patch on the border is neither
        bright = seen > (seen.max() + seen.min()) / 2
        assert (bright == words.bool())[sure].all()


def test_features_mirror_with_their_words(maker: ViewMaker) -> None:
    words = maker.maps.words[0]
    features = torch.from_numpy(words[None].astype(np.float16))
    of_features = replace(maker, maps=replace(maker.maps, features=(features,)))
    views = of_features.batch(0)
    assert views.images.shape == (6, 1, 4, 4)
    sure = (views.images < 0.1) | (views.images > 0.9)
    assert ((views.images > 0.5).flatten(1) == views.words.bool())[sure.flatten(1)].all()
    pixels = maker.batch(0)
    assert torch.equal(pixels.words[0], views.words[0])  # the first piece is drawn before anything else


def test_views_have_the_aspect_that_was_asked_for(maker: ViewMaker) -> None:
    wide = replace(maker, config=maker.config.model_copy(update={"aspect": 1.5}))
    views = wide.batch(0)
    assert views.images.shape == (6, 3, 32, 48)
    assert views.words.shape == views.order.shape == (6, 24)


def test_steps_are_the_same_wherever_a_run_begins(maker: ViewMaker) -> None:
    late = list(maker.batches(2, 4))
    for ours, other in zip(list(maker.batches(0, 4))[2:], late, strict=True):
        assert torch.equal(ours.images, other.images)
        assert torch.equal(ours.words, other.words)
        assert torch.equal(ours.order, other.order)
    assert not torch.equal(late[0].images, late[1].images)
