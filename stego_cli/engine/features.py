"""`stego features build` from end to end: the cache that training reads."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stego_cli.engine.backbone_run import build_store, count_done, fingerprint, open_run, store_place
from stego_cli.features.store import estimate
from stego_cli.files import printable

if TYPE_CHECKING:
    from stego_cli.config.features import FeaturesConfig
    from stego_cli.features.fingerprint import Fingerprint
    from stego_cli.progress import Report

_DTYPES = {"fp16": "float16", "fp32": "float32"}


@dataclass(frozen=True)
class BuiltFeatures:
    """What `stego features build` made, or would make.

    Attributes:
        place: Folder or URL of the cache.
        fingerprint: What it is made from.
        bytes: Its size.
        done: Images whose features are there.
        skipped: Names of images that could not be read.
        seconds: Wall time; None if nothing was to be done yet.
    """

    place: str
    fingerprint: Fingerprint
    bytes: int
    done: int
    skipped: tuple[str, ...] = ()
    seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "place": self.place,
            "images": self.fingerprint.count,
            "done": self.done,
            "bytes": self.bytes,
            "skipped": [printable(name) for name in self.skipped],
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "fingerprint": self.fingerprint.model_dump(mode="json"),
        }


def plan_features(config: FeaturesConfig, report: Report) -> BuiltFeatures:
    """Say what `build_features` would write, and write nothing.

    Raises:
        StegoError: If the dataset, the weights or the settings would not allow it.
    """
    run = open_run(config, report)
    wanted = fingerprint(run, "maps", _DTYPES[config.dtype])
    place = config.out or str(store_place(config, run.dataset, "maps"))
    return BuiltFeatures(place, wanted, estimate(wanted), count_done(place, wanted))


def build_features(config: FeaturesConfig, report: Report) -> BuiltFeatures:
    """Write the feature maps of every image of a split into a cache.

    Raises:
        StegoError: If the dataset, the weights or the settings do not allow it; `StaleError` if the cache that is there
            was made from something else.
    """
    started = time.perf_counter()
    run = open_run(config, report)
    wanted = fingerprint(run, "maps", _DTYPES[config.dtype])
    place = config.out or str(store_place(config, run.dataset, "maps"))
    store = build_store(run, "maps", wanted.dtype, place, report)
    skipped = tuple(run.dataset.samples[image].name for image in store.failed)
    return BuiltFeatures(place, wanted, estimate(wanted), len(run.dataset), skipped, time.perf_counter() - started)
