"""First use: feature maps and the pooled features of the neighbour index, from one pass of the backbone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from stego_cli.config.features import BackboneRunConfig, KnnConfig
from stego_cli.engine.backbone_run import (
    extraction,
    fingerprint,
    store_place,
)
from stego_cli.engine.backbone_run import (
    shard_size as pooled_shard_size,
)
from stego_cli.engine.extract import Sink, fill, rank_and_world
from stego_cli.engine.knn import index_place
from stego_cli.errors import StaleError
from stego_cli.features.shards import usual_shard_size
from stego_cli.features.store import FeatureStore, check_space, estimate
from stego_cli.neighbors.pooling import pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from stego_cli.config.train import TrainConfig
    from stego_cli.engine.backbone_run import BackboneRun
    from stego_cli.features.reader import Records
    from stego_cli.progress import Report

COLUMNS = 30  # of the index; as many as `stego knn build` makes, so that the two use each other's work


def knn_config(config: TrainConfig, run: BackboneRun) -> KnnConfig:
    """Return the settings of the neighbour index that a training run uses."""
    shared = {name: getattr(run.config, name) for name in BackboneRunConfig.model_fields}
    return KnnConfig(**shared, neighbors=max(COLUMNS, config.neighbors_used + 1))


def fill_both(config: TrainConfig, run: BackboneRun, dtype: str, report: Report) -> None:
    """Compute the maps and the pooled features that the disk lacks in one pass, if neither is complete.

    What is pooled is float32, before anything is rounded, in the batches in which `stego knn build` would compute it:
    each of the two caches has the bytes that its own command gives it. Where that cannot be, or where caches of
    something else are in the way, nothing is done, and each is made by a pass of its own.

    Raises:
        OutputError: If they cannot be written.
        DeviceError: If the memory does not suffice for a single image.
    """
    wanted = fingerprint(run, "maps", dtype)
    size = _common_shard_size(wanted.count, usual_shard_size(wanted), run.config.batch_size)
    place = str(store_place(run.config, run.dataset, "maps"))
    if size is None:
        return
    try:
        maps = FeatureStore.create(place, wanted, report, shard_size=size)
    except StaleError:
        return
    missing = len(maps.missing())
    if not missing or (pooled := pooled_store(config, run, maps, report)) is None:
        return
    needed = estimate(wanted) * missing // len(maps.shards)
    check_space(place, needed)
    report.note(f"writing {needed / 1e6:.1f} MB of feature maps to {place}; neighbours come from the same pass")
    fill_together(maps, pooled, run, report, rank_and_world())


def pooled_store(config: TrainConfig, run: BackboneRun, maps: Sink, report: Report) -> FeatureStore | None:
    """Return the store of pooled features if a pass over the maps' shards can fill it, and something is missing."""
    neighbors = knn_config(config, run)
    size, batch = len(maps.shards[0]), run.config.batch_size
    if index_place(neighbors, run.dataset).is_file() or not _same_batches(len(run.dataset), size, batch):
        return None
    wanted, place = fingerprint(run, "pooled", "float32"), str(store_place(neighbors, run.dataset, "pooled"))
    try:
        store = FeatureStore.create(place, wanted, report, shard_size=size)
    except StaleError:
        return None
    return store if tuple(store.shards) == tuple(maps.shards) and store.missing() else None


def fill_together(maps: Sink, pooled: FeatureStore, run: BackboneRun, report: Report, share: tuple[int, int]) -> None:
    """Fill two stores with the same shards by one pass."""
    how = replace(extraction(run, "maps"), record=_map_and_pooled)
    fill(_Both(maps, pooled, fingerprint(run, "maps", "float32").shape), how, report, "Computing feature maps", share)


class _Both:
    """Takes maps with their pooled features behind them, and gives each to its own store."""

    def __init__(self, maps: Sink, pooled: FeatureStore, shape: tuple[int, ...]) -> None:
        self.shards: Sequence[range] = maps.shards
        self._maps, self._pooled, self._shape = maps, pooled, shape

    def missing(self, rank: int = 0, world: int = 1) -> list[int]:
        """Return the shards that either store lacks."""
        return sorted({*self._maps.missing(rank, world), *self._pooled.missing(rank, world)})

    def write(self, shard: int, records: Records) -> None:
        """Write the maps last: while they are missing, both are."""
        channels = self._shape[0]
        self._pooled.write(shard, np.ascontiguousarray(records[:, -channels:]))
        self._maps.write(shard, records[:, :-channels].reshape(len(records), *self._shape))


def _map_and_pooled(features: Tensor) -> Tensor:
    return torch.cat([features.flatten(1), pool(features)], dim=1)  # (B, C, h, w) -> (B, C * h * w + C)


def _common_shard_size(count: int, usual: int, batch: int) -> int | None:
    """Return how many records make a shard of both stores, so that batches are those of pooled features alone."""
    alone = pooled_shard_size("pooled", count) or usual
    sizes = (usual, alone, usual // batch * batch)
    return next((size for size in sizes if 0 < size <= usual and _same_batches(count, size, batch)), None)


def _same_batches(count: int, size: int, batch: int) -> bool:
    """Say whether shards of a size are computed in the batches in which pooled features alone are."""
    alone = pooled_shard_size("pooled", count) or size
    return _batch_starts(count, size, batch) == _batch_starts(count, alone, batch)


def _batch_starts(count: int, size: int, batch: int) -> list[int]:
    """Return the first image of every batch; batches do not cross shards.

    Example:
        >>> _batch_starts(10, 4, 3)
        [0, 3, 4, 7, 8]
    """
    return [start for shard in range(0, count, size) for start in range(shard, min(shard + size, count), batch)]
