"""Five training steps against the golden numbers of the reference (README of the set, section 11)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stego_cli.config.losses import CrfLossConfig, LossConfig, OptimiserConfig
from stego_cli.config.model import StegoConfig
from stego_cli.engine.train.step import BETAS, EPSILON, TrainState, build_train_state, train_step
from stego_cli.methods.stego.draws import NO_DROP, DropMasks, StepDraws
from stego_cli.methods.stego.step import StepInput

PARAMETERS = {
    "net.cluster1.0": "objective.head.linear",
    "net.cluster2.0": "objective.head.hidden",
    "net.cluster2.2": "objective.head.output",
    "cluster_probe.clusters": "cluster_probe.centroids",
    "linear_probe": "linear_probe",
    "decoder": "objective.decoder",
}
LOGS = {
    "loss_pos_intra": "self",
    "loss_pos_inter": "knn",
    "loss_neg_inter": "random",
    "cd_pos_intra": "self_corr",
    "cd_pos_inter": "knn_corr",
    "cd_neg_inter": "random_corr",
    "loss_rec": "rec",
    "loss_aug_alignment": "aug",
    "loss_crf": "crf",
    "loss_linear": "linear",
    "loss_cluster": "cluster",
    "loss_total": "total",
}


@pytest.fixture(scope="module")
def folder(golden: Path, whole_set: bool) -> Path:
    folder = golden / "stego" / "training"
    if not folder.is_dir() and not whole_set:
        pytest.skip("the carried part of the golden set has no training")
    return folder


def loss_config(facts: dict) -> LossConfig:
    crf = {name: facts[name] for name in ("alpha", "beta", "gamma", "shift")}
    terms = {"pos_intra": "self", "pos_inter": "knn", "neg_inter": "random"}
    pairs = {
        f"{ours}_{what}": facts[f"{theirs}_{what}"] for theirs, ours in terms.items() for what in ("weight", "shift")
    }
    return LossConfig(
        **pairs,
        correspondence_weight=facts["correspondence_weight"],
        pointwise=facts["pointwise"],
        zero_clamp=facts["zero_clamp"],
        stabilise=facts["stabalize"],
        use_salience=facts["use_salience"],
        feature_samples=facts["feature_samples"],
        negative_samples=facts["neg_samples"],
        drop_features=facts["dropout"],
        rec_weight=facts["rec_weight"],
        aug_weight=facts["aug_alignment_weight"],
        crf_weight=facts["crf_weight"],
        crf=CrfLossConfig(
            **crf, samples=facts["crf_samples"], appearance_weight=facts["w1"], smoothness_weight=facts["w2"]
        ),
        positions="paper",
    )


def state_of(facts: dict) -> TrainState:
    assert (tuple(facts["adam"]["betas"]), facts["adam"]["eps"]) == (BETAS, EPSILON)
    return build_train_state(
        StegoConfig(code_dim=facts["dim"], projection=facts["projection_type"]),
        loss_config(facts),
        OptimiserConfig(lr=facts["lr"], probe_lr=facts["probe_lr"]),
        feature_dim=facts["feat_channels"],
        num_clusters=facts["n_classes"] + facts["extra_clusters"],
        num_classes=facts["n_classes"],
        seed=0,
    )


def parameters(arrays: dict[str, torch.Tensor], prefix: str, step: int | None = None) -> dict[str, torch.Tensor]:
    """Return the set's parameters under our names."""
    found = {}
    for key in (name for name in arrays if name.startswith(prefix)):
        theirs = key.removeprefix(prefix)
        for old, new in PARAMETERS.items():
            theirs = theirs.replace(old, new) if theirs.startswith(old) else theirs
        value = arrays[key] if step is None else arrays[key][step]
        found[theirs] = value.flatten(1) if theirs == "linear_probe.weight" else value
    return found


def masks(arrays: dict[str, torch.Tensor], step: int, first: int) -> DropMasks:
    if "dropout_masks" not in arrays:
        return NO_DROP
    return DropMasks(*arrays["dropout_masks"][step, first : first + 3])


def step_input(arrays: dict[str, torch.Tensor], step: int) -> StepInput:
    def recorded(name: str) -> torch.Tensor | None:
        return arrays[name][step] if name in arrays else None

    return StepInput(
        features=arrays["feats"][step],
        neighbor_features=arrays["feats_pos"][step],
        labels=arrays["label"][step],
        augmented_features=recorded("feats_aug"),
        augmented_coords=recorded("coord_aug"),
        images=recorded("img"),
        draws=StepDraws(
            coords1=arrays["coords1"][step],
            coords2=arrays["coords2"][step],
            negatives=arrays["perms"][step],
            image=masks(arrays, step, 0),
            neighbor=masks(arrays, step, 3),
            crf_cells=recorded("crf_coords"),
        ),
    )


def test_steps_give_the_reference_losses_and_parameters(folder: Path) -> None:
    paths = sorted(folder.glob("*.json"))
    assert paths
    for path in paths:
        facts = json.loads(path.read_text())
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file}
        state = state_of(facts)
        state.model.load_state_dict(
            {key: value for key, value in parameters(arrays, "init__").items() if key in state.model.state_dict()}
        )
        logs = {theirs: ours for theirs, ours in LOGS.items() if f"log__{theirs}" in arrays}
        assert len(logs) == sum(name.startswith("log__") for name in arrays)
        for step in range(facts["steps"]):
            terms = train_step(state, step_input(arrays, step), step)
            assert set(terms) == set(logs.values())
            for theirs, ours in logs.items():
                wanted = arrays[f"log__{theirs}"][step].item()
                assert terms[ours].item() == pytest.approx(wanted, abs=1e-5), (path.stem, step, ours)
            after = parameters(arrays, "after__", step)
            trained = {name for name, _ in state.trainee.named_parameters()}
            assert trained == after.keys() - {
                key.replace("decoder", "objective.decoder") for key in facts["parameters_never_updated"]
            }
            for name, value in state.trainee.named_parameters():
                torch.testing.assert_close(value.detach(), after[name], atol=2e-5, rtol=0, msg=f"{path.stem} {name}")
        assert state.bad_step() is None
