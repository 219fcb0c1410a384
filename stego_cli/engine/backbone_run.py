"""What `stego features`, `stego knn` and training share: a dataset split, a backbone, and what is made of the two."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from stego_cli.backbones.base import check_image_size
from stego_cli.backbones.weights import load_backbone
from stego_cli.catalog.locate import stego_home
from stego_cli.checkpoints.released import backbone_hash
from stego_cli.data.datasets.build import open_dataset
from stego_cli.engine.device import autocast_dtype, choose_device
from stego_cli.engine.extract import Extraction, fill, rank_and_world, record_shape
from stego_cli.errors import ImageError, OutputError
from stego_cli.features.fingerprint import Fingerprint, image_list_hash
from stego_cli.features.shards import MAX_RECORDS
from stego_cli.features.store import FeatureStore, check_space, estimate, has_store
from stego_cli.neighbors.pooling import pool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from stego_cli.backbones.base import Backbone
    from stego_cli.config.features import BackboneRunConfig
    from stego_cli.data.dataset import Dataset
    from stego_cli.progress import Report

Kind = Literal["maps", "pooled"]


@dataclass(frozen=True)
class BackboneRun:
    """A dataset split and the frozen backbone that looks at it.

    Attributes:
        config: How.
        dataset: The images.
        backbone: On its device.
        weights_hash: SHA-256 of the backbone's weights.
    """

    config: BackboneRunConfig
    dataset: Dataset
    backbone: Backbone
    weights_hash: str


def open_run(config: BackboneRunConfig, report: Report) -> BackboneRun:
    """Find the dataset, load the backbone and put it on its device; everything that can be wrong is found here.

    Raises:
        StegoError: If the dataset, the weights, the resolution or the device do not allow it.
    """
    dataset = open_dataset(config, config.split)
    for note in dataset.notes:
        report.note(note)
    device = choose_device(config.device)
    backbone = load_backbone(config.backbone, config.weights)
    check_image_size(config.resolution, config.resolution, backbone.patch_size)
    digest = backbone_hash({f"backbone.{key}": value for key, value in backbone.state_dict().items()})
    return BackboneRun(config, dataset, backbone.to(device), digest)


def extraction(run: BackboneRun, kind: Kind) -> Extraction:
    """Return how records of a kind are made: `maps` (C, h, w), or `pooled` unit vectors (C,)."""
    config = run.config
    record: Callable[[Tensor], Tensor] = pool if kind == "pooled" else _as_it_is
    return Extraction(
        run.dataset,
        run.backbone,
        record,
        config.resolution,
        config.loader_crop,
        antialias=config.protocol != "paper",
        batch_size=config.batch_size,
        workers=config.workers,
        autocast=_autocast(config),
    )


def _autocast(config: BackboneRunConfig) -> torch.dtype | None:
    """Return the type of the backbone's arithmetic; None is float32."""
    return autocast_dtype(config.precision, choose_device(config.device), exact=config.protocol == "paper")


def fingerprint(run: BackboneRun, kind: Kind, dtype: str) -> Fingerprint:
    """Return what records of this run are made from; two that agree may be used for each other."""
    config, backbone = run.config, run.config.backbone
    return Fingerprint(
        kind=kind,
        dataset=run.dataset.slug,
        split=run.dataset.split,
        crop=f"{config.crop} {config.crop_ratio}" if config.crop else "none",
        count=len(run.dataset),
        images=image_list_hash(run.dataset),
        bands=config.bands,
        backbone=backbone.name,
        weights=run.weights_hash,
        feature_type=backbone.feature_type if backbone.kind == "vit" else "feat",
        block=backbone.block if backbone.kind == "vit" else -1,
        patch_size=run.backbone.patch_size,
        resolution=config.resolution,
        loader_crop=config.loader_crop,
        protocol=config.protocol,
        precision=_PRECISIONS[_autocast(config)],
        dtype=dtype,
        shape=record_shape(extraction(run, kind)),
    )


def derived_name(config: BackboneRunConfig, dataset: Dataset) -> str:
    """Return what files made from a run are called: readable, and different for what must not be mixed up."""
    parts = [dataset.slug, dataset.split, config.backbone.name, str(config.resolution)]
    if config.backbone.kind == "vit" and config.backbone.feature_type != "feat":
        parts.append(config.backbone.feature_type)
    parts += [word for word, usual in ((config.loader_crop, "center"), (config.protocol, "paper")) if word != usual]
    return "-".join(part.replace("/", "_") for part in parts)


def store_place(config: BackboneRunConfig, dataset: Dataset, kind: Kind) -> Path:
    """Return the folder of a run's records below `STEGO_HOME`."""
    return stego_home() / "features" / f"{derived_name(config, dataset)}-{kind}"


def build_store(run: BackboneRun, kind: Kind, dtype: str, place: str, report: Report) -> FeatureStore:
    """Compute all records of a run, or those that an earlier run did not get to; returns when all are there.

    Several processes that torchrun or SLURM started each compute a share and wait for the others.

    Raises:
        StaleError: If the place holds records of something else; names the differences.
        OutputError: If there is not enough space.
    """
    wanted, (rank, world) = fingerprint(run, kind, dtype), rank_and_world()
    if run.config.overwrite and world > 1:
        raise OutputError(
            f"several processes cannot overwrite `{place}` together\n\nhint: remove it first, and leave --overwrite out"
        )
    store = FeatureStore.create(
        place, wanted, report, overwrite=run.config.overwrite, shard_size=shard_size(kind, len(run.dataset))
    )
    _forget_repaired(store, run.dataset)
    left = len(store.missing())
    if not left:
        report.note(f"using the {len(store)} {_WORDS[kind]} in {place}")
        return store
    needed = estimate(wanted) * left // len(store.shards)
    check_space(place, needed)
    done = f"; {store.count_done} of {len(store)} are there" if store.count_done else ""
    report.note(f"writing {needed / 1e6:.1f} MB of {_WORDS[kind]} to {place}{done}")
    fill(store, extraction(run, kind), report, f"Computing {_WORDS[kind]}", (rank, world))
    if store.missing():
        report.note("waiting for the other processes")
    while store.missing():
        time.sleep(_POLL_S)
    return store


def count_done(place: str, wanted: Fingerprint) -> int:
    """Return how many records a place has, without changing it.

    Raises:
        StaleError: If they were made from something else than what is wanted.
    """
    if not has_store(place):
        return 0
    return FeatureStore.open(place, wanted, allow_partial=True).count_done


def _forget_repaired(store: FeatureStore, dataset: Dataset) -> None:
    """Drop the shards of images that could not be read when they were made, and now can."""
    repaired = {image for image in store.failed if _can_be_read(dataset, image)}
    store.discard([number for number, images in enumerate(store.shards) if repaired.intersection(images)])


def _can_be_read(dataset: Dataset, image: int) -> bool:
    try:
        dataset.image(image)
    except ImageError:
        return False
    return True


def shard_size(kind: Kind, count: int) -> int | None:
    """Return how many records make a shard: of the small pooled ones so many that a kill loses a sixty-fourth."""
    if kind == "maps":
        return None  # the store's own choice goes by bytes
    return min(max(-(-count // _SHARDS // _WHOLE_BATCHES) * _WHOLE_BATCHES, _WHOLE_BATCHES), MAX_RECORDS)


_PRECISIONS: dict[torch.dtype | None, Literal["fp32", "bf16", "fp16"]] = {
    None: "fp32",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
}
_POLL_S = 0.5
_SHARDS = 64
_WHOLE_BATCHES = 16
_WORDS: dict[Kind, str] = {"maps": "feature maps", "pooled": "pooled features"}


def _as_it_is(features: Tensor) -> Tensor:
    return features
