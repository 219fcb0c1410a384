"""The run of one seed: steps, and now and then a line of the history, a measurement, a state to go on from."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from stego_cli.checkpoints.native import load_checkpoint, save_checkpoint
from stego_cli.engine.train.batches import prepared_steps
from stego_cli.engine.train.compiled import compile_step, pays
from stego_cli.engine.train.measure import measure
from stego_cli.engine.train.ranks import InType
from stego_cli.engine.train.refit import refit_probes
from stego_cli.engine.train.state import Measured, Progress, load_state, save_state
from stego_cli.engine.train.step import build_train_state, reset_probes, train_step
from stego_cli.engine.train.stop import stop_requests
from stego_cli.engine.train.watch import show_measurement
from stego_cli.errors import StegoError
from stego_cli.files import printable
from stego_cli.progress import ShowsLosses

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import torch
    from torch import Tensor

    from stego_cli.config.losses import LossConfig
    from stego_cli.config.train import TrainConfig
    from stego_cli.engine.train.batches import Supply
    from stego_cli.engine.train.measure import Yardstick
    from stego_cli.engine.train.ranks import Ranks
    from stego_cli.engine.train.step import TrainState
    from stego_cli.engine.train.stop import StopRequest
    from stego_cli.engine.train.watch import Watcher
    from stego_cli.progress import Report

LOG_EVERY = 20  # steps between rows of the history; the only ones that wait for the device
Ending = Literal["done", "minutes", "stopped"]
SHOWN = ("total", "self", "knn", "random", "cluster", "linear")  # terms in the live view


@dataclass(frozen=True)
class Place:
    """The files of a run.

    Attributes:
        model: The model that is kept.
        folder: All that belongs to it.
    """

    model: Path
    folder: Path

    @property
    def state(self) -> Path:
        """What the run can go on from."""
        return self.folder / "state.safetensors"

    @property
    def last(self) -> Path:
        """The model as it is after the last step."""
        return self.folder / "last.safetensors"


@dataclass(frozen=True)
class Job:
    """The run of one seed.

    Attributes:
        config: Its settings, with the loss that is really used.
        seed: Its seed.
        loss: The loss.
        supply: What steps are made from.
        yardstick: What models are measured with.
        place: Its files.
        ranks: The processes that share it.
        settings: What the result depends on.
        autocast: Type of the head's arithmetic; None is float32.
        watchers: Shown every row of the history and every measurement.
        ends_at: When its time is up, of `time.perf_counter`.
    """

    config: TrainConfig
    seed: int
    loss: LossConfig
    supply: Supply
    yardstick: Yardstick
    place: Place
    ranks: Ranks
    settings: dict[str, object]
    autocast: torch.dtype | None = None
    watchers: Sequence[Watcher] = ()
    ends_at: float = math.inf


def run_job(job: Job, report: Report) -> tuple[Progress, Ending]:
    """Train until all steps are done, the time is up, or somebody wants it to stop; go on from a state if there is one.

    Raises:
        StegoError: If a loss is no number; the last good state is kept. Also if something cannot be read or written.
        KeyboardInterrupt: After Ctrl-C, once the state is saved.
    """
    state, progress = _state(job, report)
    left = job.config.steps - progress.step
    if pays(job.config.compile, job.ranks.device, left, job.ranks.world):
        report.note("compiling the training step, which takes a minute or so (--compile off does without)")
        compile_step(state, lambda: job.supply.given(job.supply.prepare(progress.step), job.ranks.device), report)
    backward = job.ranks.spread(state)
    with stop_requests() as request:
        ending = _steps(job, state, progress, backward, request, report)
    if ending == "stopped":
        _save(job, state, progress)
        if job.ranks.rank == 0:
            report.note(f"saved after step {progress.step} of {job.config.steps}")
        raise KeyboardInterrupt
    if progress.kept is None or progress.measured[-1].step != progress.step:
        _measure(job, state, progress, report)
    if job.config.final_probes == "refit":
        _refit(job, progress, report)
    _save(job, state, progress)
    return progress, ending


def fresh_state(job: Job) -> TrainState:
    """Return the state before the first step, on the CPU."""
    config, labels = job.config, job.supply.labels
    return build_train_state(
        config.method,
        job.loss,
        config.optimiser,
        job.supply.backbone.channels,
        job.yardstick.clusters,
        None if labels is None else len(job.yardstick.space),
        job.seed,
    )


def _state(job: Job, report: Report) -> tuple[TrainState, Progress]:
    """Return a fresh state, or the one that was saved."""
    state = fresh_state(job).to(job.ranks.device)
    if job.autocast is not None:
        state.model = InType(state.trainee, job.autocast)
    if job.place.state.is_file():
        progress = load_state(job.place.state, state)
        _check_kept(job, progress, report)
        return state, progress
    return state, Progress(dict(job.settings))


def _check_kept(job: Job, progress: Progress, report: Report) -> None:
    """Forget the model that was kept if it is not there any more, so that another one is kept in its place."""
    if progress.kept is None:
        return
    try:
        load_checkpoint(job.place.model)
    except StegoError:
        report.note(
            f"`{printable(job.place.model)}`, the model of step {progress.kept.step}, is gone or damaged; "
            "the best one from here on is kept instead"
        )
        progress.kept = progress.refitted = None


def _steps(
    job: Job,
    state: TrainState,
    progress: Progress,
    backward: Callable[[Tensor], None],
    request: StopRequest,
    report: Report,
) -> Ending:
    """Do the steps that are left."""
    config, first, device = job.config, progress.step, job.ranks.device
    before, started = progress.seconds, time.perf_counter()
    steps = prepared_steps(job.supply, first, config.steps, config.workers, device)
    for prepared in report.track(steps, "Training", total=max(config.steps - first, 0)):
        if prepared.number == config.reset_probes_at:
            reset_probes(state, job.seed)
        _count(progress, train_step(state, job.supply.given(prepared, device), prepared.number, backward))
        progress.step = prepared.number + 1
        progress.seconds = before + time.perf_counter() - started
        if progress.step % LOG_EVERY == 0:
            _refuse_bad(job, state, progress)
            _log(job, progress, report)
        measures = bool(config.eval_every) and progress.step % config.eval_every == 0
        if measures or progress.step % config.checkpoint_every == 0:
            _refuse_bad(job, state, progress)
            if measures:
                _measure(job, state, progress, report)
            _save(job, state, progress)  # also after a measurement: the state says of which step the kept model is
        if progress.step % (LOG_EVERY if job.ranks.world > 1 else 1) == 0 and progress.step < config.steps:
            if job.ranks.any(request.wanted):
                return "stopped"
            if config.minutes is not None and job.ranks.any(time.perf_counter() > job.ends_at):
                return "minutes"
    _refuse_bad(job, state, progress)
    return "done"


def _count(progress: Progress, terms: dict[str, Tensor]) -> None:
    """Add the terms of one step to those since the last row of the history; nothing waits for the device."""
    window = progress.window
    progress.window = {name: window[name] + term if name in window else term for name, term in terms.items()}
    progress.window_steps += 1


def _log(job: Job, progress: Progress, report: Report) -> None:
    """Write a row of the history: means since the one before."""
    row = progress.unfinished_row()
    progress.history.append(row)
    progress.window, progress.window_steps = {}, 0
    if isinstance(report, ShowsLosses):
        report.losses(progress.step, {name: row[name] for name in SHOWN if name in row})
    for watcher in job.watchers:
        watcher.scalars(progress.step, {name: value for name, value in row.items() if name != "step"})


def _refuse_bad(job: Job, state: TrainState, progress: Progress) -> None:
    """End the run if a loss was no number, with the state before that step.

    Raises:
        StegoError: Names the step and its images.
    """
    bad = state.bad_step()
    if bad is None:
        return
    # Nothing was updated since, so what there is now is the state before that step.
    progress.step, progress.window, progress.window_steps = bad, {}, 0
    _save(job, state, progress)
    samples = job.supply.dataset.samples
    names = ", ".join(f"`{printable(samples[image].name)}`" for image in job.supply.images(bad))
    rate = "lr" if job.config.method.learns else "probe_lr"
    raise StegoError(
        f"the loss or its gradient was no finite number at step {bad}, with the images {names}\n\n"
        f"hint: the state before it is kept in `{printable(job.place.state)}`; look at these images with `stego info "
        f"dataset`, or start anew with --overwrite --set optimiser.{rate}={getattr(job.config.optimiser, rate) / 10:g}"
    )


def _measure(job: Job, state: TrainState, progress: Progress, report: Report) -> None:
    """Measure the model, and keep it if it is the best so far; one process does so, the others wait."""
    if job.ranks.rank == 0:
        checkpoint, values = measure(job.yardstick, state.trainee, job.seed, report)
        found = Measured(progress.step, values)
        if progress.measured and progress.measured[-1].step == found.step:
            progress.measured.pop()
        progress.measured.append(found)
        for watcher in job.watchers:
            watcher.scalars(progress.step, values)
        show_measurement(job.watchers, progress.step, job.yardstick, state.trainee, checkpoint)
        by = job.yardstick.keeps_by
        if _is_better(found, progress.kept, by):
            progress.kept, progress.refitted = found, None
            save_checkpoint(checkpoint, job.place.model)
        save_checkpoint(checkpoint, job.place.last)
        _say(f"step {progress.step}", found, report)
    else:
        progress.kept = Measured(progress.step, {})  # so that all know what has been measured
        progress.measured.append(progress.kept)
    job.ranks.wait()


def _is_better(found: Measured, kept: Measured | None, by: str) -> bool:
    """Say whether a measurement is better than the best so far; equal ones and missing values go to the later one."""
    if kept is None or not by or by not in found.values or by not in kept.values:
        return True
    return found.values[by] >= kept.values[by]


def _refit(job: Job, progress: Progress, report: Report) -> None:
    """Fit the probes of the kept model anew, if they are not yet, measure it and keep it so; one process does it.

    The code is that of the kept model, so that doing it again gives the same. Probes that were trained go on from the
    state if the run does.
    """
    if job.ranks.rank == 0 and progress.kept is not None and progress.refitted is None:
        # A state of its own: the trained probes stay as they are.
        trainee = fresh_state(job).trainee.to(job.ranks.device)
        tensors = load_checkpoint(job.place.model).tensors
        head = trainee.objective.head
        head.load_state_dict({name: tensors[f"head.{name}"] for name in head.state_dict()})
        tightness = refit_probes(job.yardstick, trainee, job.seed)
        checkpoint, values = measure(job.yardstick, trainee, job.seed, report)
        progress.refitted = Measured(progress.kept.step, values)
        save_checkpoint(checkpoint, job.place.model)
        _say(f"probes fitted anew to the code of step {progress.kept.step}", progress.refitted, report)
        report.note(f"cosine of codes to their centroids: {tightness:.4f}")
    job.ranks.wait()


def _say(when: str, found: Measured, report: Report) -> None:
    words = ", ".join(f"{name} {100 * value:.2f} %" for name, value in found.values.items())
    report.note(f"{when}: {words}")


def _save(job: Job, state: TrainState, progress: Progress) -> None:
    if job.ranks.rank == 0:
        save_state(state, progress, job.place.state)
    job.ranks.wait()
