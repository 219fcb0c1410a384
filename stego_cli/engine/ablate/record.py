"""The results of a grid on disk: a line for each cell, written when it is done, so that a run goes on at the cell."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from stego_cli.engine.differences import differences
from stego_cli.errors import OutputError
from stego_cli.files import output_error, printable, write_text
from stego_cli.report.ablation_results import DONE, RESULTS_NAME, Line, read_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Results:
    """The lines of a results file.

    Args:
        folder: Where the file is.
        overwrite: Begin anew.
    """

    def __init__(self, folder: Path, *, overwrite: bool) -> None:
        self.path = folder / RESULTS_NAME
        self.lines: dict[str, Line] = {}
        if self.path.exists() and not overwrite:
            self.lines = {line["key"]: line for line in read_lines(self.path)}

    def begin(self, *, overwrite: bool) -> None:
        """Make the file ready for more lines: what was cut off is removed.

        Raises:
            OutputError: If it cannot be written.
        """
        if overwrite or not self.path.exists():
            write_text(self.path, "")
            return
        try:
            content = self.path.read_bytes()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                os.truncate(self.path, whole)
        except OSError as error:
            raise output_error(self.path, error) from error

    def is_done(self, key: str) -> bool:
        """Say whether a cell is finished; one that failed is tried again."""
        return key in self.lines and self.lines[key]["status"] == DONE

    def add(self, line: Line) -> None:
        """Append a line; it is on disk when this returns.

        Raises:
            OutputError: If it cannot be written; the lines before it are whole.
        """
        data = as_text(line).encode()
        try:
            with self.path.open("ab", buffering=0) as file:
                before = file.tell()
                if file.write(data) != len(data):  # the disk became full in the middle
                    file.truncate(before)
                    raise OSError(28, "No space left on device")
                os.fsync(file.fileno())
        except OSError as error:
            raise output_error(self.path, error) from error
        self.lines[line["key"]] = line

    def settle(self, order: Sequence[str]) -> None:
        """Put the lines into the order of the plan, one for each cell; other cells come after them.

        Raises:
            OutputError: If the file cannot be written; it stays as it is then.
        """
        keys = [key for key in order if key in self.lines]
        keys += [key for key in self.lines if key not in set(order)]
        text = "".join(as_text(self.lines[key]) for key in keys)
        if text.encode() != self.path.read_bytes():
            write_text(self.path, text)

    def refuse_others(self, settings: Mapping[str, Any], cells: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse to put cells beside others that were made differently.

        Args:
            settings: What all cells depend on.
            cells: What single cells depend on, by key.

        Raises:
            OutputError: Names what differs, with both values.
        """
        found: dict[str, None] = {}
        for key, line in self.lines.items():
            if line["status"] != DONE:
                continue
            found |= dict.fromkeys(differences(line.get("settings", {}), settings))
            for name, wanted in cells.get(key, {}).items():
                found |= dict.fromkeys(differences({name: line.get(name)}, {name: wanted}))
        if found:
            raise OutputError(
                f"`{printable(self.path)}` holds cells made with other settings:\n  "
                + "\n  ".join(found)
                + "\n\nhint: go back to them, start anew with --overwrite, or choose another --out"
            )


def as_text(line: Line) -> str:
    """Return a line as it is written, with its end."""
    return json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n"
