"""One update of everything that learns: what reaches what, what may be missing, and what happens when it breaks."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from stego_cli.config.losses import LossConfig, OptimiserConfig
from stego_cli.config.model import DinoConfig, MethodConfig, StegoConfig
from stego_cli.engine.train.step import Sealed, TrainState, build_train_state, reset_probes, train_step
from stego_cli.methods.stego.draws import draw_step, plan_draws
from stego_cli.methods.stego.step import StepInput

CHANNELS, CLASSES = 10, 3
HEAD = StegoConfig(code_dim=6, dropout=0.1)
LOSS = LossConfig(feature_samples=3, negative_samples=2)


def state_for(
    loss: LossConfig = LOSS, head: MethodConfig = HEAD, classes: int | None = CLASSES, seed: int = 0
) -> TrainState:
    return build_train_state(head, loss, OptimiserConfig(), CHANNELS, num_clusters=4, num_classes=classes, seed=seed)


def step_for(number: int, loss: LossConfig = LOSS, batch: int = 3) -> StepInput:
    """Return a batch that depends on the number of the step only: two kinds of places, told apart by features."""
    generator = torch.Generator().manual_seed(1000 + number)
    kinds = torch.randint(0, 2, (2, batch, 4, 5), generator=generator)
    directions = torch.eye(CHANNELS)[:2]
    features = directions[kinds].movedim(-1, 2) + 0.1 * torch.randn(2, batch, CHANNELS, 4, 5, generator=generator)
    return StepInput(
        features=features[0],
        neighbor_features=features[1],
        labels=kinds[0].repeat_interleave(4, 1).repeat_interleave(4, 2),
        draws=draw_step(plan_draws(loss, 0.1, batch, CHANNELS), seed=5, step=number),
    )


def values(state: TrainState) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in state.trainee.named_parameters()}


def changed(before: dict[str, torch.Tensor], state: TrainState) -> set[str]:
    """Return the parts (head, cluster_probe, linear_probe) of which any parameter changed."""
    after = values(state)
    names = (name.removeprefix("objective.") for name in before if not torch.equal(before[name], after[name]))
    return {name.split(".")[0] for name in names}


def test_a_step_updates_everything_and_reports_terms_without_gradient() -> None:
    state = state_for()
    before = values(state)
    terms = train_step(state, step_for(0), 0)
    assert changed(before, state) == {"head", "cluster_probe", "linear_probe"}
    assert set(terms) == {
        *("self", "knn", "random", "self_corr", "knn_corr", "random_corr"),
        *("cluster", "linear", "total"),
    }
    assert not any(term.requires_grad for term in terms.values())
    parts = 0.67 * terms["self"] + 0.25 * terms["knn"] + 0.63 * terms["random"] + terms["cluster"] + terms["linear"]
    torch.testing.assert_close(terms["total"], parts)


def test_a_state_that_was_moved_works_as_before() -> None:
    moved, other = state_for(), state_for()
    assert moved.to(torch.device("cpu")) is moved
    torch.testing.assert_close(train_step(moved, step_for(0), 0), train_step(other, step_for(0), 0))
    elsewhere = state_for().to(torch.device("meta"))
    assert {each.device.type for each in elsewhere.trainee.parameters()} == {"meta"}
    assert elsewhere.first_bad.device.type == "meta"


def test_the_loss_is_one_graph_for_compilers() -> None:
    state = state_for()
    plain = state.trainee(Sealed(step_for(0)))
    counter = CompileCounter()
    compiled = torch.compile(state.trainee, backend=counter, fullgraph=True)
    for number in range(3):
        found = compiled(Sealed(step_for(number)))
        if number == 0:
            torch.testing.assert_close(found, plain)
    assert counter.frame_count == 1


def test_probes_never_steer_the_head() -> None:
    """With the correspondence loss off, only probes are left to learn, and the head stands still."""
    loss = LOSS.model_copy(update={"correspondence_weight": 0.0})
    state = state_for(loss)
    before = values(state)
    terms = train_step(state, replace(step_for(0), neighbor_features=None), 0)
    assert changed(before, state) == {"cluster_probe", "linear_probe"}
    assert set(terms) == {"cluster", "linear", "total"}


def test_the_head_learns_the_same_with_and_without_probes_labels() -> None:
    first, second = state_for(), state_for(classes=None)
    for number in range(3):
        train_step(first, step_for(number), number)
        terms = train_step(second, replace(step_for(number), labels=None), number)
    assert "linear" not in terms
    assert "linear" not in second.optimizers
    for name, value in values(second).items():
        assert torch.equal(value, values(first)[name]), name


def test_a_batch_without_any_label_leaves_the_linear_probe_alone() -> None:
    state = state_for()
    before = values(state)
    step = step_for(0)
    terms = train_step(state, replace(step, labels=torch.full_like(step.labels, -1)), 0)
    assert terms["linear"].item() == 0
    assert terms["total"].isfinite()
    assert changed(before, state) == {"head", "cluster_probe"}
    assert train_step(state, replace(step, labels=None), 1).keys() == terms.keys() - {"linear"}


@pytest.mark.parametrize("batch", [1, 2])
def test_small_batches(batch: int) -> None:
    state = state_for()
    for number in range(3):
        terms = train_step(state, step_for(number, batch=batch), number)
    assert all(term.isfinite() for term in terms.values())
    assert state.bad_step() is None


def test_a_baseline_without_head_trains_its_probes() -> None:
    state = state_for(LOSS.model_copy(update={"correspondence_weight": 0.0}), DinoConfig())
    before = values(state)
    train_step(state, replace(step_for(0), neighbor_features=None), 0)
    assert set(state.optimizers) == {"cluster", "linear"}
    assert changed(before, state) == {"cluster_probe", "linear_probe"}


def test_training_separates_two_kinds_of_places() -> None:
    """Codes of one kind point one way, those of the other elsewhere, and both probes find them."""
    loss = LOSS.model_copy(update={f"{name}_shift": 0.6 for name in ("self", "knn", "random")})
    rates = OptimiserConfig(lr=0.01, probe_lr=0.02)
    state = build_train_state(HEAD, loss, rates, CHANNELS, num_clusters=2, num_classes=2, seed=0)
    for number in range(100):
        terms = train_step(state, step_for(number, loss), number)
    assert terms["linear"] < 0.3
    assert terms["cluster"] < -0.9
    with torch.no_grad():
        kinds = state.trainee.objective.head.eval().code(torch.eye(CHANNELS)[:2, :, None, None])
        assert torch.cosine_similarity(kinds[0, :, 0, 0], kinds[1, :, 0, 0], dim=0) < 0.3
        assert sorted(state.trainee.cluster_probe.inner_products(kinds).argmax(1).flatten().tolist()) == [0, 1]


def test_the_same_seed_gives_the_same_weights() -> None:
    torch.manual_seed(1)
    first = state_for(seed=4)
    torch.manual_seed(2)
    second = state_for(seed=4)
    other = state_for(seed=5)
    assert all(torch.equal(value, values(second)[name]) for name, value in values(first).items())
    assert changed(values(other), first) == {"head", "cluster_probe"}


def test_a_run_taken_up_from_saved_tensors_goes_on_bit_for_bit() -> None:
    """Parameters and optimisers are all there is to save: the draws follow from the number of the step."""
    whole = state_for()
    for number in range(3):
        train_step(whole, step_for(number), number)
    saved = copy.deepcopy(
        (whole.trainee.state_dict(), {name: each.state_dict() for name, each in whole.optimizers.items()})
    )
    for number in range(3, 6):
        train_step(whole, step_for(number), number)
    resumed = state_for(seed=99)
    resumed.trainee.load_state_dict(saved[0])
    for name, optimizer in resumed.optimizers.items():
        optimizer.load_state_dict(saved[1][name])
    for number in range(3, 6):
        train_step(resumed, step_for(number), number)
    for name, value in values(whole).items():
        assert torch.equal(value, values(resumed)[name]), name


def broken(number: int) -> StepInput:
    step = step_for(number)
    features = step.features.clone()
    features[1, 0, 0, 0] = torch.nan
    return replace(step, features=features)


def test_the_first_bad_step_is_named_and_the_last_good_state_kept() -> None:
    state = state_for()
    train_step(state, step_for(0), 0)
    before, moments = values(state), copy.deepcopy(state.optimizers["head"].state_dict())
    for number, step in ((1, broken(1)), (2, step_for(2)), (3, broken(3))):
        train_step(state, step, number)
    assert state.bad_step() == 1
    assert changed(before, state) == set()
    for key, entry in moments["state"].items():
        for name, value in entry.items():
            assert torch.equal(value, state.optimizers["head"].state_dict()["state"][key][name]), name


def test_a_gradient_that_is_no_number_counts_as_bad_though_the_loss_is_fine() -> None:
    def backward(total: torch.Tensor) -> None:
        total.backward()
        state.trainee.cluster_probe.centroids.grad[0, 0] = torch.inf

    state = state_for()
    before = values(state)
    train_step(state, step_for(0), 0, backward)
    assert state.bad_step() == 0
    assert changed(before, state) == set()


def test_under_a_gradient_scaler_only_the_loss_is_watched() -> None:
    def backward(total: torch.Tensor) -> None:
        total.backward()
        for each in state.trainee.parameters():
            each.grad[...] = torch.inf

    state = state_for()
    state.watch_gradients = False
    train_step(state, step_for(0), 0, backward)
    assert state.bad_step() is None
    train_step(state, broken(1), 1, backward)
    assert state.bad_step() == 1


def test_reset_probes_start_anew_from_their_seed() -> None:
    first, second = state_for(), state_for(seed=8)
    for state in (first, second):
        train_step(state, step_for(0), 0)
        before = values(state)
        reset_probes(state, seed=3)
        assert changed(before, state) == {"cluster_probe", "linear_probe"}
        assert not state.optimizers["cluster"].state
        assert state.optimizers["head"].state
    for name in ("centroids",):
        assert torch.equal(getattr(first.trainee.cluster_probe, name), getattr(second.trainee.cluster_probe, name))


def test_wrapped_models_and_optimisers_are_stepped_through_their_wrappers() -> None:
    """What engines for several devices put around both: attributes set on such a wrapper never arrive inside."""

    class Wrapper:
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            self.optimizer = inner
            self.steps = 0

        def zero_grad(self) -> None:
            self.optimizer.zero_grad()

        def step(self) -> None:
            self.steps += 1
            self.optimizer.step()

    state = state_for()
    state.model = torch.nn.Sequential(state.trainee)
    state.optimizers = {name: Wrapper(each) for name, each in state.optimizers.items()}
    before = values(state)
    train_step(state, step_for(0), 0)
    assert changed(before, state) == {"head", "cluster_probe", "linear_probe"}
    assert [each.steps for each in state.optimizers.values()] == [1, 1, 1]
    before = values(state)
    train_step(state, broken(1), 1)
    assert changed(before, state) == set()
