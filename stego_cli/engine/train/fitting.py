"""The fit of a method that is fitted to features instead of trained: computed once, kept, shared by runs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stego_cli.catalog.locate import stego_home
from stego_cli.checkpoints.native import read_safetensors
from stego_cli.config.model import DinoConfig
from stego_cli.engine.backbone_run import derived_name, fingerprint
from stego_cli.engine.saved_state import write_tensors
from stego_cli.engine.train.measure import len_of_batch
from stego_cli.engine.train.projected import ProjectedBackbone, ProjectedReader, project_all
from stego_cli.errors import CheckpointError
from stego_cli.methods.base import FeatureSource, Fitted
from stego_cli.methods.build import build_method

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from stego_cli.config.model import MethodConfig
    from stego_cli.config.train import TrainConfig
    from stego_cli.engine.backbone_run import BackboneRun
    from stego_cli.engine.train.batches import Supply
    from stego_cli.engine.train.ranks import Ranks
    from stego_cli.methods.base import Method
    from stego_cli.progress import Report

KEY = "stego_fit"
FORMAT = 1


def with_fitted(config: TrainConfig, run: BackboneRun, supply: Supply, ranks: Ranks, report: Report) -> Supply:
    """Return a supply that gives code where the method is fitted, ready for probes; any other supply as it is.

    Args:
        config: Settings of the run.
        run: Images and backbone.
        supply: Gives features of the backbone; its seed is that of the fit.
        ranks: The processes that share the run; the first one fits.
        report: Told what is done.

    Raises:
        StegoError: If the features do not allow the fit, or it cannot be written.
    """
    wanted = None if config.method.learns else build_method(config.method, supply.backbone.channels)
    if not isinstance(wanted, Fitted):
        return supply
    if ranks.world > 1:
        ranks.together(lambda: open_fit(wanted, run, supply, ranks.device, report))
    method = fitted_method(config.method, run, supply, ranks.device, report)
    features = supply.features
    if features is not None:
        reader = ProjectedReader(features, method, ranks.device)
        images, at_once = supply.sampler.usable, len_of_batch(supply)
        # Where the code of an image depends on its batch, there is none to keep.
        features = reader if wanted.by_batch else project_all(reader, images, at_once, report)
    return replace(supply, backbone=ProjectedBackbone(supply.backbone, method), features=features)


def for_probes_alone(config: TrainConfig) -> TrainConfig:
    """Return what is left to train where a supply gives code already: probes on what there is."""
    return config if config.method.learns else config.model_copy(update={"method": DinoConfig()})


def fitted_method(
    config: MethodConfig, run: BackboneRun, supply: Supply, device: torch.device, report: Report
) -> Method:
    """Return a method that does not learn, ready for use on the device: fitted, if that is what it takes.

    Args:
        config: Of a method whose `learns` is false.
        run: Images and backbone.
        supply: Gives features of the backbone; its seed is that of the fit.
        device: Where the method is to be.
        report: Told what is done.

    Raises:
        StegoError: If the features do not allow the fit, or it cannot be written.
    """
    method = build_method(config, supply.backbone.channels)
    if isinstance(method, Fitted):
        method.adopt(open_fit(method, run, supply, device, report), supply.seed)
    return method.to(device).eval()


def open_fit(
    method: Fitted, run: BackboneRun, supply: Supply, device: torch.device, report: Report
) -> dict[str, Tensor]:
    """Return what a method was fitted to, from the disk if an earlier run left it there; else fit it, and leave it.

    Args:
        method: To be fitted; the same is returned for all methods of equal recipes.
        run: Images and backbone.
        supply: Gives features of the backbone; its seed is that of the fit.
        device: Where the backbone is.
        report: Told what is done.

    Raises:
        StegoError: If the features do not allow the fit, or it cannot be written.
    """
    recipe = method.recipe(supply.seed)
    about, kind = _about(recipe, run, supply), recipe["kind"]
    place = _place(kind, run, about)
    if (found := _read(place, about)) is not None:
        report.note(f"using the fit of {kind} in {place}")
        return found

    def track(batches: Iterator[Tensor], doing: str, total: int) -> Iterator[Tensor]:
        return report.track(batches, doing, total=total)

    def read(images: NDArray[np.int64]) -> Tensor:
        return supply.features_of(images, device).cpu()

    report.note(f"fitting {kind} to features of {len(supply.sampler.usable)} images")
    source = FeatureSource(supply.sampler.usable, read, len_of_batch(supply), track)
    fitted = method.fit(source, supply.seed)
    write_tensors(place, fitted, {KEY: about})
    return fitted


def _about(recipe: dict[str, Any], run: BackboneRun, supply: Supply) -> str:
    """Return all that a fit depends on, as JSON."""
    made = fingerprint(run, "maps", "float32") if supply.features is None else supply.features.fingerprint
    content = {
        "format": FORMAT,
        "features": made.model_dump(mode="json"),
        "images": hashlib.sha256(supply.sampler.usable.tobytes()).hexdigest(),
        "batch_size": len_of_batch(supply),
        "recipe": recipe,
    }
    return json.dumps(content, sort_keys=True)


def _place(kind: str, run: BackboneRun, about: str) -> Path:
    """Return the file of a fit below `STEGO_HOME`; its name tells apart what differs in anything."""
    digest = hashlib.sha256(about.encode()).hexdigest()[:16]
    return stego_home() / "fitted" / f"{derived_name(run.config, run.dataset)}-{kind}-{digest}.safetensors"


def _read(place: Path, about: str) -> dict[str, Tensor] | None:
    """Return a fit, if it is there, sound, and made from the same."""
    if not place.is_file():
        return None
    try:
        metadata, tensors = read_safetensors(place)
    except CheckpointError:
        return None
    return tensors if metadata.get(KEY) == about else None
