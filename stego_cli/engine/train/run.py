"""`stego train` from end to end: a folder of images becomes a checkpoint."""

from __future__ import annotations

import json
import math
import platform
import shutil
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stego_cli import __version__
from stego_cli.engine.extract import rank_and_world
from stego_cli.engine.listener import Listener
from stego_cli.engine.train.curves import check_watchers, watchers
from stego_cli.engine.train.fitting import for_probes_alone, with_fitted
from stego_cli.engine.train.loop import Job, Place, run_job
from stego_cli.engine.train.measure import SCORE
from stego_cli.engine.train.ranks import start_ranks
from stego_cli.engine.train.setup import head_autocast, make_plan, make_yardstick
from stego_cli.engine.train.start import look_before, record_of, target_of
from stego_cli.engine.workplace import workplace
from stego_cli.errors import MissingDependencyError
from stego_cli.files import atomic_write, printable, remove_unfinished, write_text
from stego_cli.progress import Silence
from stego_cli.report.loss_curve import draw_loss_curve

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stego_cli.config.losses import LossConfig
    from stego_cli.config.train import TrainConfig
    from stego_cli.engine.train.loop import Ending
    from stego_cli.engine.train.measure import Yardstick
    from stego_cli.engine.train.ranks import Ranks
    from stego_cli.engine.train.setup import Plan
    from stego_cli.engine.train.state import Progress
    from stego_cli.progress import Report


@dataclass(frozen=True)
class SeedResult:
    """What became of one seed.

    Attributes:
        seed: Which.
        progress: Its history and measurements.
        ending: Why it ended.
        model: Its own model file.
    """

    seed: int
    progress: Progress
    ending: Ending
    model: Path

    @property
    def scores(self) -> dict[str, float]:
        """The scores of the model that was kept, by name."""
        measured = self.progress.refitted or self.progress.kept
        return measured.values if measured else {}


@dataclass(frozen=True)
class TrainResult:
    """What `stego train` made.

    Attributes:
        model: The model file.
        folder: What belongs to it: state, history, pictures.
        config: The settings.
        loss: The loss with the shifts that were used.
        runs: One for each seed.
        best: The run whose model was kept.
        skipped: A line for each image or label map that could not be used.
        seconds: Wall time of this command.
        rank: Number of this process; only the first one has something to show.
    """

    model: Path
    folder: Path
    config: TrainConfig
    loss: LossConfig
    runs: tuple[SeedResult, ...]
    best: SeedResult
    skipped: tuple[str, ...]
    seconds: float
    rank: int = 0

    @property
    def spread(self) -> dict[str, tuple[float, float]]:
        """Mean and deviation (of the sample) of every score over the seeds; empty for a single one."""
        if len(self.runs) < 2:
            return {}
        names = [name for name in self.runs[0].scores if all(name in run.scores for run in self.runs)]
        values = {name: [run.scores[name] for run in self.runs] for name in names}
        return {name: (statistics.mean(each), statistics.stdev(each)) for name, each in values.items()}

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "checkpoint": printable(self.model),
            "run": printable(self.folder),
            "scores": self.best.scores,
            "seed": self.best.seed,
            "steps": self.best.progress.step,
            "kept_step": self.best.progress.kept.step if self.best.progress.kept else None,
            "ending": self.best.ending,
            "seeds": [{"seed": run.seed, "scores": run.scores, "steps": run.progress.step} for run in self.runs],
            "spread": {name: {"mean": mean, "deviation": deviation} for name, (mean, deviation) in self.spread.items()},
            "loss": self.loss.model_dump(mode="json"),
            "skipped": list(self.skipped),
            "seconds": round(self.seconds, 3),
            "config": self.config.model_dump(mode="json"),
        }


def train_model(config: TrainConfig, report: Report) -> TrainResult:
    """Train a model on a dataset, and save it.

    Labels, where there are any, fit the linear probe, name the clusters and measure; they never train the code, unless
    the loss says so (`use_true_labels`).

    Raises:
        StegoError: If the dataset, the weights or the settings do not allow it, or the training goes astray.
        KeyboardInterrupt: After Ctrl-C, once what can be kept is kept.
    """
    started = time.perf_counter()
    check_watchers(config)
    ranks = start_ranks(config)
    config = config.model_copy(update={"device": str(ranks.device)})
    listener = Listener(report if ranks.rank == 0 else Silence())
    with ranks.bound(), ExitStack() as held:
        plan = make_plan(config, listener)
        model = target_of(config, plan.run.dataset)
        folder = model.with_suffix(".run")
        places = {seed: _place(config, model, folder, seed) for seed in _seeds(config)}
        ranks.together(lambda: _take(held, plan, model, places, listener))
        runs, loss = _train_all(plan, places, ranks, started, listener)
        if ranks.rank:
            return TrainResult(model, folder, config, loss, tuple(runs), runs[0], (), 0.0, ranks.rank)
        best = max(runs, key=lambda run: run.scores.get(SCORE, -math.inf))
        if config.seeds > 1:
            _copy(best.model, model)
        if len(runs) > 1:
            listener.note(f"seed {best.seed} has the best label-free score of {len(runs)} and is kept")
        seconds = time.perf_counter() - started
        skipped = tuple(listener.skipped)
        result = TrainResult(model, folder, config, loss, tuple(runs), best, skipped, seconds)
        _draw(result, listener)
        _write_record(result, plan)  # last: a run that has one is finished
    return result


def _seeds(config: TrainConfig) -> range:
    return range(config.seed, config.seed + config.seeds)


def _place(config: TrainConfig, model: Path, folder: Path, seed: int) -> Place:
    """Return the files of one seed: those of the run itself, or, of several, a folder for each."""
    if config.seeds == 1:
        return Place(model, folder)
    own = folder / f"seed-{seed}"
    return Place(own / "model.safetensors", own)


def _take(held: ExitStack, plan: Plan, model: Path, places: Mapping[int, Place], report: Report) -> None:
    """Keep other runs out while `held` is open, and only then look at what is there, or make way."""
    folder = model.with_suffix(".run")
    held.enter_context(workplace(folder))
    look_before(plan.config, plan.settings, model, places, report)
    remove_unfinished(folder, below=True)


def _train_all(
    plan: Plan, places: Mapping[int, Place], ranks: Ranks, started: float, report: Report
) -> tuple[list[SeedResult], LossConfig]:
    """Train every seed, one after the other, on the same features and neighbours, until the time is up."""
    config = plan.config
    ends_at = math.inf if config.minutes is None else started + 60 * config.minutes
    yardstick, loss = make_yardstick(plan, ranks, report)
    runs = []
    for seed, place in places.items():
        if config.seeds > 1:
            report.note(f"seed {seed}")
        settings = {**plan.settings, "seed": seed, "world": ranks.world}
        job = replace(_job(plan, yardstick, loss, place, ranks, settings, report), ends_at=ends_at)
        with watchers(config, place, seed, ranks.rank, report) as watching:
            progress, ending = run_job(replace(job, watchers=watching), report)
        runs.append(SeedResult(seed, progress, ending, place.model))
        if ending == "minutes":
            of_seed = f" of seed {seed}" if config.seeds > 1 else ""
            report.note(f"time is up after step {progress.step} of {config.steps}{of_seed}; the same command goes on")
            break
    return runs, loss


def _job(
    plan: Plan,
    yardstick: Yardstick,
    loss: LossConfig,
    place: Place,
    ranks: Ranks,
    settings: dict[str, Any],
    report: Report,
) -> Job:
    seed = settings["seed"]
    supply = replace(yardstick.supply, seed=seed, loss=loss)
    supply = with_fitted(yardstick.config, plan.run, supply, ranks, report)
    return Job(
        config=for_probes_alone(yardstick.config),
        seed=seed,
        loss=loss,
        supply=supply,
        yardstick=replace(yardstick, supply=supply),
        place=place,
        ranks=ranks,
        settings=settings,
        autocast=head_autocast(yardstick.config, ranks.device),
    )


def _copy(source: Path, target: Path) -> None:
    with atomic_write(target) as file, source.open("rb") as read:
        shutil.copyfileobj(read, file)


def _write_record(result: TrainResult, plan: Plan) -> None:
    """Write what the run was and what came of it, with all that one needs to do it again."""
    backbone = plan.run
    content = {
        **result.to_json(),
        "history": {str(run.seed): run.progress.history for run in result.runs},
        "measured": {
            str(run.seed): [{"step": each.step, **each.values} for each in run.progress.measured] for run in result.runs
        },
        "training_seconds": {str(run.seed): round(run.progress.seconds, 3) for run in result.runs},
        "provenance": {
            "dataset": backbone.dataset.slug,
            "images": len(backbone.dataset),
            "images_sha256": plan.settings["images"],
            "backbone_sha256": backbone.weights_hash,
        },
        "versions": {
            "stego": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "processes": rank_and_world()[1],
        "threads": torch.get_num_threads(),
    }
    write_text(record_of(result.model), json.dumps(_plain(content), indent=2) + "\n")


def _plain(value: Any) -> Any:
    """Return a value without numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _draw(result: TrainResult, report: Report) -> None:
    """Draw the loss curve of every seed; a missing package takes nothing away from the model."""
    for run in result.runs:
        progress = run.progress
        rows = [*progress.history, progress.unfinished_row()] if progress.window_steps else progress.history
        if not rows:
            continue
        folder = result.folder if result.config.seeds == 1 else run.model.parent
        name = printable("/".join(result.model.with_suffix("").parts[-2:]))
        try:
            draw_loss_curve(rows, folder / "losses.png", f"{name}, seed {run.seed}")
        except MissingDependencyError as error:
            report.note(str(error).replace("\n\nhint: ", "; "))
            return
