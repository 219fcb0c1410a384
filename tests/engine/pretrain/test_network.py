"""The network that sees part of a view: what it reads, and what it must not."""

from __future__ import annotations

import math

import pytest
import torch

from stego_cli.backbones.stem import FilterbankStem
from stego_cli.config.model import VitArchitecture
from stego_cli.engine.pretrain.network import Pretrainee, ViewBatch

SIZES = VitArchitecture(patch_size=8, width=24, depth=2, heads=2, image_size=32)


@pytest.fixture
def model() -> Pretrainee:
    torch.manual_seed(0)
    return Pretrainee(SIZES, 5).eval()


def views(seed: int = 0) -> ViewBatch:
    chance = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(16, generator=chance) for _ in range(3)])
    return ViewBatch(torch.randn(3, 3, 32, 32, generator=chance), torch.randint(5, (3, 16), generator=chance), order)


def test_all_patches_in_order_give_what_the_backbone_gives(model: Pretrainee) -> None:
    batch = views()
    every = torch.arange(16).expand(3, -1)
    torch.testing.assert_close(
        model.tokens(model.network.patch_embed(batch.images), every), model.network.forward_features(batch.images)
    )


def test_features_of_the_stem_give_what_their_images_give() -> None:
    torch.manual_seed(0)
    model = Pretrainee(SIZES.model_copy(update={"stem": "filterbank"}), 5).eval()
    batch, stem = views(), model.network.patch_embed
    assert isinstance(stem, FilterbankStem)
    every = torch.arange(16).expand(3, -1)
    seen = model.tokens(stem.tokens(stem.bank(batch.images)), every)
    torch.testing.assert_close(seen, model.network.forward_features(batch.images))


def test_what_is_hidden_does_not_reach_the_network(model: Pretrainee) -> None:
    batch = views()
    changed = batch.images.clone()
    for one, order in zip(changed, batch.order, strict=True):
        for patch in order[6:].tolist():
            row, column = divmod(patch, 4)
            one[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 9.0
    seen = batch.order[:, :6]
    embed = model.network.patch_embed
    assert torch.equal(model.tokens(embed(batch.images), seen), model.tokens(embed(changed), seen))


def test_a_fresh_network_guesses_evenly(model: Pretrainee) -> None:
    hidden, own = model(views(), 6)
    assert hidden.item() == pytest.approx(math.log(5), abs=0.1)
    assert own.item() == pytest.approx(math.log(5), abs=0.1)


def test_views_may_be_wider_than_the_table_of_positions(model: Pretrainee) -> None:
    batch = views()
    order = torch.stack([torch.randperm(24) for _ in range(3)])
    wide = ViewBatch(torch.cat([batch.images, batch.images[..., :16]], 3), torch.zeros(3, 24, dtype=torch.long), order)
    hidden, own = model(wide, 8)
    (hidden + own).backward()
    table = model.network.pos_embed.grad
    assert table is not None
    assert table.isfinite().all()


def test_both_terms_teach_the_network(model: Pretrainee) -> None:
    for term in (0, 1):
        model.zero_grad()
        model(views(), 6)[term].backward()
        gradient = model.network.patch_embed.proj.weight.grad
        assert gradient is not None
        assert gradient.abs().sum() > 0


def test_pieces_of_a_batch_are_the_batch() -> None:
    batch = views()
    pieces = batch.split(2)
    assert [len(piece.images) for piece in pieces] == [2, 1]
    assert torch.equal(torch.cat([piece.order for piece in pieces]), batch.order)
