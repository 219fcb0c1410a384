"""Head and loss together: what each term needs, what it reaches, and in which precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stego_cli.config.losses import LossConfig
from stego_cli.config.model import StegoConfig
from stego_cli.methods.dino.head import Dino
from stego_cli.methods.stego.draws import NO_DROP, draw_step, plan_draws
from stego_cli.methods.stego.head import StegoHead
from stego_cli.methods.stego.objective import Objective, StegoObjective, project
from stego_cli.methods.stego.step import StepInput

CHANNELS, CLASSES = 12, 4
EVERYTHING = {"rec_weight": 0.3, "aug_weight": 0.5, "crf_weight": 0.4, "feature_samples": 3}


def objective(dropout: float = 0.0, head: str = "nonlinear", **settings: object) -> StegoObjective:
    torch.manual_seed(0)
    config = LossConfig(**({"feature_samples": 3} | settings))
    method = StegoHead(StegoConfig(code_dim=5, projection=head, dropout=dropout), CHANNELS)
    return StegoObjective(config, method, CHANNELS, CLASSES)


def step_for(model: StegoObjective, batch: int = 3, dropout: float = 0.0) -> StepInput:
    generator = torch.Generator().manual_seed(1)

    def maps(channels: int, *size: int) -> torch.Tensor:
        return torch.randn(batch, channels, *size, generator=generator)

    return StepInput(
        features=maps(CHANNELS, 5, 6),
        neighbor_features=maps(CHANNELS, 5, 6),
        augmented_features=maps(CHANNELS, 5, 5),
        augmented_coords=torch.rand(batch, 20, 20, 2, generator=generator) * 2 - 1,
        images=maps(3, 20, 24),
        labels=torch.randint(-1, CLASSES, (batch, 20, 24), generator=generator),
        neighbor_labels=torch.randint(-1, CLASSES, (batch, 20, 24), generator=generator),
        salience=maps(1, 20, 24)[:, 0] > 1,
        neighbor_salience=maps(1, 20, 24)[:, 0] > 1,
        draws=draw_step(plan_draws(model.config, dropout, batch, CHANNELS), seed=0, step=0),
    )


def run(model: StegoObjective, **changes: object) -> Objective:
    return model(replace(step_for(model), **changes))


def test_the_whole_loss_is_one_graph() -> None:
    """Whatever has to wait for a value of the device would break the graph, and `fullgraph` forbids that."""
    model = objective(dropout=0.1, **EVERYTHING, use_salience=True)
    step = step_for(model, dropout=0.1)
    found = torch.compile(model, backend="eager", fullgraph=True)(step)
    torch.testing.assert_close(found.terms, model(step).terms)


@pytest.mark.parametrize("kind", ["linear", "nonlinear"])
def test_without_masks_the_projection_is_the_head_itself(kind: str) -> None:
    head = objective(head=kind).head.eval()
    features = torch.randn(2, CHANNELS, 4, 3)
    torch.testing.assert_close(project(head, features, NO_DROP), head.code(features))


def test_each_use_of_the_features_has_its_own_mask() -> None:
    model = objective(dropout=0.5)
    masks = draw_step(plan_draws(model.config, 0.5, 2, CHANNELS), 0, 0).image
    features, head = torch.randn(2, CHANNELS, 4, 3), model.head
    by_hand = head.linear(features * masks.linear[:, :, None, None]) + head.output(
        torch.relu(head.hidden(features * masks.hidden[:, :, None, None]))
    )
    torch.testing.assert_close(project(head, features, masks), by_hand)


def test_compared_features_are_dropped_out_too_unless_told_otherwise() -> None:
    found = []
    for drop_features in (True, False):
        model = objective(dropout=0.5, drop_features=drop_features)
        step = step_for(model, dropout=0.5)
        whole = replace(step, draws=replace(step.draws, image=replace(step.draws.image, features=None)))
        found.append((model(step).terms["self"], model(whole).terms["self"]))
    assert found[0][0] != found[0][1]
    assert found[1][0] == found[1][1] == found[0][1]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("salience", [True, False])
def test_small_batches(batch: int, salience: bool) -> None:
    model = objective(**EVERYTHING, use_salience=salience)
    found = model(step_for(model, batch))
    found.loss.backward()
    assert found.terms.keys() >= {"self", "knn", "random", "rec", "aug", "crf"}
    assert all(each.grad.isfinite().all() for each in model.parameters())


def test_the_loss_is_the_weighted_sum_of_its_terms() -> None:
    model = objective(**EVERYTHING, correspondence_weight=0.7, self_weight=0.2, knn_weight=0.3, random_weight=0.4)
    found = run(model)
    t = found.terms
    expected = 0.7 * (0.2 * t["self"] + 0.3 * t["knn"] + 0.4 * t["random"]) + 0.3 * t["rec"] + 0.5 * t["aug"]
    torch.testing.assert_close(found.loss, expected + 0.4 * t["crf"])


def test_without_correspondence_no_neighbour_is_needed() -> None:
    found = run(objective(correspondence_weight=0, rec_weight=1), neighbor_features=None)
    assert set(found.terms) == {"rec"}
    assert found.loss.item() == found.terms["rec"].item()


def test_without_any_term_the_loss_is_zero() -> None:
    found = run(objective(correspondence_weight=0), neighbor_features=None)
    assert found.loss.item() == 0
    assert found.code.shape == (3, 5, 5, 6)


NEEDS = {
    "neighbor_features": {},
    "images": {"crf_weight": 1},
    "augmented_coords": {"aug_weight": 1},
    "augmented_features": {"aug_weight": 1},
    "salience": {"use_salience": True},
    "neighbor_salience": {"use_salience": True},
    "neighbor_labels": {"use_true_labels": True},
}


@pytest.mark.parametrize("missing", NEEDS)
def test_a_term_without_what_it_needs_says_so(missing: str) -> None:
    with pytest.raises(ValueError, match="needs"):
        run(objective(**NEEDS[missing]), **{missing: None})


def test_the_decoder_is_there_only_if_it_has_weight() -> None:
    assert objective().decoder is None
    assert objective(rec_weight=1).decoder is not None


def test_true_labels_replace_features_in_the_comparison() -> None:
    model = objective(use_true_labels=True)
    first = run(model).terms
    step = step_for(model)
    head_only = {
        name: run(model, labels=labels).terms["self"]
        for name, labels in (
            ("swapped", torch.where(step.labels == 0, 1, torch.where(step.labels == 1, 0, step.labels))),
            ("merged", step.labels.clamp(max=0)),
        )
    }
    torch.testing.assert_close(head_only["swapped"], first["self"])  # names of classes do not matter, groups do
    assert head_only["merged"] != first["self"]


def test_one_class_everywhere_pulls_all_codes_together() -> None:
    model = objective(use_true_labels=True, pointwise=False, zero_clamp=False, self_shift=0.25)
    found = run(model, labels=torch.zeros(3, 20, 24, dtype=torch.int64))
    assert found.terms["self"].item() == pytest.approx(-0.75 * found.terms["self_corr"].item(), abs=1e-6)


def test_a_method_without_parameters_is_compared_all_the_same() -> None:
    baseline = StegoObjective(LossConfig(feature_samples=3), Dino(CHANNELS), CHANNELS)
    step = step_for(baseline)
    found = baseline(step)
    assert list(baseline.parameters()) == []
    assert torch.equal(found.code, step.features)
    assert set(found.terms) >= {"self", "knn", "random"}


def test_half_precision_features_outside_autocast_are_computed_in_float32() -> None:
    model = objective()
    step = step_for(model)
    half = replace(step, features=step.features.half(), neighbor_features=step.neighbor_features.half())
    found = model(half)
    assert found.code.dtype == found.loss.dtype == torch.float32
    torch.testing.assert_close(found.loss, model(step).loss, atol=2e-3, rtol=0)


def test_autocast_reaches_the_head_and_not_the_loss() -> None:
    model = objective(**EVERYTHING)
    step = step_for(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert project(model.head, step.features, NO_DROP).dtype == torch.bfloat16
        found = model(step)
    assert {found.loss.dtype, *(term.dtype for term in found.terms.values())} == {torch.float32}
    torch.testing.assert_close(found.loss, model(step).loss, atol=0.02, rtol=0)


def test_similarities_are_those_that_the_loss_sees_when_nothing_is_dropped() -> None:
    model = objective()
    found = model.similarities(step_for(model))
    terms = run(model).terms
    assert set(found) == {"self", "knn", "random"}
    for kind, comparisons in (("self", 1), ("knn", 1), ("random", model.config.negative_samples)):
        features, codes = found[kind]
        assert features.shape == codes.shape == (3, 9, comparisons, 9)
        assert not codes.requires_grad
        assert float(features.abs().max()) <= 1 + 1e-6
        torch.testing.assert_close(codes.mean(), terms[f"{kind}_corr"])
    diagonal = found["self"][0][:, :, 0].diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(diagonal, torch.ones(3, 9))  # every position is like itself


def test_similarities_do_not_depend_on_what_was_dropped() -> None:
    model = objective(dropout=0.5)
    one, other = (model.similarities(step_for(model, dropout=chance)) for chance in (0.0, 0.5))
    torch.testing.assert_close(one, other)


def test_without_pairs_there_are_no_similarities() -> None:
    model = objective(correspondence_weight=0.0)
    assert model.similarities(step_for(model)) == {}
