"""One file over HTTP into `<file>.part`: broken transfers go on where they stopped, also in a later process."""

from __future__ import annotations

import http.client
import json
import math
import shutil
import threading
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING
from urllib.error import HTTPError, URLError

from stego_cli.catalog.failures import (
    PASSING,
    DownloadError,
    RefusedError,
    StoppedError,
    answer_in_words,
    by_hand,
    cannot_write,
    in_words,
    is_offline,
)
from stego_cli.catalog.formats import HEAD, head_problem
from stego_cli.catalog.servers import ask
from stego_cli.catalog.versions import Version, first_byte, retry_after, total_of, version_of
from stego_cli.files import write_text
from stego_cli.progress import Report, Silence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MEGABYTE = 1_000_000
CHUNK = 1 << 18
LONGEST_WAIT = 60.0  # seconds
SPARE = 50 * MEGABYTE  # disk space that a download leaves free


class _BrokenOffError(Exception):
    """The transfer ended early; it can go on."""


@dataclass(frozen=True)
class Policy:
    """How patient a transfer is.

    Attributes:
        retries: Attempts in a row that may bring nothing new before it gives up.
        timeout: Seconds without a byte after which a connection counts as dead.
        backoff: Seconds before the first retry; doubled for each further one, at most a minute.
        sleep: Waits so many seconds; None waits so that stopping the run ends it at once.
    """

    retries: int = 4
    timeout: float = 30.0
    backoff: float = 1.0
    sleep: Callable[[float], object] | None = None


def part_of(place: Path) -> Path:
    """Return where a file is kept while it arrives."""
    return place.with_name(place.name + ".part")


def notes_of(place: Path) -> Path:
    """Return the small file beside a `.part` that says which version its bytes belong to."""
    return place.with_name(place.name + ".part.json")


def discard(place: Path) -> None:
    """Remove what has arrived of a file."""
    part_of(place).unlink(missing_ok=True)
    notes_of(place).unlink(missing_ok=True)


def fetch(
    url: str,
    place: Path,
    *,
    policy: Policy | None = None,
    report: Report | None = None,
    stop: threading.Event | None = None,
    arrived: Callable[[int], object] | None = None,
) -> Path:
    """Bring a file to `<place>.part`, going on where an earlier attempt stopped.

    The caller checks the content, then renames it to `place`.

    Args:
        url: Address, http or https.
        place: Where the file will be; its suffix says how it must begin.
        policy: How patient to be.
        report: Told the progress in megabytes, and every new attempt.
        stop: Set by another thread to end the transfer.
        arrived: Called with the number of bytes whenever some have arrived.

    Returns:
        The path of the `.part` file, complete by its length.

    Raises:
        DownloadError: If it cannot be had; says why, and how to get it by hand.
        StoppedError: If `stop` was set.
    """
    transfer = _Transfer(url, place, policy or Policy(), report or Silence(), stop or threading.Event(), arrived)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(place, error) from error
    while not transfer.attempt():
        pass
    return part_of(place)


@dataclass
class _Transfer:
    """The attempts at one file."""

    url: str
    place: Path
    policy: Policy
    report: Report
    stop: threading.Event
    arrived: Callable[[int], object] | None = None
    failures: int = 0
    furthest: int = field(init=False)

    def __post_init__(self) -> None:
        self.furthest = self._have()

    def attempt(self) -> bool:
        """Ask once; return whether the file is complete.

        Raises:
            DownloadError: If there is no point in asking again.
        """
        try:
            self._once()
        except HTTPError as error:
            with error:
                self._refused(error)
        except (_BrokenOffError, URLError, OSError, http.client.HTTPException) as error:
            self._again(error, wait=None)
        except RefusedError as error:
            raise DownloadError(f"{self._cannot(str(error))}") from error
        else:
            return True
        return False

    def _once(self) -> None:
        version, start = self._resumable()
        if version.total and start == version.total:  # killed after the last byte
            return
        headers = {}
        if start:
            headers["Range"] = f"bytes={start}-"
            if version.validator:
                headers["If-Range"] = version.validator
        with ask(self.url, self.policy.timeout, headers) as response:
            start = self._accept(response, version, start)
            total = total_of(response)
            self._check_space(total, start)
            count = math.ceil((total - start) / MEGABYTE) if total else 0
            for _ in self.report.track(self._receive(response, start), f"{self.place.name}, MB", total=count):
                pass
        if total is not None and self._have() != total:
            raise _BrokenOffError(f"the connection broke off after {self._have()} of {total} bytes")

    def _resumable(self) -> tuple[Version, int]:
        """Return what the `.part` belongs to and how much of it there is; nothing if that is not certain."""
        try:
            version = Version(**json.loads(notes_of(self.place).read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return Version(self.url), 0
        # Without a tag or a date the length is all that tells versions apart.
        certain = version.url == self.url and (version.validator or version.total)
        certain = certain and self._have() <= (version.total or math.inf)
        return (version, self._have()) if certain else (Version(self.url), 0)

    def _accept(self, response: http.client.HTTPResponse, version: Version, start: int) -> int:
        """Return the offset at which the body begins, and remember the version that it belongs to."""
        if "text/html" in (response.headers.get("Content-Type") or ""):
            raise RefusedError("the server answers with a web page, not the file")
        answered = version_of(response, self.url)
        if response.status == http.client.PARTIAL_CONTENT and start:
            same = answered.etag in {None, version.etag} and answered.total in {None, version.total}
            if not same or first_byte(response) != start:
                discard(self.place)
                raise _BrokenOffError("the file has changed on the server since the transfer began")
            return start
        discard(self.place)  # first, so that old bytes never stand beside the name of a new version
        write_text(notes_of(self.place), json.dumps(asdict(answered)))
        return 0

    def _receive(self, response: http.client.HTTPResponse, start: int) -> Iterator[None]:
        """Write the body to the `.part`; yield once for every full megabyte, and for the rest."""
        head, said, count = b"", 0, 0
        with _opened(part_of(self.place), start) as file:
            while chunk := response.read1(CHUNK):
                if self.stop.is_set():
                    raise StoppedError("stopped")
                if start == 0 and len(head) < HEAD:
                    head += chunk[: HEAD - len(head)]
                    if len(head) == HEAD:
                        self._check_head(head)
                _write(file, chunk, part_of(self.place))
                if self.arrived:
                    self.arrived(len(chunk))
                count += len(chunk)
                while count - said >= MEGABYTE:
                    said += MEGABYTE
                    yield
        if count > said:
            yield

    def _check_head(self, head: bytes) -> None:
        if problem := head_problem(self.place.name, head):
            discard(self.place)
            raise RefusedError(f"what the server sends is not the file: {problem}")

    def _check_space(self, total: int | None, start: int) -> None:
        need, free = (total or 0) - start, shutil.disk_usage(self.place.parent).free
        if need > free - SPARE:
            raise DownloadError(
                f"`{self.place.name}` needs {need / MEGABYTE:.0f} MB more, and only {free / MEGABYTE:.0f} MB are free "
                f"in `{self.place.parent}`\n\nhint: free some space, or choose another place with --dir"
            )

    def _refused(self, error: HTTPError) -> None:
        """Deal with an HTTP status that brings no file."""
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            discard(self.place)  # the file has become shorter
        elif error.code not in PASSING:
            raise DownloadError(self._cannot(answer_in_words(error.code))) from error
        self._again(error, wait=retry_after(error))

    def _again(self, error: Exception, wait: float | None) -> None:
        """Wait before the next attempt, or give up."""
        have, reason = self._have(), str(error) if isinstance(error, _BrokenOffError) else in_words(error)
        self.failures = 1 if have > self.furthest else self.failures + 1
        self.furthest = max(have, self.furthest)
        if self.stop.is_set():
            raise StoppedError("stopped") from error
        if self.failures > self.policy.retries or is_offline(error):
            raise DownloadError(self._cannot(reason)) from error
        wait = min(LONGEST_WAIT, self.policy.backoff * 2 ** (self.failures - 1) if wait is None else wait)
        self.report.note(f"{self.place.name}: {reason}; trying again in {wait:.0f} s")
        (self.policy.sleep or self.stop.wait)(wait)

    def _cannot(self, reason: str) -> str:
        return f"cannot fetch `{self.place.name}`: {reason}\n\nhint: {by_hand(self.url, self.place)}"

    def _have(self) -> int:
        part = part_of(self.place)
        return part.stat().st_size if part.is_file() else 0


def _opened(part: Path, start: int) -> IO[bytes]:
    """Open a `.part` for writing at `start`; what lies behind is cut off."""
    try:
        file = part.open("r+b" if start else "wb")
        file.seek(start)
        file.truncate()
    except OSError as error:
        raise cannot_write(part, error) from error
    return file


def _write(file: IO[bytes], chunk: bytes, part: Path) -> None:
    """Write at once, so that a full disk is told apart from a broken connection, and a kill loses nothing."""
    try:
        file.write(chunk)
        file.flush()
    except OSError as error:
        raise cannot_write(part, error) from error
