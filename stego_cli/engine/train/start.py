"""Where a training run goes, and whether it starts, goes on, or must not touch what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stego_cli.catalog.models import RUNS
from stego_cli.engine.differences import differences
from stego_cli.engine.train.state import read_progress
from stego_cli.errors import OutputError, StegoError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stego_cli.config.train import TrainConfig
    from stego_cli.data.dataset import Dataset
    from stego_cli.engine.train.loop import Place
    from stego_cli.progress import Report


def target_of(config: TrainConfig, dataset: Dataset) -> Path:
    """Return where the model goes.

    Raises:
        OutputError: If nothing would take the file for a model.
    """
    backbone = config.backbone.name.replace("/", "_")
    method = "" if config.method.learns else f"-{config.method.kind}"
    target = config.out or RUNS / f"train-{dataset.name}-{backbone}{method}" / "model.safetensors"
    name = printable(target)
    if target.is_dir():
        raise OutputError(f"`{name}` is a folder\n\nhint: name a file, such as --out model.safetensors")
    if target.suffix != ".safetensors":
        better = printable(target.with_suffix(".safetensors"))
        raise OutputError(f"`{name}` does not end with .safetensors\n\nhint: use --out {better}")
    return target


def record_of(model: Path) -> Path:
    """Return the file that says what a run was and what came of it; it is written when all else is done."""
    return model.with_suffix(".run") / "run.json"


def look_before(
    config: TrainConfig, settings: Mapping[str, Any], model: Path, places: Mapping[int, Place], report: Report
) -> None:
    """See what is there, and make way for a run that starts anew.

    Args:
        config: Settings of the run.
        settings: What its result depends on, the seed apart.
        model: The model file.
        places: Files of each seed.
        report: Told if an interrupted run is gone on with.

    Raises:
        OutputError: If a finished model is there and may not be replaced.
        StegoError: If a run of other settings is there, or none to go on with.
    """
    if config.overwrite:
        for place in places.values():
            for old in (place.state, place.model, place.last):
                old.unlink(missing_ok=True)
        model.unlink(missing_ok=True)
        return
    states = {seed: place.state for seed, place in places.items() if place.state.is_file()}
    if not states:
        if config.resume:
            raise StegoError(
                f"there is no run to go on with beside `{printable(model)}`\n\nhint: leave out --resume to start one"
            )
        if model.exists():
            raise _exists(model)
        return
    done = [_steps_done(state, {**settings, "seed": seed}) for seed, state in states.items()]
    finished = len(done) == len(places) and min(done) >= config.steps and model.exists() and record_of(model).exists()
    if finished and not config.resume:
        raise _exists(model)
    if min(done) < config.steps:
        where = printable(model.with_suffix(".run"))
        report.note(f"going on after step {min(done)} of {config.steps}, with the run in `{where}`")


def _exists(model: Path) -> OutputError:
    return OutputError(
        f"`{printable(model)}` is there, and its training is finished\n\n"
        "hint: choose another file with --out, start anew with --overwrite, or train on with --resume and more --steps"
    )


def _steps_done(state: Path, settings: Mapping[str, Any]) -> int:
    """Return how far a run is.

    Raises:
        StegoError: If it was started with other settings; names each.
    """
    progress = read_progress(state)
    before = {name: value for name, value in progress.settings.items() if name != "world"}
    if found := differences(before, settings):
        raise StegoError(
            f"the run in `{printable(state.parent)}` was started with other settings:\n  "
            + "\n  ".join(found)
            + "\n\nhint: go back to them to go on with it, start anew with --overwrite, or choose another --out"
        )
    return progress.step
