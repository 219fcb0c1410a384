"""Golden case `checkpoint`: a released file, loaded without pickle's powers, predicts what the reference predicts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stego_cli.checkpoints.native import load_checkpoint, save_checkpoint
from stego_cli.checkpoints.released import convert_released
from stego_cli.segmenter import Segmenter


@pytest.mark.parametrize("through", ["theirs", "ours"])
def test_predictions_of_the_released_file(golden: Path, tmp_path: Path, through: str) -> None:
    folder = golden / "stego" / "checkpoint"
    meta, expected = json.loads((folder / "meta.json").read_text()), np.load(folder / "expected.npz")
    checkpoint = convert_released(folder / "stego.ckpt", heads=meta["arch"]["num_heads"])
    if through == "ours":
        save_checkpoint(checkpoint, tmp_path / "ours.safetensors")
        checkpoint = load_checkpoint(tmp_path / "ours.safetensors")
    model = Segmenter.from_checkpoint(checkpoint)
    image = torch.from_numpy(expected["image"])
    with torch.no_grad():
        np.testing.assert_allclose(model.backbone(image), expected["feats"], atol=5e-5, rtol=0)
        straight, code = model.code(image), model.code(image, mirror=True)
        np.testing.assert_allclose(code, expected["code"], atol=5e-5, rtol=0)
        for probe in ("cluster", "linear"):
            log_probs = model.log_probs(code, probe, tuple(expected[f"{probe}_pred"].shape[-2:]), alpha=meta["alpha"])
            stride2 = log_probs[:, :, ::2, ::2]
            np.testing.assert_allclose(stride2, expected[f"{probe}_log_probs_stride2"], atol=1e-5, rtol=0)
            np.testing.assert_array_equal(log_probs.argmax(1), expected[f"{probe}_pred"])
            validation = model.log_probs(straight, probe, tuple(expected[f"{probe}_pred"].shape[-2:]))
            np.testing.assert_array_equal(validation.argmax(1), expected[f"val_{probe}_pred"])
