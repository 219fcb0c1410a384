"""From names in the catalog to files on disk: fetched, verified, recorded, unpacked."""

from __future__ import annotations

import difflib
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from stego_cli.catalog.checksums import verify
from stego_cli.catalog.failures import DownloadError, by_hand, cannot_write
from stego_cli.catalog.fetch import MEGABYTE, SPARE, Policy, discard, fetch, part_of
from stego_cli.catalog.formats import check_format
from stego_cli.catalog.locate import catalog, stego_home
from stego_cli.catalog.lock import only_one
from stego_cli.catalog.unpack import is_unpacked, marker_of, unpack
from stego_cli.errors import StegoError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stego_cli.catalog.entries import CatalogEntry, CatalogFile, Kind
    from stego_cli.progress import Report

Status = Literal["fetched", "present", "missing", "failed"]


@dataclass(frozen=True)
class Wanted:
    """One file of the catalog, and where it goes.

    Attributes:
        kind: Its part of the catalog.
        name: The entry that it belongs to.
        entry: What the catalog says about the entry.
        file: What the catalog says about the file.
        path: Where the file belongs.
        folder: Where it is unpacked, or None if it is used as it is.
    """

    kind: Kind
    name: str
    entry: CatalogEntry
    file: CatalogFile
    path: Path
    folder: Path | None

    @property
    def present(self) -> bool:
        """Whether it can be used; an archive may be removed once it is unpacked."""
        return is_unpacked(self.path, self.folder) if self.folder else self.path.is_file()

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints about it before anything is done."""
        return {
            "kind": self.kind,
            "name": self.name,
            "file": self.file.file,
            "url": self.file.url,
            "path": printable(self.path),
            "folder": printable(self.folder) if self.folder else None,
            "size": self.file.size or self.file.size_about,
            "licence": self.entry.licence,
            "terms": self.entry.terms,
            "citation": self.entry.citation,
            "used_for": self.entry.used_for,
            "by_hand": bool(self.entry.manual),
            "present": self.present,
        }


@dataclass(frozen=True)
class Outcome:
    """What became of one file; `message` says why it is missing or has failed."""

    wanted: Wanted
    status: Status
    sha256: str | None = None
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints about it."""
        return self.wanted.to_json() | {"status": self.status, "sha256": self.sha256, "message": self.message}


def choose(kinds: Sequence[Kind], names: Sequence[str], directory: Path | None = None) -> list[Wanted]:
    """Return the files of the named entries, in the catalog's order; of all entries without names.

    Args:
        kinds: Parts of the catalog to look in.
        names: What people typed.
        directory: Where the files go instead of `STEGO_HOME/<kind>`.

    Raises:
        StegoError: If a name is not there; names a near one, or the part of the catalog that has it.
    """
    known = {name: (kind, entry) for kind in kinds for name, entry in catalog()[kind].items()}
    for name in names:
        if name not in known:
            raise StegoError(
                f"nothing in the catalog is called `{printable(name)}`\n\nhint: {_near(name, list(known))}"
            )
    wanted = []
    for name, (kind, entry) in known.items():
        if names and name not in names:
            continue
        base = directory if directory is not None else stego_home() / kind
        folder = base / name if kind == "datasets" else None
        wanted += [Wanted(kind, name, entry, file, base / file.file, folder) for file in entry.files]
    return wanted


def download(
    wanted: Sequence[Wanted],
    report: Report,
    *,
    overwrite: bool = False,
    jobs: int = 4,
    policy: Policy | None = None,
) -> list[Outcome]:
    """Bring all files, several at a time; one that fails does not keep the others from coming.

    Args:
        wanted: What `choose` returned.
        report: Told licences, progress and what is verified.
        overwrite: Fetch and unpack again what is there.
        jobs: Files that are fetched at the same time.
        policy: How patient to be with servers.

    Returns:
        What became of each file, in the order given.

    Raises:
        DownloadError: If the disk has too little space for all of them.
    """
    _check_space([item for item in wanted if overwrite or not item.path.exists()])
    for item in {item.name: item for item in wanted if not item.present}.values():
        terms = f"; terms: {item.entry.terms}" if item.entry.terms else ""
        report.note(f"{item.name}: licence {item.entry.licence}{terms}")
    stop = threading.Event()

    def bring(item: Wanted) -> Outcome:
        try:
            return _bring(item, report, overwrite, policy or Policy(), stop)
        except StegoError as error:
            return Outcome(item, "failed", message=str(error))

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        try:
            return list(pool.map(bring, wanted))
        except BaseException:  # Ctrl-C: the transfers end at their next byte and keep what they have
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _bring(item: Wanted, report: Report, overwrite: bool, policy: Policy, stop: threading.Event) -> Outcome:
    """Fetch one file unless it is there, verify it, unpack it."""
    if item.present and not item.path.exists() and not overwrite:  # unpacked, and the archive was removed
        return Outcome(item, "present")
    by_person = bool(item.entry.manual)
    status: Status = "present"
    if by_person and not item.path.is_file():
        return Outcome(item, "missing", message=_steps(item))
    if item.path.is_file() and (by_person or not overwrite):
        sha256 = _verify_in_place(item)
    else:
        with only_one(item.path):
            sha256, status = _fetch(item, report, policy, stop), "fetched"
    if item.folder:
        if overwrite:
            marker_of(item.path, item.folder).unlink(missing_ok=True)
        if not is_unpacked(item.path, item.folder):
            status = "fetched"
        unpack(item.path, item.folder, sha256, report, stop=stop)
    return Outcome(item, status, sha256)


def _fetch(item: Wanted, report: Report, policy: Policy, stop: threading.Event) -> str:
    """Fetch a file, check it under its temporary name, and give it its own. What is wrong is not kept."""
    part = fetch(item.file.url, item.path, policy=policy, report=report, stop=stop)
    try:
        check_format(part, item.file.file)
        sha256 = verify(part, item.file, _key(item))
    except DownloadError as error:
        discard(item.path)
        raise _with_hint(error, f"it was not kept; {by_hand(item.file.url, item.path)}") from error
    try:
        part.replace(item.path)
    except OSError as error:
        raise cannot_write(item.path, error) from error
    discard(item.path)
    return sha256


def _verify_in_place(item: Wanted) -> str:
    """Verify a file that is there, fetched earlier or placed by hand. It is the user's: never removed here."""
    try:
        check_format(item.path, item.file.file)
        return verify(item.path, item.file, _key(item))
    except OSError as error:
        raise DownloadError(f"cannot read `{printable(item.path)}`: {error.strerror or error}") from error
    except DownloadError as error:
        again = "fetch it again by hand" if item.entry.manual else "fetch it again with --overwrite"
        raise _with_hint(error, f"the file at {printable(item.path)} is kept; {again}") from error


def _with_hint(error: DownloadError, hint: str) -> DownloadError:
    return error if "hint:" in str(error) else DownloadError(f"{error}\n\nhint: {hint}")


def _key(item: Wanted) -> str:
    return f"{item.kind}/{item.file.file}"


def _steps(item: Wanted) -> str:
    """Tell a person how to get a file that no program may fetch."""
    steps = [
        *item.entry.manual,
        f"fetch `{item.file.file}` from {item.file.url}",
        f"put it at {printable(item.path)}",
        "run the same command again: it verifies and unpacks it",
    ]
    lines = "".join(f"\n  {number}. {step}" for number, step in enumerate(steps, 1))
    return f"`{item.file.file}` can only be fetched by you:{lines}"


def _check_space(wanted: Sequence[Wanted]) -> None:
    """Refuse to begin when what is known to come does not fit; unknown lengths are checked as they become known."""
    need = sum(
        max(0, (item.file.size or item.file.size_about or 0) - _arrived(item.path))
        for item in wanted
        if not item.entry.manual
    )
    if not wanted or not need:
        return
    path = wanted[0].path.absolute()
    free = shutil.disk_usage(next(place for place in path.parents if place.is_dir())).free
    if need > free - SPARE:
        raise DownloadError(
            f"all files together need {need / MEGABYTE:.0f} MB, and only {free / MEGABYTE:.0f} MB are free in "
            f"`{printable(path.parent)}`\n\nhint: free some space, name fewer, or choose another place with --dir"
        )


def _arrived(path: Path) -> int:
    part = part_of(path)
    return part.stat().st_size if part.is_file() else 0


def _near(name: str, known: list[str]) -> str:
    for kind, entries in catalog().items():
        if name in entries:
            return f"it is one of the {kind}: `stego download {kind} {name}`"
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean `{near[0]}`?" if near else f"there are {', '.join(known)}"
