"""What a run has said, remembered for its result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stego_cli.files import printable
from stego_cli.progress import ShowsLosses

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stego_cli.progress import Report


class Listener:
    """A `Report` that passes everything on, a note or a warning once only, and remembers what was skipped."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.skipped: list[str] = []
        self._said: set[str] = set()
        self.track = report.track

    def note(self, message: str) -> None:
        """Pass a note on, unless it was said before: several stages look at the same dataset."""
        if message not in self._said:
            self._said.add(message)
            self.report.note(message)

    def warn(self, message: str) -> None:
        """Pass a warning on as one line, for grep."""
        line = printable(message.replace("\n\nhint: ", "; "))
        if line not in self._said:
            self._said.add(line)
            self.skipped.append(line)
            self.report.warn(line)

    def losses(self, step: int, values: Mapping[str, float]) -> None:
        """Pass the loss terms on to a report that shows them."""
        if isinstance(self.report, ShowsLosses):
            self.report.losses(step, values)
