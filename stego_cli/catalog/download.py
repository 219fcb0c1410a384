"""The files of the catalog onto this machine: fetched several at a time, verified, recorded, unpacked."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stego_cli.catalog.checksums import verify
from stego_cli.catalog.failures import DownloadError, by_hand, cannot_write
from stego_cli.catalog.fetch import MEGABYTE, SPARE, Policy, discard, fetch, part_of
from stego_cli.catalog.formats import check_format
from stego_cli.catalog.lock import only_one
from stego_cli.catalog.meter import Meter
from stego_cli.catalog.servers import length_of
from stego_cli.catalog.unpack import is_unpacked, marker_of, unpack
from stego_cli.catalog.wanted import Outcome, Status, Wanted, steps
from stego_cli.errors import StegoError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future

    from stego_cli.progress import Report

LONGEST_QUESTION = 10.0  # seconds that a server may take to say how long a file is


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
        report: Told licences, the progress of each file and of all together, and what is verified.
        overwrite: Fetch and unpack again what is there.
        jobs: Files that are fetched at the same time.
        policy: How patient to be with servers.

    Returns:
        What became of each file, in the order given.

    Raises:
        DownloadError: If the disk has too little space for all of them.
    """
    run = _Run(report, overwrite=overwrite, jobs=max(1, jobs), policy=policy or Policy(), meter=Meter(len(wanted)))
    coming = [item for item in wanted if not item.entry.manual and (overwrite or item.has_to_come)]
    left = run.bytes_left(coming)
    _check_space(left)
    for item in {item.name: item for item in wanted if not item.present}.values():
        terms = f"; terms: {item.entry.terms}" if item.entry.terms else ""
        report.note(f"{item.name}: licence {item.entry.licence}{terms}")
        if item.entry.caution:
            report.note(f"{item.name}: mind: {item.entry.caution}")
    with ThreadPoolExecutor(run.jobs) as pool:
        try:
            futures = [pool.submit(run.bring, item) for item in wanted]
            for future in futures:
                future.add_done_callback(run.one_done)
            if len(coming) > 1:
                run.show_total(left)
            return [future.result() for future in futures]
        except BaseException:  # Ctrl-C: the transfers end at their next byte and keep what they have
            run.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@dataclass(frozen=True)
class _Run:
    """What all files of one command share."""

    report: Report
    overwrite: bool
    jobs: int
    policy: Policy
    meter: Meter
    stop: threading.Event = field(default_factory=threading.Event)

    def bytes_left(self, items: Sequence[Wanted]) -> dict[Wanted, int | None]:
        """Return how many bytes of each file are still to come, None where that is not known.

        Lengths are as published or, where there are several files, as their servers say.
        """

        def left(item: Wanted) -> int | None:
            length = item.file.size
            if length is None and len(items) > 1:
                length = length_of(item.file.url, min(LONGEST_QUESTION, self.policy.timeout))
            length = length or item.file.size_about
            return max(0, length - _arrived(item)) if length else None

        with ThreadPoolExecutor(self.jobs) as pool:
            return dict(zip(items, pool.map(left, items), strict=True))

    def show_total(self, left: Mapping[Wanted, int | None]) -> None:
        """Show how far all files are together, until the last one is done."""
        known = [count for count in left.values() if count is not None]
        unknown = len(left) - len(known)
        doing = f"All {len(left)} files, MB" + (f" (length of {unknown} unknown)" if unknown else "")
        for _ in self.report.track(self.meter.megabytes(), doing, total=sum(known) // MEGABYTE):
            pass

    def one_done(self, _: Future[Outcome]) -> None:
        """Take note that one more file has been dealt with."""
        self.meter.finish()

    def bring(self, item: Wanted) -> Outcome:
        """Fetch one file unless it is there, verify it, unpack it; what goes wrong is told in the outcome."""
        try:
            return self._bring(item)
        except StegoError as error:
            return Outcome(item, "failed", message=str(error))
        except BaseException:  # our own bug: the other files need not come to their end before it shows
            self.stop.set()
            raise

    def _bring(self, item: Wanted) -> Outcome:
        if item.present and (item.file.is_folder or not (self.overwrite or item.path.exists())):
            return Outcome(item, "present")  # unpacked by hand, or the archive was removed after it was unpacked
        by_person = bool(item.entry.manual)
        if by_person and not item.path.is_file():
            return Outcome(item, "missing", message=steps([item]))
        status: Status = "present"
        if item.path.is_file() and (by_person or not self.overwrite):
            sha256 = _verify_in_place(item)
        else:
            with only_one(item.path):
                sha256, status = self._fetch(item), "fetched"
        if item.folder:
            if self.overwrite:
                marker_of(item.path, item.folder).unlink(missing_ok=True)
            if not is_unpacked(item.path, item.folder):
                status = "fetched"
            unpack(item.path, item.folder, sha256, self.report, stop=self.stop)
        return Outcome(item, status, sha256)

    def _fetch(self, item: Wanted) -> str:
        """Fetch a file, check it under its temporary name, and give it its own. What is wrong is not kept."""
        part = fetch(
            item.file.url,
            item.path,
            policy=self.policy,
            report=self.report,
            stop=self.stop,
            arrived=self.meter.add,
        )
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
    return f"{item.kind}/{item.file.path}"


def _check_space(left: Mapping[Wanted, int | None]) -> None:
    """Refuse to begin when what is known to come does not fit; unknown lengths are checked as they become known."""
    need = sum(count or 0 for count in left.values())
    if not need:
        return
    path = next(iter(left)).path.absolute()
    free = shutil.disk_usage(next(place for place in path.parents if place.is_dir())).free
    if need > free - SPARE:
        raise DownloadError(
            f"all files together need {need / MEGABYTE:.0f} MB, and only {free / MEGABYTE:.0f} MB are free in "
            f"`{printable(path.parent)}`\n\nhint: free some space, name fewer, or choose another place with --dir"
        )


def _arrived(item: Wanted) -> int:
    part = part_of(item.path)
    return part.stat().st_size if part.is_file() else 0
