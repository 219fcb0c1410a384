"""What `stego ablate run` is about to do, found out before anything long starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stego_cli.catalog.models import RUNS
from stego_cli.config.fields import usable_cores
from stego_cli.engine.ablate.checkpoints import key_of
from stego_cli.engine.ablate.estimate import Pace, estimate_cells
from stego_cli.engine.ablate.grid import Cell, Grid, plan_grid
from stego_cli.engine.ablate.ground import Ground, images_to_see, plan_ground, provenance_of
from stego_cli.engine.ablate.projection import is_slow, refuse_unready
from stego_cli.engine.ablate.record import Results
from stego_cli.engine.ablate.workers import slots
from stego_cli.engine.train.timing import backbone_seconds
from stego_cli.errors import ConfigError, StegoError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stego_cli.config.ablate import AblateConfig, CheckpointRow
    from stego_cli.engine.train.setup import Plan
    from stego_cli.progress import Report

# Settings on which no single cell depends, or which are written with each.
FREE = {
    "methods",
    "dims",
    "dataset",
    "datasets",
    "backbone",
    "backbones",
    "seed",
    "seeds",
    "method",
    "checkpoints",
    "data_dir",
    "device",
    "devices",
    "jobs",
    "workers",
    "batch_size",
    "out",
    "resume",
    "overwrite",
    "keep_models",
}


@dataclass(frozen=True)
class GroundPlan:
    """One dataset and one backbone with its cells.

    Attributes:
        ground: Which.
        plan: Training images, backbone and classes.
        grid: Its cells.
        to_see: Images that the backbone has not seen yet: of training, and to be measured.
    """

    ground: Ground
    plan: Plan
    grid: Grid
    to_see: tuple[int, int]


@dataclass(frozen=True)
class AblationPlan:
    """What a run would do.

    Attributes:
        config: Its settings.
        grounds: Datasets and backbones.
        rows: Finished models to measure.
        out: Folder of the results.
        results: What is there.
        places: A device for each cell that is at work at the same time.
        pace: Estimates.
        backbone_seconds: Estimated time until the backbone has seen everything.
    """

    config: AblateConfig
    grounds: tuple[GroundPlan, ...]
    rows: tuple[CheckpointRow, ...]
    out: Path
    results: Results
    places: tuple[str, ...]
    pace: Pace
    backbone_seconds: float

    @property
    def keys(self) -> list[str]:
        """The keys of all cells and rows, in order."""
        return [*(cell.key for cell in self.cells), *map(key_of, self.rows)]

    @property
    def cells(self) -> Iterator[Cell]:
        """All cells."""
        return (cell for each in self.grounds for cell in each.grid.cells)

    @property
    def left(self) -> list[str]:
        """The keys of what is not done yet."""
        return [key for key in self.keys if not self.results.is_done(key)]

    @property
    def seconds(self) -> float:
        """Estimated time of everything that is left."""
        return self.backbone_seconds + self.pace.left(self.left)

    @property
    def slow(self) -> list[str]:
        """Methods whose time is not in the estimate: they are fitted by libraries of their own."""
        found = {cell.method for cell in self.cells if is_slow(self.config.method_config(cell.method, cell.dim))}
        return sorted(found)

    def to_json(self) -> dict[str, Any]:
        """Return what `--dry-run --json` prints."""
        return {
            "dry_run": True,
            "out": printable(self.out),
            "cells": len(self.keys),
            "left": len(self.left),
            "seconds": round(self.seconds, 1),
            "at_a_time": len(self.places),
            "grounds": [
                {
                    "dataset": printable(each.plan.run.dataset.name),
                    "backbone": each.ground.backbone.name,
                    "channels": each.plan.run.backbone.channels,
                    "cells": [cell.key for cell in each.grid.cells],
                    "left_out_dims": list(each.grid.left_out),
                    "images_to_see": sum(each.to_see),
                }
                for each in self.grounds
            ],
            "checkpoints": [key_of(row) for row in self.rows],
        }


def make_ablation_plan(config: AblateConfig, report: Report) -> AblationPlan:
    """Find out what a run will do; compute and write nothing but a few timed steps.

    Raises:
        StegoError: If datasets, weights, packages or settings do not allow it, or results of other settings are there.
    """
    out = config.out or RUNS / f"ablate-{'-'.join(Path(name).name for name in config.all_datasets)}"
    results = Results(out, overwrite=config.overwrite)
    if config.resume and not results.lines:
        raise StegoError(f"there is nothing to go on with in `{printable(out)}`\n\nhint: leave out --resume to start")
    grounds = tuple(_grounds(config, report))
    if config.methods and not any(each.grid.cells for each in grounds):
        raise ConfigError(
            f"no dimension is left: all of {', '.join(map(str, config.dims))} are above the backbone's channels\n\n"
            "hint: add smaller ones to --dims"
        )
    places = tuple(slots(config))
    settings = settings_of(config)
    results.refuse_others(settings, {key: value for each in grounds for key, value in _depends(config, each)})
    left = [cell for each in grounds for cell in each.grid.cells if not results.is_done(cell.key)]
    places = places[: max(len(left), 1)]
    threads = max(usable_cores() // len(places), 1)
    estimates: dict[str, float] = {}
    seeing = 0.0
    for each in grounds:
        todo = [cell for cell in each.grid.cells if not results.is_done(cell.key)]
        estimates |= estimate_cells(config, each.plan, todo, threads)
        if todo and any(each.to_see):
            larger = (config.train.eval_resolution / config.train.resolution) ** 2
            per_image = backbone_seconds(each.plan.run.backbone, config.train.resolution, 2)
            seeing += per_image * (each.to_see[0] + larger * each.to_see[1])
    pace = Pace(estimates, len(places))
    return AblationPlan(config, grounds, config.checkpoints, out, results, places, pace, seeing)


def settings_of(config: AblateConfig) -> dict[str, Any]:
    """Return what every cell of a grid depends on, as plain values."""
    return config.model_dump(mode="json", exclude=FREE | {"crf_parameters"}) | {
        "crf_parameters": config.crf_parameters.model_dump(exclude={"implementation"}) if config.crf else None
    }


def _depends(config: AblateConfig, each: GroundPlan) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what single cells depend on beside the settings that all share."""
    provenance = provenance_of(config, each.plan)
    for cell in each.grid.cells:
        method = config.method_config(cell.method, cell.dim).model_dump(mode="json")
        yield cell.key, {"method_config": method, "provenance": provenance}


def _grounds(config: AblateConfig, report: Report) -> Iterator[GroundPlan]:
    """Open every dataset with every backbone."""
    seeds = range(config.seed, config.seed + config.seeds)
    names: dict[str, int] = {}
    if not config.methods:
        return
    for dataset in config.all_datasets:
        for backbone in config.all_backbones:
            learns = any(config.method_config(method, None).learns for method in config.methods)
            draft = Ground(dataset, backbone, "", learns)
            plan = plan_ground(config, draft, report)
            name = f"{printable(plan.run.dataset.name)}/{backbone.name.replace('/', '_')}"
            names[name] = names.get(name, 0) + 1
            if names[name] > 1:  # two folders of one name
                name = f"{name}-{names[name]}"
            channels = plan.run.backbone.channels
            grid = plan_grid(name, channels, config.methods, config.dims, seeds)
            for method in config.methods:
                refuse_unready(config.method_config(method, grid.cells[0].dim if grid.cells else None), channels)
            ground = Ground(dataset, backbone, name, learns)
            yield GroundPlan(ground, plan, grid, images_to_see(config, plan, report))
