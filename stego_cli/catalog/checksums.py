"""Checksums of what was downloaded: the published one where there is one, else the one of the first download."""

from __future__ import annotations

import hashlib
import json
import threading
from typing import TYPE_CHECKING, Any

from stego_cli.catalog.failures import DownloadError
from stego_cli.catalog.locate import stego_home
from stego_cli.files import printable, write_text

if TYPE_CHECKING:
    from pathlib import Path

    from stego_cli.catalog.entries import CatalogFile

_LOCK = threading.Lock()


def checksums_path() -> Path:
    """Return the file that holds the checksums recorded on this machine."""
    return stego_home() / "checksums.json"


def verify(path: Path, file: CatalogFile, key: str) -> str:
    """Compare a file with its published checksum and length, and with what was recorded when it first came.

    Without a record this is the first time: it is trusted, and recorded.

    Args:
        path: The file, which may still have a temporary name.
        file: What the catalog says about it.
        key: What it is recorded under, the same wherever the file lies.

    Returns:
        Its sha256, 64 lower-case hex digits.

    Raises:
        DownloadError: If it is not the same file; says what was expected and found.
    """
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise DownloadError(f"`{file.file}` has {size} bytes, the published file has {file.size}")
    sha256 = digest(path, "sha256")
    _compare(file, "sha256", sha256, file.sha256, file.sha256_prefix)
    if file.md5 or file.md5_prefix:
        _compare(file, "md5", digest(path, "md5"), file.md5, file.md5_prefix)
    with _LOCK:
        known = _recorded()
        before = known.get(key, {}).get("sha256")
        if before and before != sha256:
            raise DownloadError(
                f"`{file.file}` has sha256 {sha256}, but {before} was recorded on the first download; if its owner has "
                f"replaced it, remove `{key}` from {printable(checksums_path())}"
            )
        if not before:
            known[key] = {"sha256": sha256, "size": size, "url": file.url}
            write_text(checksums_path(), json.dumps(known, indent=2, sort_keys=True) + "\n")
    return sha256


def _compare(file: CatalogFile, name: str, found: str, whole: str | None, prefix: str | None) -> None:
    """Compare a checksum with what is published of it, all of it or its first digits.

    Raises:
        DownloadError: If they differ.
    """
    if whole and found != whole:
        raise DownloadError(f"`{file.file}` has {name} {found}, the published one is {whole}")
    if prefix and not found.startswith(prefix):
        raise DownloadError(f"`{file.file}` has {name} {found}, the published one begins with {prefix}")


def digest(path: Path, name: str) -> str:
    """Return the checksum `name` (`sha256`, `md5`) of a file as lower-case hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, name).hexdigest()


def _recorded() -> dict[str, dict[str, Any]]:
    """Return what was recorded so far.

    Raises:
        DownloadError: If the file is there and cannot be understood; it is never silently replaced.
    """
    path = checksums_path()
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _damaged(path) from error
    if not isinstance(content, dict) or not all(isinstance(row, dict) for row in content.values()):
        raise _damaged(path)
    return content


def _damaged(path: Path) -> DownloadError:
    return DownloadError(
        f"cannot read the recorded checksums in `{printable(path)}`\n\n"
        "hint: repair or remove it; without it, the files that are there are trusted and recorded again"
    )
