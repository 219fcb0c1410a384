"""Salience masks beside the images of a folder: found, read, and used to draw positions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stego_cli.config.data import DataConfig
from stego_cli.config.losses import LossConfig
from stego_cli.config.model import FilterbankConfig
from stego_cli.config.train import TrainConfig
from stego_cli.data.datasets.build import open_dataset
from stego_cli.data.datasets.folder import folder_samples
from stego_cli.engine.train.plan import plan_training
from stego_cli.engine.train.ranks import Ranks
from stego_cli.engine.train.run import train_model
from stego_cli.engine.train.setup import make_plan, make_yardstick
from stego_cli.errors import ConfigError, ImageError, StegoError
from stego_cli.methods.stego.salience import salient_coords
from stego_cli.progress import Silence
from support import Heard

SIZE = (40, 48)
SALIENT = {"use_salience": True}


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Six images; the left quarter of each stands out, save in the last, which has no mask."""
    draw = np.random.default_rng(0)
    root = tmp_path / "data"
    for kind in ("imgs", "salience"):
        (root / kind / "train").mkdir(parents=True)
    mask = np.zeros(SIZE, np.uint8)
    mask[:, : SIZE[1] // 4] = 200
    for number in range(6):
        pixels = draw.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "imgs" / "train" / f"{number}.jpg")
        if number < 5:
            Image.fromarray(mask).save(root / "salience" / "train" / f"{number}.png")
    return root


def config_for(root: Path, **changes: Any) -> TrainConfig:
    usual: dict[str, Any] = {
        "backbone": FilterbankConfig(),
        "method": {"kind": "stego", "code_dim": 6},
        "resolution": 32,
        "eval_resolution": 32,
        "loader_crop": "squash",
        "workers": 0,
        "device": "cpu",
        "batch_size": 3,
        "steps": 4,
        "classes": 2,
        "features": "memory",
        "loss": SALIENT,
    }
    return TrainConfig(**{**usual, "dataset": str(root), **changes})


def supply_for(root: Path, report: Any = None) -> Any:
    report = report or Silence()
    return make_yardstick(make_plan(config_for(root), report), Ranks(torch.device("cpu")), report)[0].supply


def test_masks_belong_to_images_by_their_name_and_are_no_images(tmp_path: Path, dataset: Path) -> None:
    found = folder_samples(dataset, "train").samples
    assert [sample.salience and sample.salience.name for sample in found] == [
        *(f"{number}.png" for number in range(5)),
        None,
    ]
    (tmp_path / "bare" / "salience").mkdir(parents=True)
    for name in ("a.png", "salience/a.png"):
        Image.new("L", (4, 4)).save(tmp_path / "bare" / name)
    (sample,) = folder_samples(tmp_path / "bare", "train").samples
    assert sample.name == "a.png"
    assert sample.salience == tmp_path / "bare" / "salience" / "a.png"
    assert sample.label is None


def test_whatever_is_not_zero_stands_out(dataset: Path) -> None:
    Image.fromarray(np.array([[0, 1], [255, 0]], np.uint8)).save(dataset / "salience" / "train" / "0.png")
    opened = open_dataset(DataConfig(dataset=str(dataset)), "train")
    mask = opened.salience(0, (2, 2))
    assert mask is not None
    assert mask.tolist() == [[False, True], [True, False]]
    assert opened.salience(5, SIZE) is None
    with pytest.raises(ImageError, match=r"salience mask of `0.jpg` is 2x2 .* its image 40x48"):
        opened.salience(0, SIZE)


def test_a_mask_in_a_format_that_changes_values_is_refused(dataset: Path) -> None:
    Image.new("L", (48, 40)).save(dataset / "salience" / "train" / "5.jpg")
    with pytest.raises(StegoError, match="salience mask .*5.jpg"):
        folder_samples(dataset, "train")


def test_steps_are_given_the_masks_of_images_and_neighbours(dataset: Path) -> None:
    heard = Heard()
    supply = supply_for(dataset, heard)
    assert any("1 of 6 images have no salience mask" in note for note in heard.notes)
    for number in range(4):
        step = supply.given(supply.prepare(number), torch.device("cpu"))
        images = supply.images(number)
        partners = supply.sampler.partners(0, number, images)
        for masks, whose in ((step.salience, images), (step.neighbor_salience, partners)):
            assert masks.shape == (3, 32, 32)
            for mask, image in zip(masks, whose, strict=True):
                assert int(mask[:, :8].sum()) == (0 if image == 5 else 32 * 8)
                assert not mask[:, 8:].any()


def test_positions_are_drawn_from_the_masks(dataset: Path) -> None:
    """The square is the squashed image, so what stands out is the left quarter of the feature map."""
    supply = supply_for(dataset)
    masks = torch.from_numpy(supply.salience.read(np.array([0, 1])))
    places = salient_coords(masks, torch.rand(2, 50, 2, generator=torch.Generator().manual_seed(0)), (4, 4), "native")
    x = (places[..., 0] + 1) / 2 * 3  # columns of the map, from 0 to 3
    assert float(x.max()) <= 0.5  # the first column's cell ends half a cell right of its centre


def test_masks_change_what_is_learned(dataset: Path) -> None:
    salient = train_model(config_for(dataset, out="a.safetensors"), Silence())
    again = train_model(config_for(dataset, out="b.safetensors", workers=2), Silence())
    evenly = train_model(config_for(dataset, out="c.safetensors", loss=LossConfig()), Silence())
    assert salient.model.read_bytes() == again.model.read_bytes()
    assert salient.model.read_bytes() != evenly.model.read_bytes()


def test_without_any_mask_it_is_refused_and_says_where_they_belong(dataset: Path) -> None:
    for path in (dataset / "salience" / "train").iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match=r"there are none\n\nhint: .*`salience/` beside `imgs/`"):
        train_model(config_for(dataset), Silence())


def test_a_mask_that_cannot_be_used_is_named_and_its_image_stays(dataset: Path) -> None:
    Image.new("L", (4, 4)).save(dataset / "salience" / "train" / "2.png")
    heard = Heard()
    result = train_model(config_for(dataset), heard)
    assert [line for line in heard.warnings if "2.jpg counts as without salience" in line]
    assert len(result.skipped) == 1
    assert result.best.progress.step == 4


def test_a_dry_run_times_such_steps(dataset: Path) -> None:
    assert plan_training(config_for(dataset), Silence()).step_seconds > 0
