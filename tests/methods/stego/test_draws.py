"""Draws depend on seed and step, and on nothing else."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stego_cli.config.losses import CrfLossConfig, LossConfig
from stego_cli.errors import ShapeError
from stego_cli.methods.stego.draws import (
    CRF_SIDE,
    NO_DROP,
    DrawPlan,
    DropMasks,
    StepDraws,
    avoid_self,
    draw_step,
    plan_draws,
)

EVERYTHING = DrawPlan(
    batch=5, channels=300, samples=4, negatives=3, dropout=0.25, augmented=True, crf_samples=50, salience=True
)


def tensors(draws: StepDraws | DropMasks, prefix: str = "") -> dict[str, torch.Tensor]:
    found = {}
    for field in fields(draws):
        value = getattr(draws, field.name)
        if isinstance(value, DropMasks):
            found |= tensors(value, f"{field.name}.")
        elif value is not None:
            found[prefix + field.name] = value
    return found


def test_the_same_seed_and_step_draw_the_same_whatever_was_drawn_before() -> None:
    first = tensors(draw_step(EVERYTHING, seed=3, step=7))
    torch.manual_seed(99)
    draw_step(EVERYTHING, seed=3, step=6)
    second = tensors(draw_step(EVERYTHING, seed=3, step=7))
    assert len(first) == 6 + 9
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize("other", [(3, 8), (4, 7), (7, 3)])
def test_another_seed_or_step_draws_something_else(other: tuple[int, int]) -> None:
    first, second = tensors(draw_step(EVERYTHING, 3, 7)), tensors(draw_step(EVERYTHING, *other))
    for name, value in first.items():
        assert not torch.equal(value, second[name]), name


def test_no_two_draws_of_a_step_are_alike() -> None:
    found = [value.flatten().float() for value in tensors(draw_step(EVERYTHING, 0, 0)).values()]
    starts = {tuple(value[:14].tolist()) for value in found}
    assert len(starts) == len(found)


def test_switching_terms_off_leaves_the_other_draws_alone() -> None:
    whole = tensors(draw_step(EVERYTHING, 1, 1))
    plain = tensors(draw_step(replace(EVERYTHING, augmented=False, crf_samples=0, salience=False), 1, 1))
    assert plain.keys() == whole.keys() - {
        "augmented.linear",
        "augmented.hidden",
        "augmented.features",
        "crf_cells",
        "salience",
        "keep_salient",
    }
    for name, value in plain.items():
        assert torch.equal(value, whole[name]), name


def test_ranges() -> None:
    draws = draw_step(EVERYTHING, 0, 0)
    for coords in (draws.coords1, draws.coords2):
        assert -1 <= coords.min() < -0.9
        assert 0.9 < coords.max() <= 1
    assert draws.crf_cells.min() >= 0
    assert draws.crf_cells.max() < CRF_SIDE
    assert draws.salience.shape == (2, 5, 16, 2)
    assert 0 <= draws.salience.min() <= draws.salience.max() < 1


def test_masks_drop_the_share_asked_for_and_keep_the_mean() -> None:
    masks = draw_step(replace(EVERYTHING, batch=50), 0, 0).image
    for mask in (masks.linear, masks.hidden, masks.features):
        assert mask.unique().tolist() == [0.0, pytest.approx(1 / 0.75)]
        assert mask.mean().item() == pytest.approx(1, abs=0.02)
    agreement = (masks.linear == masks.hidden).float().mean().item()
    assert agreement == pytest.approx(0.25**2 + 0.75**2, abs=0.02)  # what independent masks have


def test_without_dropout_there_are_no_masks() -> None:
    assert draw_step(replace(EVERYTHING, dropout=0), 0, 0).image is NO_DROP
    assert draw_step(replace(EVERYTHING, drop_features=False), 0, 0).image.features is None


def test_the_plan_follows_the_loss() -> None:
    config = LossConfig(crf_weight=1, crf=CrfLossConfig(samples=7), use_salience=True, feature_samples=3)
    plan = plan_draws(config, 0.1, batch=2, channels=8)
    assert (plan.samples, plan.crf_samples, plan.salience, plan.augmented) == (3, 7, True, False)
    assert plan_draws(LossConfig(), 0.1, batch=2, channels=8).crf_samples == 0


@given(st.integers(1, 40).flatmap(lambda n: st.permutations(range(n))))
def test_nobody_is_left_with_oneself_but_a_single_image(permutation: list[int]) -> None:
    before = torch.tensor(permutation)
    after = avoid_self(before)
    places = torch.arange(len(before))
    assert ((after >= 0) & (after < len(before))).all()
    assert torch.equal(after[before != places], before[before != places])
    if len(before) > 1:
        assert (after != places).all()
    else:
        assert after.tolist() == [0]


def test_shapes_are_checked() -> None:
    coords, negatives = torch.zeros(2, 3, 3, 2), torch.zeros(5, 2, dtype=torch.int64)
    with pytest.raises(ShapeError, match="coordinates"):
        StepDraws(coords, torch.zeros(2, 4, 4, 2), negatives)
    with pytest.raises(ShapeError, match="negatives"):
        StepDraws(coords, coords, negatives[:, :1])


def test_moving_keeps_everything() -> None:
    draws = draw_step(EVERYTHING, 0, 0)
    moved = tensors(draws.to(torch.device("cpu")))
    for name, value in tensors(draws).items():
        assert torch.equal(value, moved[name]), name
    assert {value.device.type for value in tensors(draws.to(torch.device("meta"))).values()} == {"meta"}
