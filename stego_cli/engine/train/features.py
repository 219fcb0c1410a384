"""Where training takes features from: computed once and kept, on disk or in memory, or anew at every step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from stego_cli.engine.backbone_run import build_store, extraction, fingerprint, store_place
from stego_cli.engine.extract import fill, rank_and_world
from stego_cli.engine.knn import build_index
from stego_cli.engine.train.one_pass import fill_both, fill_together, knn_config, pooled_store
from stego_cli.errors import ConfigError, OutputError, StaleError, StegoError
from stego_cli.features.memory import fits_in_memory
from stego_cli.features.reader import InMemory
from stego_cli.features.store import FeatureStore, check_space, estimate

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from stego_cli.config.train import TrainConfig
    from stego_cli.config.words import FeatureMode
    from stego_cli.engine.backbone_run import BackboneRun
    from stego_cli.features.fingerprint import Fingerprint
    from stego_cli.features.reader import FeatureReader, Records
    from stego_cli.neighbors.index import NeighborIndex
    from stego_cli.progress import Report

    T = TypeVar("T")

DTYPES = {"fp16": "float16", "fp32": "float32"}


@dataclass(frozen=True)
class Choice:
    """Where features come from.

    Attributes:
        mode: `cache` reads the disk at every step, `held` reads it once, `memory` writes nothing, `live` keeps nothing.
        why: In words.
    """

    mode: Literal["cache", "held", "memory", "live"]
    why: str


def choose(wanted: FeatureMode, needed: int, *, fits_disk: bool, fits_memory: bool, augmented: bool) -> Choice:
    """Decide where features come from.

    Args:
        wanted: What the user asked for.
        needed: Bytes of all features.
        fits_disk: Whether they are on disk already, or there is room for them.
        fits_memory: Whether they fit into memory.
        augmented: Whether images are augmented, so that their features cannot be known beforehand.

    Raises:
        ConfigError: If they are wanted in memory and do not fit.
    """
    size = f"{needed / 1e9:.1f} GB" if needed >= 1e9 else f"{needed / 1e6:.1f} MB"
    if wanted == "live":
        return Choice("live", "the backbone runs at every step, as asked")
    if augmented:
        return Choice("live", "images are augmented anew at every step, so the backbone has to run at every step")
    if wanted == "cache":
        return Choice("cache", f"{size} of features on disk, computed once, read at every step")
    if wanted == "memory":
        if not fits_memory:
            raise ConfigError(f"features: {size} do not fit into memory\n\nhint: use --features cache, or live")
        return Choice("memory", f"{size} of features in memory, computed once, nothing written")
    return _fastest(size, fits_disk=fits_disk, fits_memory=fits_memory)


def _fastest(size: str, *, fits_disk: bool, fits_memory: bool) -> Choice:
    if fits_disk and fits_memory:
        return Choice("held", f"{size} of features fit on the disk and into memory: computed once, held in memory")
    if fits_disk:
        return Choice("cache", f"{size} of features fit on the disk but not into memory: computed once, read from it")
    if fits_memory:
        return Choice("memory", f"{size} of features fit into memory but not on the disk: computed anew by each run")
    return Choice("live", f"{size} of features fit neither on the disk nor into memory, so the backbone runs live")


def choose_for(config: TrainConfig, run: BackboneRun) -> tuple[Choice, int]:
    """Return where the features of a run come from, and how many bytes they are."""
    wanted = fingerprint(run, "maps", DTYPES[config.dtype])
    needed = estimate(wanted)
    choice = choose(
        config.features,
        needed,
        fits_disk=_fits_disk(run, wanted, needed),
        fits_memory=fits_in_memory(needed),
        augmented=config.loss.aug_weight > 0,
    )
    return choice, needed


def _fits_disk(run: BackboneRun, wanted: Fingerprint, needed: int) -> bool:
    place = store_place(run.config, run.dataset, "maps")
    try:
        FeatureStore.open(place, wanted)
    except StegoError:  # it is not there, not whole, or of something else
        try:
            check_space(place, needed)
        except OutputError:
            return False
    return True


def open_features(config: TrainConfig, run: BackboneRun, choice: Choice, report: Report) -> FeatureReader | None:
    """Return the features of all images, computed if they are not there yet; None for live ones.

    Raises:
        StegoError: If they cannot be computed or written.
    """
    if choice.mode == "live":
        return None
    dtype, place = DTYPES[config.dtype], str(store_place(run.config, run.dataset, "maps"))
    if choice.mode == "memory":
        found = _whole_cache(place, fingerprint(run, "maps", dtype), report)
        return found or _compute_in_memory(config, run, dtype, report)
    if _wants_neighbors(config, len(run.dataset)):
        fill_both(config, run, dtype, report)
    store = anew_if_stale(lambda start: build_store(start, "maps", dtype, place, report), run, report)
    return store if choice.mode == "cache" else store.in_memory()


def _whole_cache(place: str, wanted: Fingerprint, report: Report) -> InMemory | None:
    """Return what a cache on disk holds, if it is whole and made from the same."""
    try:
        store = FeatureStore.open(place, wanted)
    except StegoError:
        return None
    report.note(f"using the {len(store)} feature maps in {place}")
    return store.in_memory()


def anew_if_stale(build: Callable[[BackboneRun], T], run: BackboneRun, report: Report) -> T:
    """Build something below `STEGO_HOME` from a run, over one that was made from something else if it must be.

    Raises:
        StaleError: Only if several processes are at work, of which none may overwrite what others use.
    """
    try:
        return build(run)
    except StaleError as error:
        if rank_and_world()[1] > 1:
            raise
        report.note(str(error).partition("\n\n")[0] + "\nit is made anew")
        return build(replace(run, config=run.config.model_copy(update={"overwrite": True})))


class _MemoryStore:
    """Takes records as a `FeatureStore` does, into memory."""

    def __init__(self, wanted: Fingerprint) -> None:
        self.records: Records = np.empty((wanted.count, *wanted.shape), wanted.dtype)
        self.shards = tuple(range(start, min(start + 16, wanted.count)) for start in range(0, wanted.count, 16))

    def missing(self, rank: int = 0, world: int = 1) -> list[int]:  # noqa: ARG002 - every process needs them all
        return list(range(len(self.shards)))

    def write(self, shard: int, records: Records) -> None:
        images = self.shards[shard]
        self.records[images.start : images.stop] = records


def _compute_in_memory(config: TrainConfig, run: BackboneRun, dtype: str, report: Report) -> InMemory:
    wanted = fingerprint(run, "maps", dtype)
    store = _MemoryStore(wanted)
    # `fill` uses these three members of a store and no other.
    if _wants_neighbors(config, wanted.count) and (pooled := pooled_store(config, run, store, report)) is not None:
        fill_together(store, pooled, run, report, (0, 1))
    else:
        fill(store, extraction(run, "maps"), report, "Computing feature maps")
    failed = np.flatnonzero(np.isnan(store.records.reshape(wanted.count, -1)[:, 0])).tolist()
    store.records.flags.writeable = False
    return InMemory(wanted, tuple(failed), store.records)


def open_neighbors(config: TrainConfig, run: BackboneRun, failed: int, report: Report) -> NeighborIndex | None:
    """Return the neighbours of all images, found if they are not known yet; None for a single image.

    Args:
        config: Settings of the run.
        run: Images and backbone.
        failed: How many of the images are known to be unusable.
        report: Told what is done.

    Raises:
        StegoError: If they cannot be found.
    """
    if not _wants_neighbors(config, len(run.dataset) - failed):
        return None
    return anew_if_stale(lambda start: build_index(knn_config(config, start), report).index, run, report)


def _wants_neighbors(config: TrainConfig, usable: int) -> bool:
    return usable > 1 and config.loss.correspondence_weight != 0
