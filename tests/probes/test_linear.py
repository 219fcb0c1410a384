"""The linear probe and its fit."""

from __future__ import annotations

import pytest
import torch

from stego_cli.errors import ShapeError, StegoError
from stego_cli.probes.linear import LinearProbe, fit_linear_probe


def blobs(classes: int, dim: int, per_class: int = 200, spread: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    """Points around well separated centres, channels in very different ranges, and their labels."""
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.eye(classes, dim)
    labels = torch.arange(classes).repeat_interleave(per_class)
    points = centres[labels] + spread * torch.randn(len(labels), dim, generator=generator)
    return points * torch.logspace(-2, 2, dim) + 5, labels


def predict(probe: LinearProbe, points: torch.Tensor) -> torch.Tensor:
    return probe.logits(points[:, :, None, None]).argmax(dim=1).flatten()


def test_logits_by_hand():
    probe = LinearProbe(2, 2)
    probe.load_state_dict({"weight": torch.tensor([[1.0, 2.0], [0.0, -1.0]]), "bias": torch.tensor([0.5, 0.0])})
    logits = probe.logits(torch.tensor([3.0, 4.0])[None, :, None, None])
    assert logits.flatten().tolist() == [11.5, -4.0]


def test_log_probabilities_sum_to_one_at_every_position():
    probe = LinearProbe(3, 4)
    torch.nn.init.normal_(probe.weight, generator=torch.Generator().manual_seed(1))
    total = probe.log_probs(torch.randn(2, 4, 3, 5)).exp().sum(dim=1)
    torch.testing.assert_close(total, torch.ones(2, 3, 5))


def test_the_fit_separates_what_is_separable_whatever_the_ranges():
    points, labels = blobs(4, 6)
    assert (predict(fit_linear_probe(points, labels, 4), points) == labels).float().mean() > 0.995


def test_the_fit_finds_the_log_odds_of_a_known_model():
    """With two classes at -1 and +1 and unit deviation, the log-odds are 2 x."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(2).repeat(100_000)
    points = (2.0 * labels - 1 + torch.randn(len(labels), generator=generator))[:, None]
    probe = fit_linear_probe(points, labels, 2, weight_decay=0)
    assert (probe.weight[1] - probe.weight[0]).item() == pytest.approx(2, abs=0.03)
    assert (probe.bias[1] - probe.bias[0]).item() == pytest.approx(0, abs=0.03)


def test_ignored_points_change_nothing():
    points, labels = blobs(3, 4)
    junk = torch.full((50, 4), 1000.0)
    more = torch.cat([points, junk]), torch.cat([labels, torch.tensor([-1, 3, 255, -1, 7]).repeat(10)])
    with_junk, without = fit_linear_probe(*more, 3), fit_linear_probe(points, labels, 3)
    assert torch.equal(with_junk.weight, without.weight)
    assert torch.equal(with_junk.bias, without.bias)


def test_a_class_without_points_is_never_predicted():
    points, labels = blobs(3, 4)
    probe = fit_linear_probe(points[labels != 1], labels[labels != 1], 3)
    assert not bool((predict(probe, points[labels != 1]) == 1).any())


def test_a_constant_channel_does_no_harm():
    points, labels = blobs(3, 4)
    points[:, 2] = 8.0
    probe = fit_linear_probe(points, labels, 3)
    assert bool(torch.isfinite(probe.weight).all())


def test_the_fit_works_where_gradients_are_off():
    points, labels = blobs(2, 3)
    with torch.no_grad():
        probe = fit_linear_probe(points, labels, 2)
    assert (predict(probe, points) == labels).all()


def test_no_usable_label_is_said_in_words():
    with pytest.raises(StegoError, match="no point has a label between 0 and 4"):
        fit_linear_probe(torch.randn(6, 2), torch.full((6,), -1), 5)


def test_labels_of_another_length_are_refused():
    with pytest.raises(ShapeError):
        fit_linear_probe(torch.randn(6, 2), torch.zeros(5), 2)
