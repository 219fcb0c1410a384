"""Golden cases `head`: the projection, and the whole evaluation forward from image to predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stego_cli.checkpoints.vit_sizes import vit_sizes
from stego_cli.config.model import DinoConfig, LabelSpace, ModelConfig, StegoConfig, VitConfig
from stego_cli.methods.stego.head import StegoHead
from stego_cli.segmenter import Segmenter

HEAD_KEYS = {"cluster1_0": "linear", "cluster2_0": "hidden", "cluster2_2": "output"}


@pytest.fixture(scope="module")
def folder(golden: Path) -> Path:
    return golden / "stego" / "head"


def projection(folder: Path, kind: str, dropout: float = 0.0) -> tuple[StegoHead, Any]:
    facts = json.loads((folder / "projection.json").read_text())
    arrays = np.load(folder / "projection.npz")
    head = StegoHead(StegoConfig(code_dim=facts["code_dim"], projection=kind, dropout=dropout), facts["feat_channels"])
    state = {
        f"{ours}.{part}": torch.from_numpy(arrays[f"{theirs}_{part}"])
        for theirs, ours in HEAD_KEYS.items()
        for part in ("weight", "bias")
    }
    head.load_state_dict({key: value for key, value in state.items() if key in head.state_dict()})
    return head, arrays


@pytest.mark.parametrize("kind", ["linear", "nonlinear"])
def test_projection(folder: Path, kind: str) -> None:
    head, arrays = projection(folder, kind)
    code = head.eval()(torch.from_numpy(arrays["feats"]))
    np.testing.assert_allclose(code.detach().numpy(), arrays[f"code_{kind}"], atol=5e-5, rtol=0)


def test_projection_with_recorded_dropout(folder: Path) -> None:
    """Each projection sees its own mask, the linear one's drawn first."""
    head, arrays = projection(folder, "nonlinear")
    given = iter(torch.from_numpy(arrays[f"drop_mask_cluster{i}"])[:, :, None, None] for i in (1, 2))
    head.dropout.forward = lambda features: features * next(given)
    code = head.train()(torch.from_numpy(arrays["feats"]))
    np.testing.assert_allclose(code.detach().numpy(), arrays["drop_code"], atol=5e-5, rtol=0)


def segmenter(folder: Path, index: int) -> tuple[Segmenter, dict[str, Any]]:
    facts = json.loads((folder / f"eval_forward_{index}.json").read_text())
    network = load_file(folder.parent / facts["backbone_weights"])
    told = json.loads((folder.parent / "vit" / f"{facts['arch']}.json").read_text())["arch"]
    sizes = vit_sizes(network, told["num_heads"]).model_copy(update={"norm_eps": told["ln_eps"]})
    names = tuple(f"class {i}" for i in range(facts["n_classes"]))
    config = ModelConfig(
        backbone=VitConfig(name="custom", feature_type=facts["feat_type"], architecture=sizes),
        method=(
            StegoConfig(code_dim=facts["dim"], projection=facts["projection"]) if facts["projection"] else DinoConfig()
        ),
        num_clusters=facts["n_classes"] + facts["extra_clusters"],
        label_space=LabelSpace(name="golden", names=names, colours=((0, 0, 0),) * len(names)),
        alpha=facts["alpha"],
    )
    model = Segmenter(config)
    state = {f"backbone.network.{key}": value for key, value in network.items()}
    for key, value in load_file(folder / f"eval_forward_{index}.safetensors").items():
        state |= _ours(key, value)
    model.load_state_dict(state)
    return model.eval(), facts


def _ours(key: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    """Translate one key of the reference's checkpoints."""
    for theirs, ours in {
        "net.cluster1.0": "head.linear",
        "net.cluster2.0": "head.hidden",
        "net.cluster2.2": "head.output",
        "cluster_probe.clusters": "cluster_probe.centroids",
    }.items():
        if key.startswith(theirs):
            return {key.replace(theirs, ours): value}
    return {key: value.flatten(1) if key == "linear_probe.weight" else value}


def indices(folder: Path) -> list[int]:
    return sorted(int(path.stem.rsplit("_", 1)[1]) for path in folder.glob("eval_forward_*.json"))


def test_evaluation_forward(folder: Path, whole_set: bool) -> None:
    if not indices(folder) and not whole_set:
        pytest.skip("this case does not travel with the project, for its size")
    assert indices(folder)
    for index in indices(folder):
        model, facts = segmenter(folder, index)
        expected = np.load(folder / f"eval_forward_{index}.npz")
        image = torch.from_numpy(expected["image"])
        with torch.no_grad():
            np.testing.assert_allclose(model.code(image), expected["code1"], atol=5e-5, rtol=0)
            code = model.code(image, mirror=True)
            np.testing.assert_allclose(code, expected["code"], atol=5e-5, rtol=0)
            for number, size in enumerate(facts["labels"]):
                for probe in ("cluster", "linear"):
                    log_probs = model.log_probs(code, probe, tuple(size))
                    key = f"{probe}_log_probs_{number}"
                    np.testing.assert_allclose(log_probs, expected[key], atol=5e-5, rtol=0, err_msg=key)
                    predictions = log_probs.argmax(1)
                    np.testing.assert_array_equal(predictions, expected[f"{probe}_pred_{number}"])
                    validation = model.log_probs(model.code(image), probe, tuple(size)).argmax(1)
                    np.testing.assert_array_equal(validation, expected[f"val_{probe}_pred_{number}"])
