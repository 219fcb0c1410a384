"""Cells at work: in this process, or several at a time, each in a process of its own.

Processes are started anew (`spawn`), as CUDA and OpenMP do not survive a fork. One that ends in the middle, perhaps
because memory ran out, costs the cell it was at, and another takes its place. None outlives this process: each of them
watches it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Self, cast

import torch

from stego_cli.config.fields import usable_cores
from stego_cli.engine.ablate.cell import run_cell
from stego_cli.engine.ablate.ground import open_ground
from stego_cli.engine.ablate.projection import slow_code
from stego_cli.engine.device import choose_device, is_out_of_memory
from stego_cli.errors import DeviceError, OutputError, StegoError
from stego_cli.progress import Silence

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess
    from pathlib import Path

    from stego_cli.config.ablate import AblateConfig
    from stego_cli.engine.ablate.grid import Cell
    from stego_cli.engine.ablate.ground import Ground, OpenGround

    _Connection = Connection[Any, Any]


@dataclass(frozen=True)
class Task:
    """What a process is asked to do.

    Attributes:
        cell: Which cell.
        ground: Its ground.
        keep: Model file to save; None saves none.
        only_code: Find the code of a slow method, and do nothing else.
    """

    cell: Cell
    ground: Ground
    keep: Path | None = None
    only_code: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes:
        task: Which.
        found: What the record of the cell holds; None if it failed.
        error: What went wrong, in words.
        trace: Where, if that is our bug.
        fatal: Whether nothing else can be done either, as on a full disk.
    """

    task: Task
    found: dict[str, Any] | None = None
    error: str = ""
    trace: str = ""
    fatal: OutputError | None = None


@dataclass
class Bench:
    """Does one task after another; the last ground stays open.

    Attributes:
        config: Settings of the grid.
        device: Where it computes.
        jobs: How many of its kind are at work.
    """

    config: AblateConfig
    device: str
    jobs: int = 1
    _open: OpenGround | None = field(default=None, init=False)

    def __call__(self, task: Task) -> Outcome:
        """Do a task; whatever goes wrong is told in the outcome."""
        try:
            ground = self._ground(task.ground)
            if task.only_code:
                method = self.config.method_config(task.cell.method, task.cell.dim)
                slow_code(ground, method, Silence())
                return Outcome(task, {})
            return Outcome(task, run_cell(self.config, ground, task.cell, task.keep))
        except OutputError as error:
            return Outcome(task, error=str(error), fatal=error)
        except StegoError as error:
            return Outcome(task, error=str(error))
        except Exception as error:  # noqa: BLE001 - the other cells go on, and this one is named at the end
            if is_out_of_memory(error):
                return Outcome(task, error="memory ran out\n\nhint: use fewer --jobs, or a smaller train.batch_size")
            return Outcome(task, error=f"{type(error).__name__}: {error}", trace=traceback.format_exc())

    def _ground(self, ground: Ground) -> OpenGround:
        if self._open is None or self._open.ground != ground:
            self._open = None  # the memory of one is given back before another is opened
            self._open = open_ground(self.config, ground, torch.device(self.device), self.jobs, Silence())
        return self._open


def slots(config: AblateConfig) -> list[str]:
    """Return a device for each cell that can be at work at the same time.

    Raises:
        DeviceError: If there is no such device.
    """
    device = choose_device(config.device)
    if device.type == "cuda" and config.device in {"auto", "cuda"}:
        present = torch.cuda.device_count()
        if config.devices is not None and config.devices > present:
            raise DeviceError(f"there are {present} GPUs for {config.devices} devices\n\nhint: use fewer --devices")
        return [f"cuda:{number}" for number in range(config.devices or present)]
    if device.type == "cpu":
        return ["cpu"] * (config.jobs or usable_cores())
    return [str(device)]


class Crew:
    """Does tasks, as many at a time as there are places. Used as a context, which ends all processes.

    Args:
        config: Settings of the grid.
        places: A device for each task that is at work at the same time; a single one means in this process.
    """

    def __init__(self, config: AblateConfig, places: Sequence[str]) -> None:
        self.config, self.places = config, places
        self._bench: Bench | None = None
        self._team: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._team:
            worker.stop()

    def do(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Do all tasks and yield what became of each, in the order in which they are finished."""
        if len(self.places) < 2:
            for task in tasks:
                self._bench = self._bench or Bench(self.config, self.places[0])
                yield self._bench(task)
            return
        waiting = deque(tasks)
        self._start(len(tasks))
        for worker in self._team:
            worker.give(waiting)
        while busy := [worker for worker in self._team if worker.task is not None]:
            ready = cast("list[_Connection]", wait([worker.connection for worker in busy]))
            for worker in busy:
                if worker.connection in ready:
                    outcome = worker.answer()
                    worker.give(waiting)
                    yield outcome

    def _start(self, wanted: int) -> None:
        """Start the processes that are missing: one for each place, but no more than there are tasks."""
        count = len(self.places)
        # Among several, each reads with a thread of its own.
        config = self.config.model_copy(update={"workers": min(self.config.workers, 1)})
        for place in self.places[len(self._team) : wanted]:
            self._team.append(_Worker(Bench(config, place, count), max(usable_cores() // count, 1)))


@dataclass
class _Worker:
    """A process at work, as this one sees it."""

    bench: Bench
    threads: int
    task: Task | None = None

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start the process."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self.connection: _Connection = ours
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(theirs, self.bench, self.threads), daemon=True
        )
        with _threads_of_children(self.threads):
            self.process.start()
        theirs.close()

    def give(self, waiting: deque[Task]) -> None:
        """Give it the next task, if there is one."""
        self.task = waiting.popleft() if waiting else None
        if self.task is not None:
            if not self.process.is_alive():
                self.start()
            with suppress(OSError):  # that it has ended shows where its answer is read
                self.connection.send(self.task)

    def answer(self) -> Outcome:
        """Return what became of its task."""
        if self.task is None:
            raise AssertionError("nobody asked it")
        try:
            outcome: Outcome = self.connection.recv()
        except (EOFError, OSError):
            self.stop()
            why = f"its process was ended{_signal_of(self.process)}, perhaps because memory ran out"
            return Outcome(self.task, error=f"{why}\n\nhint: use fewer --jobs")
        return outcome

    def stop(self) -> None:
        """End the process, whatever it is at."""
        self.connection.close()
        self.process.terminate()
        self.process.join()


def _signal_of(process: SpawnProcess) -> str:
    code = process.exitcode
    return f" by signal {-code}" if code is not None and code < 0 else ""


@contextmanager
def _threads_of_children(count: int) -> Iterator[None]:
    """Let processes that are started meanwhile use so many threads; libraries read it when they are loaded."""
    names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(count)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: _Connection, bench: Bench, threads: int) -> None:
    """Do what comes through the pipe until it ends: what a worker does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; ending them is up to the first one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    with suppress(EOFError, OSError):
        while True:
            connection.send(bench(connection.recv()))


def _end_with_parent() -> None:
    """Wait for the end of the process that started this one, then end at once: nobody waits for the result."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
