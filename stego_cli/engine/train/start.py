"""Where a training run goes, and whether it starts, goes on, or must not touch what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stego_cli.catalog.models import RUNS
from stego_cli.engine.differences import differences
from stego_cli.engine.train.setup import settings_of
from stego_cli.engine.train.state import read_progress
from stego_cli.errors import OutputError, StegoError
from stego_cli.files import output_error, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from stego_cli.config.train import TrainConfig
    from stego_cli.data.dataset import Dataset
    from stego_cli.engine.train.loop import Place
    from stego_cli.progress import Report

# Hashes tell nobody anything.
OTHER_FILES = {
    "images": "images: others than before; some were added, removed, renamed or replaced, or it is another folder",
    "weights": "weights: those of another file than before",
}


def target_of(config: TrainConfig, dataset: Dataset) -> Path:
    """Return where the model goes: as asked, else to the run of these settings below `runs/`, else to a new one.

    Raises:
        OutputError: If nothing would take the file for a model.
    """
    backbone = config.backbone.name.replace("/", "_")
    method = "" if config.method.learns else f"-{config.method.kind}"
    target = config.out or _below_runs(config, f"train-{dataset.name}-{backbone}{method}")
    name = printable(target)
    if target.is_dir():
        raise OutputError(f"`{name}` is a folder\n\nhint: name a file, such as --out model.safetensors")
    if target.suffix != ".safetensors":
        better = printable(target.with_suffix(".safetensors"))
        raise OutputError(f"`{name}` does not end with .safetensors\n\nhint: use --out {better}")
    return target


def _below_runs(config: TrainConfig, name: str) -> Path:
    """Return the model of the run of these settings; if there is none, that of the first name which is free.

    Where `--resume` finds no run of these settings, it is that of the last one, so that what differs is said.
    """
    taken, number = None, 1
    while True:
        model = RUNS / (name if number == 1 else f"{name}-{number}") / "model.safetensors"
        states = sorted(model.with_suffix(".run").rglob("state.safetensors"))
        if not states and not model.exists():
            return taken if config.resume and taken else model
        if _is_of(config, states):
            return model
        taken, number = model, number + 1


def _is_of(config: TrainConfig, states: Sequence[Path]) -> bool:
    """Say whether a run has these settings and one of these seeds; its images are looked at later."""
    wanted, seeds = settings_of(config), range(config.seed, config.seed + config.seeds)
    try:
        found = [read_progress(state).settings for state in states]
    except StegoError:
        return True  # `look_before` says what is wrong with it, or replaces it
    alone = all(state.parent.suffix == ".run" for state in states)
    return alone == (config.seeds == 1) and any(
        before.get("seed") in seeds and not differences({name: before.get(name) for name in wanted}, wanted)
        for before in found
    )


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
        of_seeds = [old for place in places.values() for old in (place.state, place.model, place.last)]
        _remove([*of_seeds, model, record_of(model)])
        return
    states = {seed: place.state for seed, place in places.items() if place.state.is_file()}
    if not states:
        if config.resume:
            raise StegoError(
                f"there is no run to go on with beside `{printable(model)}`\n\nhint: leave out --resume to start one"
            )
        if model.exists():
            raise _exists(model)
        report.note(f"the model goes to `{printable(model)}`")
        return
    done = [_steps_done(state, {**settings, "seed": seed}) for seed, state in states.items()]
    finished = len(done) == len(places) and min(done) >= config.steps and model.exists() and record_of(model).exists()
    if finished and not config.resume:
        raise _exists(model)
    if min(done) < config.steps:
        where = printable(model.with_suffix(".run"))
        report.note(f"going on after step {min(done)} of {config.steps}, with the run in `{where}`")


def _remove(files: Iterable[Path]) -> None:
    """Remove what a run left, so that nothing of it is taken for that of the next.

    Raises:
        OutputError: If something cannot be removed.
    """
    for old in files:
        try:
            old.unlink(missing_ok=True)
        except OSError as error:
            raise output_error(old, error) from error


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
    files = [text for name, text in OTHER_FILES.items() if before.pop(name, None) != settings.get(name)]
    if found := files + differences(before, {name: settings[name] for name in settings if name not in OTHER_FILES}):
        raise StegoError(
            f"the run in `{printable(state.parent)}` was started with other settings:\n  "
            + "\n  ".join(found)
            + "\n\nhint: go back to them to go on with it, start anew with --overwrite, or choose another --out"
        )
    return progress.step
