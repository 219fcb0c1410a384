"""A store in a local folder."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import time
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from stego_cli.errors import StegoError
from stego_cli.files import TEMPORARY, output_error, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from stego_cli.features.place import Piece

_ABANDONED_S = 3600.0  # nobody writes at one shard for as long


class LocalPlace:
    """A folder of this machine, or one that it has mounted.

    Args:
        folder: Need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def __str__(self) -> str:
        return printable(self.folder)

    def prepare(self) -> None:
        """Make the folder and sweep it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in self.folder.glob(f"{TEMPORARY}*"):
                if _is_abandoned(path):
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise output_error(self.folder, error) from error

    def sizes(self) -> Mapping[str, int]:
        """Look into the folder; hidden files are passed over."""
        try:
            sizes = {}
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):  # removed in the meantime, or a link to nothing
                        if not entry.name.startswith("."):
                            sizes[entry.name] = entry.stat().st_size
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StegoError(
                f"cannot look into `{self}`: {error.strerror}\n\nhint: give a folder that you may read"
            ) from error
        return sizes

    def heads(self, names: Sequence[str], length: int) -> list[bytes]:
        """Read one file after another."""
        return [_head(self.folder / name, length) for name in names]

    def read(self, pieces: Sequence[Piece]) -> None:
        """Read without mapping files into memory: a mapped file that becomes shorter kills the process.

        Files are opened for each call, so that a store can be of any number of shards and sent to other processes.
        """
        for name, group in groupby(pieces, attrgetter("name")):
            with (self.folder / name).open("rb", buffering=0) as file:
                for piece in group:
                    file.seek(piece.start)
                    _fill(file, piece)

    def write(self, name: str, data: bytes) -> None:
        """Write under a temporary name that says who writes, so that `prepare` can tell what nobody will finish."""
        path = self.folder / name
        temporary = self.folder / f"{_own_temporaries()}{os.getpid()}-{secrets.token_hex(4)}"
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException as error:
            with suppress(OSError):
                temporary.unlink()
            if isinstance(error, OSError):
                raise output_error(path, error) from error
            raise

    def remove(self, names: Iterable[str]) -> None:
        """Remove one file after another."""
        for name in names:
            try:
                (self.folder / name).unlink(missing_ok=True)
            except OSError as error:
                raise output_error(self.folder / name, error) from error


def _own_temporaries() -> str:
    return f"{TEMPORARY}{socket.gethostname()}-"


def _is_abandoned(path: Path) -> bool:
    """Say whether nobody is writing a temporary file any more: its process has ended, or it has not grown for long."""
    try:
        if time.time() - path.stat().st_mtime > _ABANDONED_S:
            return True
    except OSError:
        return False  # finished in the meantime
    process = path.name.removeprefix(_own_temporaries()).partition("-")[0]
    if not path.name.startswith(_own_temporaries()) or not process.isdigit() or sys.platform == "win32":
        return False  # on Windows, asking after a process would end it
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _head(path: Path, length: int) -> bytes:
    with path.open("rb") as file:
        return file.read(length)


def _fill(file: Any, piece: Piece) -> None:
    """Fill a piece's memory from where the file stands; the system may give less than asked for at a time."""
    done = 0
    while done < len(piece.target):
        count = file.readinto(piece.target[done:])
        if not count:
            raise EOFError(piece.name)
        done += count
