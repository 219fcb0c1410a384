"""What `predictions.json` says."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stego_cli import __version__
from stego_cli.engine.ledger import FORMAT, Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stego_cli.catalog.models import ModelChoice
    from stego_cli.config.model import LabelSpace, ModelConfig, Probe
    from stego_cli.config.predict import PredictConfig
    from stego_cli.segmenter import Settings


def model_facts(choice: ModelChoice, config: ModelConfig) -> dict[str, Any]:
    """Return what a reader of results wants to know of the model."""
    backbone = config.backbone
    with choice.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "name": choice.name,
        "title": config.about.title,
        "description": config.about.description,
        "limits": config.about.limits,
        "trained_on": config.about.trained_on,
        "licence": config.about.licence,
        "scores": config.about.scores,
        "backbone": backbone.name if backbone.kind == "vit" else backbone.kind,
        "method": config.method.kind,
        "fingerprint": digest[:16],
    }


def settings_facts(config: PredictConfig, settings: Settings, resolution: int) -> dict[str, Any]:
    """Return the settings of a run that decide about the content of its masks."""
    return {
        "protocol": settings.protocol,
        "probe": config.probe,
        # Both implementations give the same masks, so which one ran does not tell results apart.
        "crf": settings.crf.model_dump(exclude={"implementation"}) if settings.crf else None,
        "mirror": settings.mirror,
        "resolution": resolution,
        "tile": settings.tile,
        "precision": config.precision,
        "bands": list(config.bands) if config.bands else None,
    }


def spaces_facts(spaces: Mapping[Probe, LabelSpace]) -> dict[str, Any]:
    """Return the classes of each probe; a mask's value is the index into them."""
    return {probe: space.model_dump(mode="json") for probe, space in spaces.items()}


def run_content(header: Mapping[str, Any], images: Sequence[Record], seconds: float, remaining: int) -> dict[str, Any]:
    """Return the whole of `predictions.json`.

    Args:
        header: Model, settings and label spaces.
        images: The records, in the order of the inputs; results of earlier runs on other inputs last.
        seconds: Wall time of the run.
        remaining: Images that an interrupted run did not get to.
    """
    status = Counter(record["status"] for record in images)
    notes = Counter(note for record in images if record["status"] in {"done", "skipped"} for note in record["notes"])
    return {
        "format": FORMAT,
        "stego": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **header,
        "summary": {
            "images": status["done"] + status["skipped"] + status["failed"] + remaining,
            "done": status["done"],
            "skipped": status["skipped"],
            "failed": status["failed"],
            "kept": status["kept"],
            "remaining": remaining,
            "seconds": round(seconds, 3),
            "notes": dict(notes.most_common()),
            "shares": {probe: _overall(images, probe) for probe in header["label_spaces"]},
        },
        "images": list(images),
    }


def _overall(images: Sequence[Record], probe: str) -> dict[str, float]:
    """Return each class's share of all pixels of all images, largest first."""
    total: Counter[str] = Counter()
    for record in images:
        pixels = record.get("height", 0) * record.get("width", 0)
        for name, share in record.get("shares", {}).get(probe, {}).items():
            total[name] += share * pixels
    everything = sum(total.values())
    return {name: round(pixels / everything, 6) for name, pixels in total.most_common()}
