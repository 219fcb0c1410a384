"""The record of a prediction folder: what is done, with which settings; survives a kill at any moment.

`predictions.json` is written whole at the end of a run. While a run goes on, each finished image is one line appended
to a journal beside it; the next run reads both, so nothing finished is ever lost.
"""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any

from stego_cli.errors import OutputError
from stego_cli.files import output_error, printable, write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from stego_cli.progress import Report

FORMAT = 1
RESULT_NAME = "predictions.json"
JOURNAL_NAME = ".predictions.journal"

Record = dict[str, Any]


def journal_of(out: Path) -> Path:
    """Return where the journal of a run in `out` is, if one is at work or was killed."""
    return out / JOURNAL_NAME


def has_record(out: Path) -> bool:
    """Say whether a run has left its record, finished or not, in a folder."""
    return (out / RESULT_NAME).exists() or journal_of(out).exists()


class Ledger:
    """All records of one output folder, by the absolute path of the input.

    Args:
        out: The output folder; must exist.
        fingerprint: What decides about the content of the masks (model and settings), by name.
        overwrite: Forget what earlier runs did instead of refusing other settings.
        report: Told when an unreadable record is set aside.

    Raises:
        OutputError: If the folder holds results made with another fingerprint; names the differences.
    """

    def __init__(self, out: Path, fingerprint: Mapping[str, Any], *, overwrite: bool, report: Report) -> None:
        self.path = out / RESULT_NAME
        self.journal_path = journal_of(out)
        self.fingerprint = dict(fingerprint)
        self.records: dict[str, Record] = {}
        self._journal: IO[str] | None = None
        self._overwrite = overwrite
        if not overwrite:
            self._read(report)

    def __enter__(self) -> Ledger:
        """Open the journal, carrying over what is known."""
        known: list[dict[str, Any]] = [{"fingerprint": self.fingerprint}]
        known += [{"key": key, "record": record} for key, record in self.records.items()]
        write_text(self.journal_path, "".join(json.dumps(line) + "\n" for line in known))
        if self._overwrite:  # else a run that is cut off would find the old settings here and refuse to go on
            self.path.unlink(missing_ok=True)
        try:
            self._journal = self.journal_path.open("a", encoding="utf-8")
        except OSError as error:
            raise output_error(self.journal_path, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the journal; it stays until `finish` has written everything it holds."""
        if self._journal is not None:
            self._journal.close()

    def names(self) -> dict[str, str]:
        """Return the output name of every input that has one, by the input's absolute path."""
        return {key: record["name"] for key, record in self.records.items() if record["status"] != "failed"}

    def forget(self, keys: Iterable[str]) -> None:
        """Drop the records of inputs that are to be done again, so that none of them can look finished."""
        for key in keys:
            self.records.pop(key, None)

    def add(self, key: str, record: Record) -> None:
        """Remember one image and put it into the journal at once.

        Raises:
            OutputError: If the journal cannot be written.
        """
        if self._journal is None:
            raise RuntimeError("the ledger must be opened with `with` before it is written to")
        self.records[key] = record
        try:
            self._journal.write(json.dumps({"key": key, "record": record}) + "\n")
            self._journal.flush()
        except OSError as error:
            raise output_error(self.journal_path, error) from error

    def finish(self, content: Mapping[str, Any]) -> None:
        """Write `predictions.json` and drop the journal, whose content it now has."""
        write_text(self.path, json.dumps({**content, "fingerprint": self.fingerprint}, indent=1))
        self.journal_path.unlink(missing_ok=True)

    def _read(self, report: Report) -> None:
        """Take over what earlier runs wrote: first the finished record, then the journal of an interrupted run."""
        finished = self._finished(report)
        if finished:
            self._take({record["input"]: record for record in finished["images"]}, finished.get("fingerprint"))
        lines = self._journal_lines()
        made_with = next((line["fingerprint"] for line in lines if "fingerprint" in line), None)
        self._take({str(line.get("key")): line["record"] for line in lines if is_record(line.get("record"))}, made_with)

    def _take(self, records: Mapping[str, Record], fingerprint: Any) -> None:
        """Take over what was finished; where nothing was, the settings it was tried with do not matter."""
        finished = {key: record for key, record in records.items() if record["status"] != "failed"}
        if finished:
            self._same(fingerprint if isinstance(fingerprint, dict) else {})
        self.records |= finished

    def _finished(self, report: Report) -> dict[str, Any] | None:
        """Read `predictions.json`; None if there is none or it is damaged."""
        try:
            content: dict[str, Any] = json.loads(self.path.read_text("utf-8"))
            if content["format"] != FORMAT:
                raise OutputError(
                    f"`{printable(self.path)}` has format {content['format']}, this version knows {FORMAT}\n\n"
                    "hint: choose another folder with --out"
                )
            if not all(is_record(record) for record in content["images"]):
                raise ValueError("its list of images is damaged")
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OSError) as error:
            report.warn(f"`{printable(self.path)}` cannot be read ({error}); every image is done again")
            return None
        return content

    def _journal_lines(self) -> list[dict[str, Any]]:
        """Read the journal of a run that was cut off; its last line may be half written."""
        try:
            text = self.journal_path.read_text("utf-8", errors="replace")
        except OSError:
            return []
        lines = []
        for line in text.splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                break
        return [line for line in lines if isinstance(line, dict)]

    def _same(self, other: Mapping[str, Any]) -> None:
        """Refuse to mix results of different models or settings in one folder."""
        different = [
            f"{name}: {_words(other.get(name))} there, {_words(value)} now"
            for name, value in self.fingerprint.items()
            if other.get(name) != value
        ]
        if different:
            raise OutputError(
                f"`{printable(self.path.parent)}` holds results made with other settings:\n  "
                + "\n  ".join(different)
                + "\n\nhint: add --overwrite to replace them, or choose another folder with --out"
            )


def is_record(value: Any) -> bool:
    """Say whether something read from disk is a record that a run can rely on."""
    if not isinstance(value, dict) or not {"input", "name", "status"} <= value.keys():
        return False
    return value["status"] == "failed" or {"height", "width", "source", "shares", "notes"} <= value.keys()


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
