"""The correspondence loss by hand and by its properties; numbers of the reference are in tests/parity."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stego_cli.config.losses import LossConfig
from stego_cli.methods.stego.correspondence import (
    Compared,
    Correspondence,
    correspondence,
    feature_correspondence,
    feature_pulls,
)
from stego_cli.methods.stego.sampling import map_source

# Position (0, 0) of the square looks at the left cell, position (0, 1) at the right one, of a map of two cells.
LEFT_AND_RIGHT = torch.tensor([[[[-1.0, 0.0]], [[1.0, 0.0]]]])


def plain(**settings: float | bool) -> LossConfig:
    return LossConfig(**{"pointwise": False, "zero_clamp": True, "stabilise": False} | settings)


def compare(config: LossConfig, features: torch.Tensor, code: torch.Tensor) -> Correspondence:
    """Compare single images of two cells with themselves in every way; maps are (C, 2)."""
    coords = LEFT_AND_RIGHT.transpose(1, 2)
    maps = [each[None, :, None, :] for each in (features, code)]
    compared = Compared(*(map_source(each) for each in maps))
    return correspondence(config, compared, compared, (coords, coords), torch.zeros(2, 1, dtype=torch.int64))


def test_two_positions_by_hand() -> None:
    """Features at 60 degrees, codes at right angles: only the pairs of equal positions have a code similarity."""
    features = torch.tensor([[1.0, 0.5], [0.0, 3**0.5 / 2]])
    code = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    found = compare(plain(self_shift=0.2, knn_shift=0.4, random_shift=0.6), features, code)
    # -(1 * (1 - shift)) twice, 0 twice, over four pairs
    assert found.losses.tolist() == pytest.approx([-0.4, -0.3, -0.2, -0.2], abs=1e-6)
    assert found.code_corr.tolist() == pytest.approx([0.5] * 4, abs=1e-6)


def test_two_positions_by_hand_pointwise() -> None:
    """Rows (1, 1/2) and (1/2, 1) have mean 3/4, as the whole has: centred and raised again they stay as they are."""
    features = torch.tensor([[1.0, 0.5], [0.0, 3**0.5 / 2]])
    code = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    found = compare(plain(pointwise=True, self_shift=0.25, knn_shift=0.5, random_shift=1), features, code)
    assert found.losses.tolist() == pytest.approx([-0.5, -0.25, 0.25, 0.25], abs=1e-6)


def test_pointwise_centres_rows_and_keeps_the_mean_of_each_comparison() -> None:
    corr = torch.rand(3, 4, 5, 4, generator=torch.Generator().manual_seed(0))
    pulls = feature_pulls(plain(pointwise=True), corr.clone(), 0.25) + 0.25
    expected = corr.mean((0, 1, 3))[None, None].expand(3, 4, 5)
    torch.testing.assert_close(pulls.mean(3), expected)
    torch.testing.assert_close(pulls.diff(dim=3), corr.diff(dim=3), atol=1e-6, rtol=0)


def test_opposite_codes_count_nothing_under_the_zero_clamp_and_something_without() -> None:
    features, code = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, -1.0]])
    assert compare(plain(self_shift=0.5), features, code).losses[0].item() == pytest.approx(-0.25)
    # without it, the two opposite pairs add -(-1 * (0 - 0.5)) = -0.5 each
    assert compare(plain(self_shift=0.5, zero_clamp=False), features, code).losses[0].item() == pytest.approx(-0.5)


def test_stabilised_similarities_stop_at_four_fifths_and_get_no_gradient() -> None:
    features = torch.ones(1, 2)
    code = torch.tensor([[1.0, 1.0], [0.0, 0.1]], requires_grad=True)
    found = compare(plain(stabilise=True, self_shift=0), features, code)
    assert found.losses[0].item() == pytest.approx(-0.8)
    (gradient,) = torch.autograd.grad(found.losses[0], code)
    assert torch.equal(gradient, torch.zeros_like(code))


def random_case(seed: int, batch: int = 3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(batch, channels, 5, 6, generator=generator) for channels in (8, 8, 4, 4)]
    coords = torch.rand(2, batch, 3, 3, 2, generator=generator) * 2 - 1
    negatives = torch.randint(batch, (2, batch), generator=generator)
    return (*maps, coords, negatives)


def losses(config: LossConfig, case: tuple[torch.Tensor, ...]) -> Correspondence:
    features, neighbor_features, code, neighbor_code, coords, negatives = case
    return correspondence(
        config,
        Compared(map_source(features), map_source(code)),
        Compared(map_source(neighbor_features), map_source(neighbor_code)),
        (coords[0], coords[1]),
        negatives,
    )


@given(st.integers(0, 30), st.booleans(), st.floats(-1, 1), st.floats(0, 1))
def test_a_larger_shift_never_lowers_the_loss(seed: int, pointwise: bool, shift: float, more: float) -> None:
    """With the zero clamp no pair counts negatively, so taking more off its pull cannot help it."""
    case = random_case(seed)
    low, high = (
        losses(plain(pointwise=pointwise, self_shift=b, knn_shift=b, random_shift=b), case).losses
        for b in (shift, shift + more)
    )
    assert (high >= low - 1e-6).all()


@given(st.integers(0, 30))
def test_only_directions_of_codes_and_features_count(seed: int) -> None:
    case = random_case(seed)
    found = losses(LossConfig(), case)
    scaled = losses(LossConfig(), (*(each * 7 for each in case[:4]), *case[4:]))
    torch.testing.assert_close(found.losses, scaled.losses, atol=1e-5, rtol=0)


def test_gradients_reach_codes_and_never_features() -> None:
    case = random_case(0)
    leaves = [each.clone().requires_grad_() for each in case[:4]]
    losses(LossConfig(), (*leaves, *case[4:])).losses.sum().backward()
    assert [each.grad is None for each in leaves] == [True, True, False, False]
    assert all(each.grad.abs().sum() > 0 for each in leaves[2:])


def test_each_loss_steers_only_the_codes_that_it_compares() -> None:
    case = random_case(0)
    code, neighbor = (each.clone().requires_grad_() for each in case[2:4])
    found = losses(LossConfig(), (*case[:2], code, neighbor, *case[4:])).terms()
    for name, reaches_neighbor in (("self", False), ("knn", True), ("random", False)):
        gradients = torch.autograd.grad(found[name], (code, neighbor), retain_graph=True, materialize_grads=True)
        assert gradients[0].abs().sum() > 0
        assert (gradients[1].abs().sum() > 0) == reaches_neighbor, name
    assert not found["self_corr"].requires_grad


def test_following_the_gradient_brings_similar_positions_together() -> None:
    """Two kinds of features: descent makes codes of one kind alike and of different kinds unlike."""
    kinds = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])[None, :, None, :]
    code = torch.randn(1, 3, 1, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    coords = torch.zeros(1, 1, 4, 2)
    coords[0, 0, :, 0] = torch.tensor([-1, -1 / 3, 1 / 3, 1])
    optimizer = torch.optim.Adam([code], lr=0.05)
    config = plain(self_shift=0.3, knn_shift=0.3, random_shift=0.3, zero_clamp=False)
    for _ in range(200):
        compared = Compared(map_source(kinds), map_source(code))
        found = correspondence(config, compared, compared, (coords, coords), torch.zeros(1, 1, dtype=torch.int64))
        optimizer.zero_grad()
        found.losses.sum().backward()
        optimizer.step()
    vectors = code.detach()[0, :, 0].T[None]
    similar = feature_correspondence(vectors, vectors)[0]
    assert similar[:2, :2].min() > 0.95
    assert similar[2:, 2:].min() > 0.95
    assert similar[:2, 2:].max() < 0.1


def test_zero_vectors_are_similar_to_nothing() -> None:
    vectors = torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])
    assert feature_correspondence(vectors, vectors)[0].tolist() == [[0.0, 0.0], [0.0, pytest.approx(1.0)]]
