"""One process at a time may fetch a file: two that write the same `.part` would mix their bytes."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from stego_cli.catalog.failures import DownloadError, cannot_write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def only_one(place: Path) -> Iterator[None]:
    """Hold the lock of a file; it ends with the process, however that ends. Windows has no such lock, and gets none.

    Raises:
        DownloadError: If another process holds it.
    """
    path = place.with_name(f".{place.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise cannot_write(path, error) from error
    with file:
        if not _taken(file, path):
            raise DownloadError(
                f"another process is fetching `{place.name}`\n\nhint: wait for it, then run the same command again"
            )
        try:
            yield
        finally:
            if sys.platform != "win32":  # where open files cannot be removed
                path.unlink(missing_ok=True)


def _taken(file: IO[bytes], path: Path) -> bool:
    """Try to take the lock; not one of a file that its holder has just removed."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
