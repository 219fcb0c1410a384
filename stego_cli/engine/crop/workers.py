"""Cutting images in several processes.

Processes, not threads: Pillow and NumPy hold Python's lock often enough that four threads were only 1.5 times as fast
as one on images of 480x360, where four processes are 2.9 times as fast (tests/bench/bench_crop.py). They are started
anew (`spawn`), never forked, so that it does not matter what else the program has loaded.

A worker ends when its pipe does, so none outlives the run for longer than the image at hand, even if that is killed.
Meanwhile it holds a lock, which the next run in the folder waits for.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, cast

from stego_cli.engine.crop.files import IMAGES, LABELS, folder_of, stamps_of, write_crop
from stego_cli.engine.crop.record import CroppedImage, SkippedImage
from stego_cli.errors import ImageError, OutputError, StegoError
from stego_cli.files import printable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess
    from pathlib import Path

    from stego_cli.data.crops import CropRule
    from stego_cli.data.dataset import Dataset, Sample

    Answer = CroppedImage | SkippedImage
    _Connection = Connection[Any, Any]

WORTH = 32  # images that make up for starting a process
_QUEUED = 2  # images that a worker has been given: the one at hand, and the next
_PATIENCE = 30.0  # seconds for workers of a killed run to end


@dataclass(frozen=True)
class Cutter:
    """Cuts one image after another; can be sent to another process.

    Attributes:
        rule: Where crops lie.
        quality: JPEG quality.
        out: The folder of the crops.
        dataset: The split, without its images: those come one by one.
        labelled: Give labels to every crop.
    """

    rule: CropRule
    quality: int
    out: Path
    dataset: Dataset
    labelled: bool

    def __call__(self, index: int, sample: Sample) -> Answer:
        """Cut the image of that number and write its crops; say why where it cannot be used.

        Raises:
            OutputError: If a crop cannot be written.
        """
        one = replace(self.dataset, samples=(sample,))
        try:
            image, label = stamps_of(sample)  # before it is read: a change in between shows in the next run
            pixels = one.image(0)
            class_ids = one.labels(0, pixels.shape[:2]) if self.labelled else None
            crops = self.rule.cut(pixels, class_ids, index, labelled=self.labelled)
        except ImageError as error:
            return SkippedImage(index, sample.name, str(error).split("\n\n", maxsplit=1)[0])
        except OSError as error:
            return SkippedImage(index, sample.name, f"cannot read `{error.filename}`: {error.strerror}")
        except MemoryError:
            return SkippedImage(index, sample.name, "there is not enough memory to cut it")
        folders = folder_of(self.out, IMAGES, one.split), folder_of(self.out, LABELS, one.split)
        sizes = [write_crop(crop, *folders, self.quality) for crop in crops]
        label_bytes = tuple(size for _, size in sizes) if self.labelled else ()
        return CroppedImage(index, sample.name, image, label, tuple(size for size, _ in sizes), label_bytes)


def cut_all(cutter: Cutter, images: Sequence[tuple[int, Sample]], workers: int) -> Generator[Answer, None, None]:
    """Cut images and yield what became of each, in the order in which they are finished.

    Args:
        cutter: Cuts one.
        images: Their numbers and files.
        workers: Most processes to start; with fewer than two, or for a few images, this one does it.

    Raises:
        OutputError: If a crop cannot be written.
        StegoError: If a worker was ended from outside.
    """
    count = min(workers, len(images) // WORTH)
    if count < 2:
        for image in images:
            yield cutter(*image)
        return
    with _workers(cutter, count) as connections:
        waiting = iter(images)
        given = dict.fromkeys(connections, 0)
        for connection in connections * _QUEUED:
            given[connection] += _give(connection, waiting)
        while any(given.values()):
            busy = [connection for connection, number in given.items() if number]
            for connection in cast("list[_Connection]", wait(busy)):
                answer = _answer(connection)
                given[connection] += _give(connection, waiting) - 1
                yield answer


def wait_for_workers(out: Path) -> None:
    """Wait until the workers of a run that was killed in this folder have ended.

    Raises:
        OutputError: If they take too long.
    """
    end = time.monotonic() + _PATIENCE
    with _locking(out) as folder:
        while folder is not None:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > end:
                    raise OutputError(
                        f"another run is writing to `{printable(out)}`\n\n"
                        "hint: wait until it has finished, or choose another folder with --out"
                    ) from error
                time.sleep(0.02)
            except OSError:  # network folders may not know locks
                return
            else:
                return


@contextmanager
def _locking(out: Path) -> Iterator[int | None]:
    """Open what workers lock; None where there is nothing, or no locks."""
    try:
        folder = None if fcntl is None else os.open(out / IMAGES[0], os.O_RDONLY)
    except OSError:
        folder = None
    try:
        yield folder
    finally:
        if folder is not None:
            os.close(folder)


@contextmanager
def _workers(cutter: Cutter, count: int) -> Iterator[list[_Connection]]:
    """Start processes that cut, and return the pipes to them; wait for them to end, which they do with their pipes."""
    context = multiprocessing.get_context("spawn")
    connections: list[_Connection] = []
    processes: list[SpawnProcess] = []
    try:
        with _interrupts_held():
            for _ in range(count):
                ours, theirs = context.Pipe()
                connections.append(ours)
                process = context.Process(target=_serve, args=(theirs, cutter), daemon=True)
                process.start()
                processes.append(process)
                theirs.close()
        yield connections
    finally:
        for connection in connections:
            connection.close()
        for process in processes:
            process.join()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back, and for good from processes that are started meanwhile: ending them is up to this one."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # started with the first process, it would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _give(connection: _Connection, images: Iterator[tuple[int, Sample]]) -> int:
    """Give a worker the next image; return how many that were."""
    image = next(images, None)
    if image is None:
        return 0
    with suppress(OSError):  # that it has ended shows where its answer is read
        connection.send(image)
    return 1


def _answer(connection: _Connection) -> Answer:
    """Read what became of an image.

    Raises:
        OutputError: If its crops could not be written.
        StegoError: If the worker has ended.
        RuntimeError: If there is a bug; has the worker's traceback.
    """
    try:
        answer = connection.recv()
    except (EOFError, OSError) as error:
        raise StegoError(
            "a process that cut images was ended, perhaps because memory ran out\n\n"
            "hint: run the same command again with fewer --workers; 0 does without other processes"
        ) from error
    if isinstance(answer, CroppedImage | SkippedImage):
        return answer
    if isinstance(answer, OutputError):
        raise answer
    raise RuntimeError(f"in a process that cut images:\n{answer}")


def _serve(connection: _Connection, cutter: Cutter) -> None:
    """Cut what comes through the pipe until it ends: what a worker does."""
    if not hasattr(signal, "pthread_sigmask"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    with _locking(cutter.out) as folder, suppress(EOFError, OSError):
        if folder is not None:
            with suppress(OSError):
                fcntl.flock(folder, fcntl.LOCK_SH)
        # Whoever starts after the end of this run has not waited for a lock that was not held yet.
        while parent is not None and parent.is_alive():
            connection.send(_tried(cutter, *connection.recv()))


def _tried(cutter: Cutter, index: int, sample: Sample) -> Answer | OutputError | str:
    """Return what became of an image, or what went wrong."""
    try:
        return cutter(index, sample)
    except OutputError as error:
        return error
    except Exception:  # noqa: BLE001  # shown by the other process
        return traceback.format_exc()
