"""What `predictions.json` says, worked by hand."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from stego_cli.catalog.models import ModelChoice
from stego_cli.checkpoints.native import load_checkpoint
from stego_cli.config.crf import CrfParameters
from stego_cli.config.load import load_config
from stego_cli.config.model import LabelSpace
from stego_cli.config.predict import PredictConfig
from stego_cli.engine.content import model_facts, run_content, settings_facts, spaces_facts
from stego_cli.segmenter import Settings

HEADER = {"model": {"name": "m"}, "settings": {}, "label_spaces": {"cluster": {}}}


def record(status: str, height: int = 1, width: int = 1, *notes: str, **shares: float) -> dict[str, Any]:
    """Return what a run remembers of one image."""
    return {"status": status, "height": height, "width": width, "notes": list(notes), "shares": {"cluster": shares}}


FAILED = {"input": "x", "name": "", "status": "failed", "notes": [], "error": "broken"}


def test_the_model_is_named_with_its_figures_and_a_fingerprint_of_its_file(tiny_model: Path) -> None:
    facts = model_facts(ModelChoice("mine", tiny_model, "asked for"), load_checkpoint(tiny_model).config)
    assert (facts["name"], facts["backbone"], facts["method"]) == ("mine", "filterbank", "dino")
    assert hashlib.sha256(tiny_model.read_bytes()).hexdigest().startswith(facts["fingerprint"])
    assert len(facts["fingerprint"]) == 16


def test_the_settings_are_those_that_change_masks() -> None:
    def facts(**options: Any) -> dict[str, Any]:
        config = load_config(PredictConfig, options=options)
        crf = config.crf_parameters if config.crf else None
        return settings_facts(config, Settings(protocol=config.protocol, mirror=config.mirror, crf=crf), 320)

    plain = facts()
    assert plain["resolution"] == 320
    assert (plain["crf"], plain["bands"], plain["mirror"]) == (None, None, True)
    for other in ({"batch_size": 1}, {"workers": 0}, {"out": "elsewhere"}, {"save": "probs"}, {"overwrite": True}):
        assert facts(**other) == plain, other
    for other in ({"crf": True}, {"mirror": False}, {"bands": "3,2,1"}, {"probe": "linear"}, {"protocol": "paper"}):
        assert facts(**other) != plain, other
    assert facts(crf=True)["crf"] == CrfParameters().model_dump(exclude={"implementation"})
    assert json.loads(json.dumps(facts(bands="3,2,1")))["bands"] == [3, 2, 1]


def test_a_mask_s_value_is_the_index_of_its_name() -> None:
    space = LabelSpace(name="two", names=("a", "b"), colours=((1, 2, 3), (4, 5, 6)))
    facts = spaces_facts({"cluster": space})
    assert facts == {"cluster": {"name": "two", "names": ["a", "b"], "colours": [[1, 2, 3], [4, 5, 6]]}}


def test_images_are_counted_by_what_became_of_them() -> None:
    images = [record("done", a=1.0), record("done", a=1.0), record("skipped", a=1.0), FAILED, record("kept", a=1.0)]
    content = run_content(HEADER, images, seconds=1.23456, remaining=3)
    summary = content["summary"]
    counted = {name: summary[name] for name in ("images", "done", "skipped", "failed", "kept", "remaining")}
    assert counted == {"images": 7, "done": 2, "skipped": 1, "failed": 1, "kept": 1, "remaining": 3}
    assert summary["seconds"] == 1.235
    assert content["images"] == images
    assert content["model"] == {"name": "m"}
    assert datetime.fromisoformat(content["created"]).tzinfo is not None
    json.dumps(content, allow_nan=False)


def test_shares_of_all_pixels_weigh_images_by_their_size() -> None:
    images = [record("done", 10, 30, sky=1.0), record("skipped", 10, 10, sky=0.2, road=0.8), FAILED]
    shares = run_content(HEADER, images, 0, 0)["summary"]["shares"]["cluster"]
    assert shares == pytest.approx({"sky": 0.8, "road": 0.2})
    assert list(shares) == ["sky", "road"]  # the largest first


def test_notes_are_counted_for_images_that_have_results_the_most_frequent_first() -> None:
    images = [
        record("done", 1, 1, "turned"),
        record("done", 1, 1, "grey", "turned"),
        record("skipped", 1, 1, "grey", "turned"),
        FAILED | {"notes": ["grey"]},
        record("kept", 1, 1, "first frame"),
    ]
    notes = run_content(HEADER, images, 0, 0)["summary"]["notes"]
    assert list(notes.items()) == [("turned", 3), ("grey", 2)]


def test_a_run_without_a_result_has_no_shares() -> None:
    assert run_content(HEADER, [FAILED], 0, 0)["summary"]["shares"] == {"cluster": {}}
