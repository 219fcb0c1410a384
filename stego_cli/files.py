"""Files that are either whole or not there: written under a temporary name, flushed to disk, renamed."""

from __future__ import annotations

import errno
import os
import shlex
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from stego_cli.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPORARY = ".writing-"
"""How the names of half-written files begin; readers pass over hidden files."""

_REASONS = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.EROFS: "the file system is read-only",
    errno.EEXIST: "a part of the path is a file, not a folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "a folder is in its place",
    errno.ENAMETOOLONG: "the name is too long for this file system",
}


def output_error(path: Path, error: OSError) -> OutputError:
    """Turn what the system said about writing `path` into a message with a next step."""
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    hint = "free some space, then run the same command again" if full else "choose another place with --out"
    return OutputError(f"cannot write `{printable(path)}`: {reason}\n\nhint: {hint}")


def check_writable(folder: Path) -> None:
    """Make a folder, and see that files can be written into it, before it takes long to find out what to write.

    Raises:
        OutputError: If not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise output_error(folder, error) from error


def remove_unfinished(*folders: Path, below: bool = False) -> None:
    """Remove what killed runs were writing; called while no other run can be at work there.

    Args:
        folders: Where; one that does not exist holds nothing.
        below: Also in all folders below them.
    """
    for folder in folders:
        for left in list(folder.rglob(f"{TEMPORARY}*") if below else folder.glob(f"{TEMPORARY}*")):
            with suppress(OSError):
                left.unlink()


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file that appears at `path` only when the block ends without an error.

    Parent folders are made. On any error, Ctrl-C included, the temporary file is removed and `path` is left as it was.

    Raises:
        OutputError: If the system refuses the write; says why and what to do.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    except OSError as error:
        raise output_error(path, error) from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files; results are ordinary ones
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise output_error(path, error) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8; characters that UTF-8 cannot carry (odd file names) are written as escapes."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def printable(path: Path | str) -> str:
    r"""Return a path as text that any terminal and any JSON reader takes, odd bytes as escapes.

    Example:
        >>> printable("caf\udce9.jpg")
        'caf\\udce9.jpg'
    """
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def as_typed(path: Path | str) -> str:
    """Return a path as somebody types it in a shell, for commands that a message proposes.

    Example:
        >>> as_typed("my images")
        "'my images'"
    """
    return shlex.quote(printable(path))


def _umask() -> int:
    """Return the process's file mode mask; the system only tells it by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
