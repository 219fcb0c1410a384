"""`stego ablate run` from end to end: a grid becomes a file of results, a line for each cell."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from stego_cli import __version__
from stego_cli.config.model import PcaConfig
from stego_cli.engine.ablate.checkpoints import key_of, measure_checkpoint
from stego_cli.engine.ablate.ground import prepare_ground
from stego_cli.engine.ablate.plan import AblationPlan, make_ablation_plan, settings_of
from stego_cli.engine.ablate.projection import explained_variance, fitted_method, is_slow
from stego_cli.engine.ablate.workers import Crew, Outcome, Task
from stego_cli.engine.listener import Listener
from stego_cli.engine.workplace import workplace
from stego_cli.errors import OutputError, StegoError
from stego_cli.files import printable, write_text
from stego_cli.report.ablation_results import DONE, FAILED, FORMAT, VARIANCE_NAME, Line, read_variance

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stego_cli.config.ablate import AblateConfig, CheckpointRow
    from stego_cli.engine.ablate.grid import Cell
    from stego_cli.engine.ablate.ground import OpenGround
    from stego_cli.engine.ablate.plan import GroundPlan
    from stego_cli.progress import Report

_PACKAGES = ("torch", "timm", "numpy", "scipy")


@dataclass(frozen=True)
class AblationResult:
    """What a run made.

    Attributes:
        folder: Of the results.
        lines: Of the cells of this grid, in order.
        done: How many cells this run did; the others were there.
        skipped: A line for each image or label map that could not be used.
        seconds: Wall time.
    """

    folder: Path
    lines: tuple[Line, ...]
    done: int
    skipped: tuple[str, ...]
    seconds: float

    @property
    def failed(self) -> list[Line]:
        """The cells that could not be done."""
        return [line for line in self.lines if line["status"] == FAILED]

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "out": printable(self.folder),
            "cells": len(self.lines),
            "done_now": self.done,
            "failed": [{"key": line["key"], "error": line["error"]} for line in self.failed],
            "skipped": list(self.skipped),
            "seconds": round(self.seconds, 3),
            "results": [line for line in self.lines if line["status"] == DONE],
        }


def run_ablation(config: AblateConfig, report: Report) -> AblationResult:
    """Do all cells of a grid that are not done yet.

    A cell that fails is recorded with its error, and the others go on.

    Raises:
        StegoError: If datasets, weights or settings do not allow the grid, or results cannot be written.
        KeyboardInterrupt: After Ctrl-C; what is finished is kept.
    """
    started = time.perf_counter()
    listener = Listener(report)
    plan = make_ablation_plan(config, listener)
    left = set(plan.left)
    with workplace(plan.out):
        plan.results.begin(overwrite=config.overwrite)
        if config.overwrite:
            (plan.out / VARIANCE_NAME).unlink(missing_ok=True)
        if plan.results.lines:
            listener.note(f"{len(plan.keys) - len(left)} of {len(plan.keys)} cells are done; going on with the others")
        tasks = [task for each in plan.grounds for task in _prepared(plan, each, left, listener)]
        for row in plan.rows:
            if key_of(row) in left:
                plan.results.add(_row_line(plan, row, listener))
        with Crew(config, plan.places) as crew:
            _do_cells(plan, crew, tasks, listener)
        plan.results.settle(plan.keys)
    lines = tuple(plan.results.lines[key] for key in plan.keys)
    return AblationResult(plan.out, lines, len(left), tuple(listener.skipped), time.perf_counter() - started)


def _prepared(plan: AblationPlan, each: GroundPlan, left: set[str], report: Report) -> list[Task]:
    """Compute what the cells of a ground share, and return them as tasks; nothing for a ground that is done."""
    cells = [cell for cell in each.grid.cells if cell.key in left]
    config = plan.config
    if not cells:
        return []
    ground = prepare_ground(config, each.ground, each.plan, report)
    _share_fits(config, ground, cells, report)
    _write_variance(plan, ground, report)
    models = plan.out / "models"
    return [
        Task(cell, ground.ground, models / f"{cell.key.replace('/', '-')}.safetensors" if config.keep_models else None)
        for cell in cells
    ]


def _share_fits(config: AblateConfig, ground: OpenGround, cells: Sequence[Cell], report: Report) -> None:
    """Fit what cells share, before several processes would all do so; slow ones are fitted by them."""
    for method in dict.fromkeys(cell.method for cell in cells):
        first = next(cell for cell in cells if cell.method == method)
        settings = config.method_config(method, first.dim)
        if settings.learns or is_slow(settings):
            continue
        try:
            fitted_method(ground, settings, first.seed, report)
        except OutputError:
            raise
        except StegoError as error:  # each of its cells says so again
            report.warn(f"{method}: {error}")


def _write_variance(plan: AblationPlan, ground: OpenGround, report: Report) -> None:
    """Write how much of the variance each principal axis explains, beside the results."""
    path = plan.out / VARIANCE_NAME
    known = read_variance(plan.out)
    method = plan.config.method_config("pca", 1)
    if "pca" not in plan.config.methods or ground.ground.name in known or not isinstance(method, PcaConfig):
        return
    try:
        ratio = explained_variance(ground, method, report)
    except StegoError as error:
        report.warn(f"explained variance: {error}")
        return
    dataset = printable(ground.plan.run.dataset.name)
    known[ground.ground.name] = {"dataset": dataset, "backbone": ground.ground.backbone.name, "ratio": ratio}
    write_text(path, json.dumps(known, indent=1) + "\n")


def _do_cells(plan: AblationPlan, crew: Crew, tasks: Sequence[Task], report: Report) -> None:
    """Do all tasks, and write a line for each as soon as it is done."""
    waiting = {task.cell.key: task for task in tasks}
    for failed in _slow_first(plan, crew, tasks, report):
        for key in [key for key, task in waiting.items() if _embedding_of(task) == _embedding_of(failed.task)]:
            task = waiting.pop(key)
            plan.results.add(_line(plan, replace(failed, task=task)))
    for outcome in report.track(crew.do(list(waiting.values())), "Cells", total=len(waiting)):
        if outcome.fatal is not None:
            raise outcome.fatal
        line = _line(plan, outcome)
        plan.results.add(line)
        del waiting[line["key"]]
        _say(plan, line, list(waiting), report)


def _slow_first(plan: AblationPlan, crew: Crew, tasks: Sequence[Task], report: Report) -> list[Outcome]:
    """Find the codes of slow methods, each once for all seeds; return what failed."""
    once: dict[tuple[str, str, int], Task] = {}
    for task in tasks:
        if is_slow(plan.config.method_config(task.cell.method, task.cell.dim)):
            once.setdefault(_embedding_of(task), replace(task, only_code=True))
    failed = []
    for outcome in report.track(crew.do(list(once.values())), "Embeddings", total=len(once)):
        if outcome.fatal is not None:
            raise outcome.fatal
        if outcome.found is None:
            failed.append(outcome)
    return failed


def _embedding_of(task: Task) -> tuple[str, str, int]:
    return task.ground.name, task.cell.method, task.cell.dim


def _line(plan: AblationPlan, outcome: Outcome) -> Line:
    """Return the record of a cell."""
    cell = outcome.task.cell
    dataset = next(each.plan.run.dataset for each in plan.grounds if each.ground.name == cell.ground)
    line = {
        "format": FORMAT,
        "key": cell.key,
        "status": DONE if outcome.found is not None else FAILED,
        "dataset": printable(dataset.name),
        "backbone": outcome.task.ground.backbone.name,
        "method": cell.method,
        "dim": cell.dim,
        "seed": cell.seed,
        **(outcome.found or {"error": printable(outcome.error)}),
        **({"trace": printable(outcome.trace)} if outcome.trace else {}),
    }
    return line | _about(plan.config)


def _row_line(plan: AblationPlan, row: CheckpointRow, report: Report) -> Line:
    """Measure a finished model and return the record of it."""
    line: Line = {
        "format": FORMAT,
        "key": key_of(row),
        "status": DONE,
        "checkpoint": printable(row.model),
        "method": row.method,
        "seed": None,
    }
    try:
        found = measure_checkpoint(plan.config, row, report)
        return line | found | _about(plan.config)
    except OutputError:
        raise
    except StegoError as error:
        report.note(f"{row.model} on {row.dataset} failed: {str(error).partition(chr(10))[0]}")
        failed = {"status": FAILED, "dataset": printable(row.dataset), "backbone": "", "dim": 0}
        return line | failed | {"error": printable(str(error))} | _about(plan.config)


def _about(config: AblateConfig) -> dict[str, Any]:
    versions = {"stego": __version__, "python": platform.python_version()} | {name: version(name) for name in _PACKAGES}
    return {"settings": settings_of(config), "versions": versions}


def _say(plan: AblationPlan, line: Line, waiting: Sequence[str], report: Report) -> None:
    """Say what came of a cell, and about how long the others take."""
    if line["status"] == FAILED:
        report.note(f"{line['key']} failed: {line['error'].partition(chr(10))[0]}")
        return
    seconds = line["seconds"]["total"]
    plan.pace.done(line["key"], seconds)
    left = plan.pace.left(waiting)
    scores = ", ".join(
        f"{head} {100 * line[head]['miou']:.1f}" for head in ("cluster", "linear") if line[head]["miou"] is not None
    )
    rest = f"; {len(waiting)} to go, about {left:.0f} s" if waiting else ""
    report.note(f"{line['key']}: mIoU {scores} ({seconds:.1f} s{rest})")
