"""Whether a file is what its name promises: an error page must never be stored as a checkpoint."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from stego_cli.catalog.failures import DownloadError

if TYPE_CHECKING:
    from pathlib import Path

HEAD = 512  # bytes that `head_problem` looks at

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
# A file of `torch.save` is a zip archive or, before version 1.6, a pickle of protocol 2 or newer.
_TORCH = (*_ZIP, b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_STARTS = {
    ".zip": _ZIP,
    ".pth": _TORCH,
    ".ckpt": _TORCH,
    ".gz": (b"\x1f\x8b",),
    ".tgz": (b"\x1f\x8b",),
}  # fmt: skip
_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<error")
_TAR_MARK = slice(257, 262)


def head_problem(name: str, head: bytes) -> str | None:
    """Say what is wrong with the first bytes of a file, or None.

    Args:
        name: Name of the file; its suffix says what is expected.
        head: The first `HEAD` bytes, or the whole file if it is shorter.
    """
    if not head:
        return "it is empty"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGES):
        return "it is a web page, not the file: the server shows an error or asks for something"
    suffix = "." + name.rpartition(".")[2].lower()
    if suffix == ".tar":
        return None if head[_TAR_MARK] == b"ustar" else "it does not begin as a tar archive does"
    starts = _STARTS.get(suffix)
    if starts and not head.startswith(starts):
        return f"it does not begin as a {suffix} file does"
    return None


def check_format(path: Path, name: str) -> None:
    """Check the first bytes of a file and, where it is a zip archive, that its end is there.

    Args:
        path: The file, which may still have a temporary name.
        name: The name it is meant to have.

    Raises:
        DownloadError: If it is something else or was cut off.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    problem = head_problem(name, head)
    if problem is None and head.startswith(_ZIP) and not zipfile.is_zipfile(path):
        problem = "it is cut off: the end of the zip archive is missing"
    if problem:
        raise DownloadError(f"`{name}` is not usable: {problem}")
