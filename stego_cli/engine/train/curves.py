"""Those who may watch a training: TensorBoard, and Weights & Biases."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from stego_cli.engine.train.state import read_progress
from stego_cli.errors import MissingDependencyError, StegoError
from stego_cli.files import as_typed, output_error, printable, write_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stego_cli.config.train import TrainConfig
    from stego_cli.engine.train.loop import Place
    from stego_cli.engine.train.watch import Histogram, Watcher
    from stego_cli.progress import Report


def check_watchers(config: TrainConfig) -> None:
    """See that what is to watch is installed, before anything long starts.

    Raises:
        MissingDependencyError: If a package is missing; names what to install.
    """
    if config.tensorboard:
        _summary_writer()
    if config.wandb is not None:
        _wandb()


@contextmanager
def watchers(config: TrainConfig, place: Place, seed: int, rank: int, report: Report) -> Iterator[Sequence[Watcher]]:
    """Give those who are to watch a run, and let them finish when it ends.

    Args:
        config: Says who.
        place: Files of the run.
        seed: Of the run.
        rank: Number of this process; only the first one shows anything.
        report: Told where to look.

    Raises:
        OutputError: If what they write does not fit on the disk.
        StegoError: If Weights & Biases refuses the run.
    """
    folder = place.folder
    with ExitStack() as stack:
        found: list[Watcher] = []
        # What was shown of later steps is not true any more.
        steps_done = read_progress(place.state).step if place.state.is_file() else 0
        if config.tensorboard and rank == 0:
            found.append(stack.enter_context(tensorboard(folder / "tensorboard", steps_done)))
            report.note(f"curves: tensorboard --logdir {as_typed(folder / 'tensorboard')}")
        if config.wandb is not None and rank == 0:
            about = {**config.model_dump(mode="json"), "seed": seed}
            name = printable(f"{folder.parent.name}/{folder.stem}")
            found.append(stack.enter_context(weights_and_biases(config.wandb, name, folder, about, steps_done, report)))
        yield found


@contextmanager
def tensorboard(folder: Path, steps_done: int) -> Iterator[Watcher]:
    """Write event files for TensorBoard into a folder.

    Raises:
        OutputError: If they cannot be written.
    """
    with _quiet_threads():
        with _writing(folder):
            writer = _summary_writer()(str(folder), purge_step=steps_done + 1)
        try:
            yield _TensorBoard(writer, folder)
        finally:
            with _writing(folder):
                writer.close()


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Keep TensorBoard's threads from printing what went wrong with a file: the writer raises it where it is used."""
    before = threading.excepthook

    def hook(caught: threading.ExceptHookArgs) -> None:
        if not (issubclass(caught.exc_type, OSError) and type(caught.thread).__module__.startswith("tensorboard.")):
            before(caught)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


class _TensorBoard:
    def __init__(self, writer: Any, folder: Path) -> None:
        self._writer, self._folder = writer, folder

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        with _writing(self._folder):
            for name, value in values.items():
                self._writer.add_scalar(name.replace(" ", "/"), value, step)

    def histograms(self, step: int, found: Mapping[str, Histogram]) -> None:
        with _writing(self._folder):
            for name, histogram in found.items():
                self._writer.add_histogram(name, histogram.values, step, bins=histogram.edges)

    def pictures(self, step: int, found: Mapping[str, NDArray[np.uint8]]) -> None:
        with _writing(self._folder):
            for name, picture in found.items():
                self._writer.add_image(name, picture, step, dataformats="HWC")


@contextmanager
def weights_and_biases(
    project: str, name: str, folder: Path, about: Mapping[str, Any], steps_done: int, report: Report
) -> Iterator[Watcher]:
    """Log a run to Weights & Biases, as the environment says: `WANDB_MODE=offline` needs neither network nor account.

    A run that is gone on with goes on there, too.

    Args:
        project: Of whose runs it is one.
        name: Of the run.
        folder: What belongs to the run; keeps its identifier, and what could not be sent.
        about: Settings.
        steps_done: Whether it is gone on with.
        report: Told where to look.

    Raises:
        StegoError: If it is refused.
    """
    wandb = _wandb()
    known = folder / "wandb-run.txt"
    before = known.read_text("utf-8", "replace").strip() if steps_done and known.is_file() else ""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        run = wandb.init(
            project=project,
            name=name,
            id=before if before.isalnum() else None,
            resume="allow",
            dir=str(folder),
            config=dict(about),
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )
    except wandb.Error as error:
        raise StegoError(
            f"Weights & Biases refuses the run: {error}\n\n"
            "hint: log in with `wandb login`, set WANDB_MODE=offline to keep it on this machine, or leave out --wandb"
        ) from error
    write_text(known, f"{run.id}\n")
    report.note(f"Weights & Biases: {'offline, ' + printable(run.dir) if run.offline else run.url}")
    try:
        yield _WeightsAndBiases(wandb, run)
    finally:
        run.finish()


class _WeightsAndBiases:
    def __init__(self, wandb: Any, run: Any) -> None:
        self._wandb, self._run = wandb, run

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({name.replace(" ", "/"): value for name, value in values.items()}, step=step)

    def histograms(self, step: int, found: Mapping[str, Histogram]) -> None:
        counted = {name: np.histogram(each.values, each.edges) for name, each in found.items()}
        self._run.log({name: self._wandb.Histogram(np_histogram=each) for name, each in counted.items()}, step=step)

    def pictures(self, step: int, found: Mapping[str, NDArray[np.uint8]]) -> None:
        self._run.log({name: self._wandb.Image(picture) for name, picture in found.items()}, step=step)


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    """Say in words why something cannot be written."""
    try:
        yield
    except OSError as error:
        raise output_error(place, error) from error


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingDependencyError(
            "--tensorboard needs TensorBoard, which is not installed\n\nhint: pip install tensorboard"
        ) from error
    return SummaryWriter


def _wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise MissingDependencyError(
            "--wandb needs the package `wandb`, which is not installed\n\nhint: pip install 'stego-cli[wandb]'"
        ) from error
    return wandb
