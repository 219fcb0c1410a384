"""The output folder as a place to work in: writable, held by one run at a time, and not full of other people's work."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, get_args

from stego_cli.config.model import Probe
from stego_cli.engine.ledger import has_record, journal_of
from stego_cli.engine.outputs import PLACES
from stego_cli.errors import OutputError
from stego_cli.files import check_writable, output_error, printable, remove_unfinished

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


@contextmanager
def workplace(out: Path) -> Iterator[None]:
    """Make the output folder, see that it can be written to, and keep other runs out while the block lasts.

    What a killed run left half written is removed, and so are folders that were made for nothing.

    Raises:
        OutputError: If it cannot be written to, or another run is at work in it.
    """
    try:
        made = [folder for folder in (out, *out.parents) if not folder.exists()]
    except OSError as error:
        raise output_error(out, error) from error
    check_writable(out)
    with _alone_in(out):
        if journal_of(out).is_file():
            remove_unfinished(out)
            remove_unfinished(*_places(out), below=True)
        try:
            yield
        finally:
            for folder in made:
                with suppress(OSError):  # something is in it
                    folder.rmdir()


def result_folders(out: Path) -> list[Path]:
    """Return the folders below `out` that earlier runs wrote masks to, so that none is taken for a photograph."""
    return _places(out) if has_record(out) else []


def refuse_to_replace(out: Path, files: Iterable[str]) -> None:
    """Refuse to write over files in a folder in which no run of ours has left a record.

    Raises:
        OutputError: Names one of them. It may be a label map that somebody drew by hand.
    """
    if has_record(out):
        return
    there = [file for file in files if os.path.lexists(out / file)]
    if there:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise OutputError(
            f"`{printable(out / there[0])}`{more} would be replaced, and no record says that this tool wrote it\n\n"
            "hint: choose another folder with --out, or add --overwrite if it may go"
        )


def is_name_too_long(error: OutputError) -> bool:
    """Say whether a file could not be written because of its own name, which says nothing about the others."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENAMETOOLONG


def _places(out: Path) -> list[Path]:
    endings = ("", *(f"_{probe}" for probe in get_args(Probe)))
    return [out / f"{folder}{ending}" for folder, _ in PLACES.values() for ending in endings]


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Lock a folder; the lock goes with the process, however it ends. Where there are no such locks, do nothing."""
    if fcntl is None:
        yield
        return
    try:
        descriptor = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise output_error(out, error) from error
    try:
        with suppress(OSError):  # network folders may not know locks
            _lock(descriptor, out)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, out: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(
            f"another run is writing to `{printable(out)}`\n\n"
            "hint: wait until it has finished, or choose another folder with --out"
        ) from error
