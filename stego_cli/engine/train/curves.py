"""Curves of a training run for TensorBoard."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from stego_cli.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


@contextmanager
def tensorboard_curves(folder: Path, *, wanted: bool) -> Iterator[list[Callable[[int, Mapping[str, float]], None]]]:
    """Open a writer of scalars below a run's folder, and give what listens to the run; nothing if it is not wanted.

    Raises:
        MissingDependencyError: If it is wanted and TensorBoard is not installed.
    """
    if not wanted:
        yield []
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingDependencyError(
            "--tensorboard needs TensorBoard, which is not installed\n\nhint: pip install tensorboard"
        ) from error
    with SummaryWriter(str(folder / "tensorboard")) as writer:

        def listen(step: int, values: Mapping[str, float]) -> None:
            for name, value in values.items():
                writer.add_scalar(name.replace(" ", "/"), value, step)

        yield [listen]
