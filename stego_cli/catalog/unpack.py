"""Zip and tar archives into a folder: nothing escapes it, nothing but files and folders is made, a kill is no loss."""

from __future__ import annotations

import json
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from stego_cli.catalog.failures import DownloadError, StoppedError, cannot_write
from stego_cli.files import printable, write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from threading import Event

    from stego_cli.progress import Report

LARGEST = 400_000_000_000  # bytes that an archive may unpack to; the largest known dataset has a tenth of it
MOST = 2_000_000  # members
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


@dataclass(frozen=True)
class Member:
    """One entry of an archive.

    Attributes:
        name: As written in the archive.
        size: Bytes when unpacked; 0 for a folder.
        kind: `file`, `folder`, or in words what it is instead.
        open: Opens its content.
    """

    name: str
    size: int
    kind: str
    open: Callable[[], IO[bytes]]


def marker_of(archive: Path, folder: Path) -> Path:
    """Return the file inside `folder` that says how far an archive is unpacked."""
    return folder / f".unpacked-{archive.name}.json"


def is_unpacked(archive: Path, folder: Path) -> bool:
    """Say whether an archive of this name was unpacked into `folder` to the end."""
    return _marked(archive, folder).get("done") is True


def is_begun(folder: Path) -> bool:
    """Say whether an archive was unpacked into `folder`, or into a folder in it, and not to the end."""
    markers = [*folder.glob(".unpacked-*.json"), *folder.glob("*/.unpacked-*.json")]
    return any(_read_marker(marker).get("done") is not True for marker in markers)


def unpack(
    archive: Path, folder: Path, identity: str, report: Report, *, largest: int = LARGEST, stop: Event | None = None
) -> int:
    """Unpack an archive, going on where an earlier attempt stopped. Every member is checked before any is written.

    A top folder that has the name of `folder` is left out, so that `cocostuff/images` does not end up as
    `cocostuff/cocostuff/images`.

    Args:
        archive: A zip or tar file, the latter also compressed.
        folder: Where its content goes; made if it is not there.
        identity: What tells this archive from another of the same name, such as its sha256.
        report: Told the progress.
        largest: Bytes that it may unpack to.
        stop: Set by another thread to end it; the next call goes on from there.

    Returns:
        How many files it holds.

    Raises:
        DownloadError: If a member would escape the folder, is a link or a device, if it is too large for the disk or
            for `largest`, or if the archive is damaged.
        StoppedError: If `stop` was set.
    """
    marked = _marked(archive, folder)
    resumes = marked.get("identity") == identity
    if resumes and marked.get("done") is True:
        return int(str(marked.get("files", 0)))
    try:
        with _opened(archive) as members:
            files = _checked(members, archive, largest)
            skipped = 1 if files and all(_parts(member.name)[:-1][:1] == (folder.name,) for member in files) else 0
            targets = [(member, folder.joinpath(*_parts(member.name)[skipped:])) for member in files]
            if resumes:
                targets = [(member, target) for member, target in targets if not _is_whole(target, member.size)]
            _check_space([member.size for member, _ in targets], folder)
            _mark(archive, folder, {"identity": identity, "done": False})
            for member, target in report.track(targets, f"Unpacking {archive.name}", total=len(targets)):
                if stop and stop.is_set():
                    raise StoppedError("stopped")
                _write(member, target, folder)
    except _BROKEN as error:
        raise DownloadError(f"`{archive.name}` is damaged: {error}\n\nhint: fetch it again with --overwrite") from error
    _mark(archive, folder, {"identity": identity, "done": True, "files": len(files)})
    return len(files)


def _checked(members: list[Member], archive: Path, largest: int) -> list[Member]:
    """Return the files among the members; refuse the archive if any member is not as it should be."""
    if len(members) > MOST:
        raise _refusal(archive, f"it has {len(members)} members; at most {MOST} are unpacked")
    for member in members:
        if member.kind == "folder" and not _parts(member.name):  # `./`, as tar writes for the top
            continue
        if problem := _name_problem(member.name):
            raise _refusal(archive, f"its member `{printable(member.name)}` {problem}")
        if member.kind not in {"file", "folder"}:
            raise _refusal(archive, f"its member `{printable(member.name)}` is {member.kind}")
    if (total := sum(member.size for member in members)) > largest:
        raise _refusal(archive, f"it would unpack to {total:,} bytes; at most {largest:,} are allowed")
    return [member for member in members if member.kind == "file"]


def _name_problem(name: str) -> str | None:
    """Say why a name may not be used as a path below a folder, or None. Backslashes count: Windows obeys them."""
    parts = name.replace("\\", "/").split("/")
    if not _parts(name) or "\0" in name:
        return "has no usable name"
    if not parts[0] or parts[0][1:2] == ":":
        return "has an absolute path"
    return "would leave the folder" if ".." in parts else None


def _refusal(archive: Path, reason: str) -> DownloadError:
    return DownloadError(
        f"`{archive.name}` is not unpacked: {reason}\n\nhint: nothing was written; do not use this archive"
    )


def _check_space(sizes: list[int], folder: Path) -> None:
    existing = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    need, free = sum(sizes), shutil.disk_usage(existing).free
    if need > free:
        raise DownloadError(
            f"unpacking into `{printable(folder)}` needs {need / 1e6:.0f} MB, and only {free / 1e6:.0f} MB are free\n\n"
            "hint: free some space, or choose another place with --dir"
        )


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(name.replace("\\", "/")).parts


def _is_whole(target: Path, size: int) -> bool:
    """Say whether a file was written: it gets its name only when whole, so the right length means done."""
    return target.is_file() and target.stat().st_size == size


def _write(member: Member, target: Path, folder: Path) -> None:
    """Write one file under a temporary name, then rename it. Not flushed to disk one by one: that takes hours."""
    temporary = target.with_name(f".unpacking-{target.name}"[:200])
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.parent.resolve().is_relative_to(folder.resolve()):
            raise DownloadError(f"`{printable(target.parent)}` is a link out of the folder\n\nhint: remove the link")
        with member.open() as source, temporary.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        temporary.replace(target)
    except OSError as error:
        if error.errno is None:  # no system said so, but a decompressor
            raise tarfile.ReadError(str(error)) from error
        raise cannot_write(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _opened(archive: Path) -> Iterator[list[Member]]:
    """Open an archive and list its members."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield [_zip_member(zipped, info) for info in zipped.infolist()]
    else:
        with tarfile.open(archive) as tar:
            yield [_tar_member(tar, info) for info in tar]


def _zip_member(zipped: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    mode = stat.S_IFMT(info.external_attr >> 16)
    kind = "folder" if info.is_dir() else "file"
    if mode == stat.S_IFLNK:
        kind = "a link"
    elif mode not in {0, stat.S_IFREG, stat.S_IFDIR}:
        kind = "a device"
    elif info.flag_bits & 1:
        kind = "encrypted"
    # `orig_filename` is what the archive says; zipfile cuts `filename` at a NUL and turns separators.
    return Member(info.orig_filename, info.file_size, kind, lambda: zipped.open(info))


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    kind = "file" if info.isreg() else "folder" if info.isdir() else "a device"
    if info.issym() or info.islnk():
        kind = "a link"

    def content() -> IO[bytes]:
        file = tar.extractfile(info)
        if file is None:  # only for what is neither file nor link, and that was refused
            raise tarfile.ReadError(f"no content in {info.name}")
        return file

    return Member(info.name, info.size if info.isreg() else 0, kind, content)


def _marked(archive: Path, folder: Path) -> dict[str, object]:
    return _read_marker(marker_of(archive, folder))


def _read_marker(marker: Path) -> dict[str, object]:
    try:
        content = json.loads(marker.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _mark(archive: Path, folder: Path, content: dict[str, object]) -> None:
    write_text(marker_of(archive, folder), json.dumps(content))
