"""Methods that are fitted instead of trained: each fit is made once and kept, and so is a code that is slow to find."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stego_cli.catalog.locate import stego_home
from stego_cli.config.model import LandmarkConfig
from stego_cli.engine.train import fitting
from stego_cli.engine.train.projected import ProjectedReader, project_all
from stego_cli.features.store import FeatureStore, check_space, estimate
from stego_cli.methods.base import Fitted
from stego_cli.methods.build import build_method
from stego_cli.methods.dimred.pca import Pca, PcaBasis
from stego_cli.progress import Silence

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stego_cli.config.model import MethodConfig, PcaConfig
    from stego_cli.engine.ablate.ground import OpenGround
    from stego_cli.engine.ablate.validation import Group
    from stego_cli.features.fingerprint import Fingerprint
    from stego_cli.features.reader import FeatureReader, Records
    from stego_cli.methods.base import Method
    from stego_cli.progress import Report

_READ_AT_ONCE = 16


def is_fixed(config: MethodConfig) -> bool:
    """Say whether a method's code of an image depends on that image alone, so that it can be computed beforehand."""
    return not config.learns and getattr(config, "standardise", "train") == "train"


def is_slow(config: MethodConfig) -> bool:
    """Say whether a method's code takes so long to find that it is kept on disk."""
    return isinstance(config, LandmarkConfig) and is_fixed(config)


def fitted_method(ground: OpenGround, config: MethodConfig, seed: int, report: Report | None = None) -> Method:
    """Return a method that is ready to use on the ground's device, fitted if it has to be.

    A slow fit is that of the grid's first seed, so that all seeds share it: embedding takes minutes.

    Args:
        ground: Its features.
        config: Which method.
        seed: What is drawn follows it.
        report: Told about the progress of a fit.

    Raises:
        StegoError: If it cannot be fitted.
    """
    chosen = ground.plan.config.seed if is_slow(config) else seed
    supply = replace(ground.supply, seed=chosen)
    method = fitting.fitted_method(config, ground.plan.run, supply, ground.device, report or Silence())
    return method.requires_grad_(requires_grad=False)


def projected(ground: OpenGround, method: Method, report: Report | None = None) -> FeatureReader:
    """Return the code of all training images in place of their features, held in memory where there is room for it."""
    reader = ProjectedReader(ground.features, method, ground.device)
    return project_all(reader, ground.supply.sampler.usable, _READ_AT_ONCE, report or Silence())


@dataclass(frozen=True)
class SlowCode:
    """The code of a slow method, on disk: of the training images, and of those that are measured.

    Attributes:
        train: Where that of the training images is.
        groups: Those that are measured, with the place of their code in place of that of their features.
    """

    train: FeatureStore
    groups: tuple[Group, ...]


def slow_code(ground: OpenGround, config: MethodConfig, report: Report) -> SlowCode:
    """Return the code of a slow method; what is not there yet is computed, shard by shard.

    Raises:
        StegoError: If the method cannot be fitted, or the code not be written.
    """
    seed = ground.plan.config.seed
    recipe = {**config.model_dump(mode="json"), "seed": seed}
    channels = ground.plan.run.backbone.channels
    method: Method | None = None

    def code(maps: Records) -> Records:
        nonlocal method
        method = method or fitted_method(ground, config, seed, report)
        with torch.inference_mode():
            return method.code(torch.from_numpy(maps).to(ground.device).float()).cpu().numpy()

    dim = getattr(config, "code_dim", channels)
    train = _code_store(ground.features, dim, recipe, code, f"{config.kind} {dim}: training images", report)
    groups = []
    for group in ground.groups:
        source = FeatureStore.open(group.place, group.fingerprint)
        per_image = source.fingerprint.shape[0] // channels
        found = _code_store(
            source,
            per_image * dim,
            recipe,
            partial(_each_map, code, channels),
            f"{config.kind} {dim}: images to measure",
            report,
        )
        groups.append(replace(group, fingerprint=found.fingerprint, place=_code_place(source.fingerprint, recipe)))
    return SlowCode(train, tuple(groups))


def _each_map(code: Callable[[Records], Records], channels: int, records: Records) -> Records:
    """Map records (n, m * C, h, w) of several maps each to (n, m * K, h, w)."""
    maps = records.reshape(-1, channels, *records.shape[2:])
    return code(maps).reshape(len(records), -1, *records.shape[2:])


def _code_place(features: Fingerprint, recipe: dict[str, Any]) -> Path:
    return stego_home() / "codes" / _digest(features.digest, recipe)


def _code_store(
    source: FeatureReader,
    channels: int,
    recipe: dict[str, Any],
    code: Callable[[Records], Records],
    doing: str,
    report: Report,
) -> FeatureStore:
    """Return the store of a code, complete."""
    features = source.fingerprint
    # What the code was made from is part of its name, and of the hash that stands for the network.
    shape = (channels, *features.shape[1:])
    made = features.model_copy(update={"weights": _digest(features.weights, recipe), "shape": shape})
    place = _code_place(features, recipe)
    store = FeatureStore.create(place, made, report)
    missing = store.missing()
    if missing:
        check_space(place, estimate(made) * len(missing) // len(store.shards))
    for number in report.track(missing, f"Placing positions by {doing}", total=len(missing)):
        images = store.shards[number]
        records = np.empty((len(images), *made.shape), np.float32)
        for start in range(0, len(images), _READ_AT_ONCE):
            part = images[start : start + _READ_AT_ONCE]
            records[start : start + len(part)] = code(source.read(list(part)))
        store.write(number, records)
    return store


def refuse_unready(config: MethodConfig, channels: int) -> None:
    """See that a method can be fitted, before anything long starts.

    Raises:
        StegoError: If a package is missing, or there are too few channels.
    """
    method = build_method(config, channels)
    if isinstance(method, Fitted):
        method.check_ready()


def explained_variance(ground: OpenGround, config: PcaConfig, report: Report) -> list[float]:
    """Return the share of the variance along every principal axis of the training images, the largest first.

    They are those of the fit that all dimensions of the method share.

    Raises:
        StegoError: If the features do not allow a fit.
    """
    run = ground.plan.run
    method = Pca(config, run.backbone.channels)
    basis = PcaBasis.from_tensors(fitting.open_fit(method, run, ground.supply, ground.device, report))
    shares: list[float] = basis.variance_ratio.tolist()
    return shares


def _digest(*facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
