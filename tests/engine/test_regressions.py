"""What once went wrong in whole runs, each with the case that showed it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stego_cli.checkpoints.native import Checkpoint, load_checkpoint
from stego_cli.config.fit import FitConfig
from stego_cli.config.load import load_config
from stego_cli.config.predict import PredictConfig
from stego_cli.engine import segmenting
from stego_cli.engine.fit_model import fit_model
from stego_cli.engine.predict import PredictResult, predict_folder
from stego_cli.engine.workplace import workplace
from stego_cli.errors import CheckpointError, ConfigError, OutputError, ShapeError
from stego_cli.progress import Silence
from stego_cli.segmenter import Segmenter
from support import Heard

Predict = Callable[..., PredictResult]


def picture(path: Path, height: int = 40, width: int = 56, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def predict(tiny_model: Path, tmp_path: Path) -> Predict:
    def run(*paths: Path, **options: Any) -> PredictResult:
        given = {"model": str(tiny_model), "out": tmp_path / "out", "workers": 0} | options
        return predict_folder(load_config(PredictConfig, options=given), list(paths), Silence())

    return run


def test_a_paper_crop_in_broken_patches_is_refused_before_anything_is_written(predict: Predict, tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png")
    with pytest.raises(ShapeError, match="use 96 or 104"):
        predict(image, protocol="paper", resolution=100)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ShapeError, match="use 8$"):
        predict(image, protocol="paper", resolution=1)
    assert predict(image, protocol="paper", resolution=96).done == 1


def test_settings_with_which_nothing_was_finished_do_not_bind_the_folder(predict: Predict, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    assert predict(tmp_path / "empty.png", resolution=64).done == 0
    assert predict(picture(tmp_path / "a.png"), resolution=32).done == 1


def test_a_working_size_of_one_is_not_called_yes(predict: Predict, tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png")
    predict(image, resolution=32)
    with pytest.raises(OutputError, match="resolution: 32 there, 1 now"):
        predict(image, resolution=1)


@pytest.mark.parametrize("name", ["labels/a.png", "overlays/a.jpg", "index.html"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_work_that_is_not_ours_is_never_replaced_unasked(
    predict: Predict, tmp_path: Path, tiny_model: Path, name: str, dry_run: bool
) -> None:
    image = picture(tmp_path / "set" / "imgs" / "a.png")
    by_hand = tmp_path / "set" / name
    by_hand.parent.mkdir(exist_ok=True)
    by_hand.write_bytes(b"drawn by hand")
    config = load_config(PredictConfig, options={"model": str(tiny_model), "out": tmp_path / "set"})
    with pytest.raises(OutputError, match=r"would be replaced.*\n\nhint: .*--overwrite"):
        predict_folder(config, [image.parent], Silence(), dry_run=dry_run)
    assert by_hand.read_bytes() == b"drawn by hand"
    assert predict(image.parent, out=tmp_path / "set", overwrite=True).done == 1


def test_a_folder_that_is_input_and_output_does_not_eat_its_own_masks(predict: Predict, tmp_path: Path) -> None:
    picture(tmp_path / "imgs" / "a.png")
    for done, skipped in ((1, 0), (0, 1)):
        result = predict(tmp_path / "imgs", out=tmp_path / "imgs")
        assert (result.done, result.skipped, result.failed) == (done, skipped, [])


def test_two_runs_never_work_in_one_folder(predict: Predict, tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png")
    with workplace(tmp_path / "out"), pytest.raises(OutputError, match="another run is writing to"):
        predict(image)
    assert predict(image).done == 1


def test_what_a_killed_run_left_half_written_is_swept_away(predict: Predict, tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png")
    predict(image)
    left = [tmp_path / "out" / ".writing-1", tmp_path / "out" / "labels" / "deep" / ".writing-2"]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    (tmp_path / "out" / ".predictions.journal").touch()
    assert predict(image).skipped == 1
    assert not any(path.exists() for path in left)


def test_a_name_that_gets_too_long_costs_only_its_own_image(predict: Predict, tmp_path: Path) -> None:
    folder = tmp_path / "imgs"
    picture(folder / "b.png")
    for suffix in (".png", ".bmp"):  # both would be the same mask, so both keep their suffix: 4 characters too many
        picture(folder / ("x" * 250 + suffix))
    result = predict(folder)
    assert result.done == 1
    assert len(result.failed) == 2
    assert all("the name is too long" in reason for _, reason in result.failed)


def test_memory_that_runs_out_while_reading_costs_only_one_image(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = segmenting.apply

    def apply(view: Any, pixels: Any) -> Any:
        if view.input_width == 90:
            raise MemoryError
        return original(view, pixels)

    monkeypatch.setattr(segmenting, "apply", apply)
    result = predict(picture(tmp_path / "wide.png", width=90), picture(tmp_path / "a.png"))
    assert result.done == 1
    assert [reason for _, reason in result.failed] == [
        "there is not enough memory to work on it at 32x72\n\nhint: try a smaller --res"
    ]


def test_memory_that_runs_out_while_writing_costs_only_one_image(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = segmenting.write_outputs

    def write(out: Path, outputs: Any, pixels: Any, *rest: Any) -> None:
        if pixels.shape[1] == 90:
            raise MemoryError
        original(out, outputs, pixels, *rest)

    monkeypatch.setattr(segmenting, "write_outputs", write)
    result = predict(picture(tmp_path / "wide.png", width=90), picture(tmp_path / "a.png"))
    assert (result.done, len(result.failed)) == (1, 1)


def test_a_model_whose_weights_are_no_numbers_is_refused(tiny_model: Path) -> None:
    sound = load_checkpoint(tiny_model)
    broken = sound.tensors | {
        "cluster_probe.centroids": torch.full_like(sound.tensors["cluster_probe.centroids"], torch.nan)
    }
    with pytest.raises(CheckpointError, match=r"`cluster_probe.centroids` .* not finite"):
        Segmenter.from_checkpoint(Checkpoint(sound.config, broken))


def test_fit_names_what_it_skipped_in_one_line_each(tmp_path: Path) -> None:
    for seed in range(2):
        picture(tmp_path / "photos" / f"{seed}.png", seed=seed)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8")
    heard = Heard()
    options = {"dataset": str(tmp_path / "photos"), "classes": 2, "resolution": 32, "out": tmp_path / "m.safetensors"}
    fitted = fit_model(load_config(FitConfig, options=options), heard)
    assert fitted.skipped == tuple(heard.warnings)
    assert len(fitted.skipped) == 1
    assert "broken.jpg" in fitted.skipped[0]
    assert "\n" not in fitted.skipped[0]
    assert json.loads(json.dumps(fitted.to_json()))["skipped"] == list(fitted.skipped)


def test_fit_says_when_no_label_could_be_used(tmp_path: Path) -> None:
    picture(tmp_path / "set" / "imgs" / "a.png")
    (tmp_path / "set" / "labels").mkdir()
    Image.fromarray(np.full((40, 56), 255, np.uint8)).save(tmp_path / "set" / "labels" / "a.png")
    heard = Heard()
    options = {"dataset": str(tmp_path / "set"), "classes": 2, "resolution": 32, "out": tmp_path / "m.safetensors"}
    fitted = fit_model(load_config(FitConfig, options=options), heard)
    assert any("no label was from 0 to 1" in warning for warning in heard.warnings)
    assert fitted.skipped == ()
    assert fitted.checkpoint.config.label_space.name == "2 unnamed classes"


def test_a_seed_beyond_what_generators_take_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="seed"):
        load_config(FitConfig, options={"dataset": "x", "seed": 2**32})
