"""What commands show: progress and notes on stderr, results on stdout. Rich is loaded only when something is drawn."""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, TypeVar

import typer

from stego_cli.errors import OutputError
from stego_cli.files import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from stego_cli.progress import Report

T = TypeVar("T")

LASTING = 2.0  # seconds from which on a finished step is worth a line
EVERY = 10.0  # seconds between lines where there is no terminal
PATIENCE = 0.5  # seconds before a bar appears, so that short steps do not flicker


class ReaderLeftError(Exception):
    """Nobody reads what a command writes any more, as after `stego info | head -1`. No fault of anyone's."""


_ESCAPES = {code: f"\\x{code:02x}" for code in [*range(32), *range(127, 160)] if chr(code) not in "\n\t"}


def plain(text: str) -> str:
    r"""Return text that a terminal shows and does not obey: no control codes, no lone surrogates.

    Example:
        >>> plain("a\x1b[31m.jpg")
        'a\\x1b[31m.jpg'
    """
    return printable(text).translate(_ESCAPES)


def colours_wanted(stream: IO[str]) -> bool:
    """Say whether colours may be used: a terminal that knows them, and no `NO_COLOR` (see no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def is_terminal(stream: IO[str]) -> bool:
    """Say whether a person watches `stream` on a terminal that can move its cursor."""
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # closed
        return False


def _say(text: str, *, err: bool = False) -> None:
    """Write a line to stdout or stderr.

    Raises:
        ReaderLeftError: If it is a pipe that nobody reads. A plain BrokenPipeError could come from anywhere.
        OutputError: If stdout goes to a file that cannot be written, as on a full disk. Words on stderr get lost then:
            they are no reason to lose the work.
    """
    try:
        typer.echo(text, err=err)
    except BrokenPipeError as error:
        raise ReaderLeftError from error
    except OSError as error:
        if not err:
            raise OutputError(f"cannot write the result to stdout: {error.strerror}") from error


class Lines:
    """A `Report` of plain lines on stderr: progress now and then, for logs and pipes.

    Args:
        quiet: Say nothing but warnings.
        clock: Returns seconds; replaced in tests.
    """

    def __init__(self, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.quiet = quiet
        self.clock = clock
        self._losses_said = -math.inf

    def track(self, items: Iterable[T], doing: str, total: int) -> Iterator[T]:
        """Yield `items`; say how far it is every `EVERY` seconds, and at the end of anything that lasted."""
        started = said = self.clock()
        count = 0
        for item in items:
            yield item
            count += 1
            now = self.clock()
            if now - said >= EVERY:
                said = now
                self._say_progress(doing, count, total, now - started)
        self._say_finished(doing, count, self.clock() - started)

    def note(self, message: str) -> None:
        """Write a line, unless quiet."""
        if not self.quiet:
            self._write(plain(message))

    def warn(self, message: str) -> None:
        """Write a line that begins with `warning:`, quiet or not."""
        label = typer.style("warning:", fg="yellow", bold=True) if colours_wanted(sys.stderr) else "warning:"
        self._write(f"{label} {plain(message)}")

    def losses(self, step: int, values: Mapping[str, float]) -> None:
        """Write the loss terms every `EVERY` seconds."""
        now = self.clock()
        if now - self._losses_said >= EVERY:
            self._losses_said = now
            self.note(f"step {step}: {_losses_in_words(values)}")

    def _write(self, line: str) -> None:
        _say(line, err=True)

    def _say_progress(self, doing: str, count: int, total: int, seconds: float) -> None:
        rate = count / seconds
        left = f", about {duration((total - count) / rate)} left" if total > count else ""
        self.note(f"{doing}: {count} of {max(total, count)} ({rate:.3g}/s{left})")

    def _say_finished(self, doing: str, count: int, seconds: float) -> None:
        if seconds >= LASTING:
            self.note(f"{doing}: {count} in {duration(seconds)} ({count / seconds:.3g}/s)")


class Bars(Lines):
    """A `Report` that draws bars on a terminal; lines are written above them. Used inside `terminal_report`."""

    def __init__(self, progress: "Progress") -> None:
        super().__init__()
        self.progress = progress
        self._tasks: list[TaskID] = []  # those that are running, the innermost last

    def track(self, items: Iterable[T], doing: str, total: int) -> Iterator[T]:
        """Yield `items` while a bar shows how far it is, how fast, and how long it still takes."""
        started = self.clock()
        task = self.progress.add_task(plain(doing), total=total)
        self._tasks.append(task)
        count = 0
        try:
            for item in items:
                yield item
                count += 1
                self.progress.advance(task)
        finally:
            self.progress.remove_task(task)
            self._tasks.remove(task)
        self._say_finished(doing, count, self.clock() - started)

    def losses(self, step: int, values: Mapping[str, float]) -> None:  # noqa: ARG002 - the bar shows the step
        """Show the loss terms below the bar of what is running."""
        for task in self._tasks[-1:]:
            self.progress.update(task, losses=plain(_losses_in_words(values)))

    def _write(self, line: str) -> None:
        from rich.text import Text

        # Printed by rich, so that the bar moves down instead of being torn.
        self.progress.console.print(Text.from_ansi(line), soft_wrap=True)


def _losses_in_words(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


@contextmanager
def terminal_report(*, quiet: bool = False) -> "Iterator[Report]":
    """Give core code a way to speak: bars where someone watches stderr, plain lines elsewhere.

    Args:
        quiet: No progress and no notes; warnings stay.
    """
    if quiet or not is_terminal(sys.stderr):
        yield Lines(quiet=quiet)
        return
    with _bars() as progress:
        yield Bars(progress)


def _bars() -> "Progress":
    """Build the bars: what, how far, how fast, how long still. They show up after `PATIENCE` and leave no trace."""
    from rich.console import Console, RenderableType
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            # Rich's own speed looks at the last moments only, and jumps where a batch ends at once.
            return Text(f"{task.completed / task.elapsed:.3g}/s" if task.completed and task.elapsed else "")

    class PatientProgress(Progress):
        def get_renderables(self) -> Iterable[RenderableType]:
            lasting = [task for task in self.tasks if (task.elapsed or 0) >= PATIENCE]
            if lasting:
                yield self.make_tasks_table(lasting)
                # Below the bar: beside it they would leave no room for how far it is.
                yield from (Text(task.fields["losses"]) for task in lasting if "losses" in task.fields)

    what = TextColumn("{task.description}", markup=False)
    columns = (what, BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn(compact=True))
    return PatientProgress(*columns, console=Console(stderr=True), transient=True)


def duration(seconds: float) -> str:
    """Return a span of time as people say it.

    Example:
        >>> duration(3.21), duration(75), duration(7500)
        ('3.2 s', '1 min 15 s', '2 h 5 min')
    """
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size_in_words(size: int | None) -> str:
    """Return a file size as people say it.

    Example:
        >>> size_in_words(241_000_000), size_in_words(11_000_000_000), size_in_words(None)
        ('241 MB', '11.0 GB', 'unknown')
    """
    if size is None:
        return "unknown"
    return f"{size / 1e9:.1f} GB" if size >= 10**9 else f"{size / 1e6:.0f} MB"


def show(text: str = "") -> None:
    """Write one line of a result to stdout."""
    _say(plain(text))


def show_facts(title: str, facts: Sequence[tuple[str, str]]) -> None:
    """Write a title and, below it, one `name  value` per line to stdout; a value of several lines stays aligned."""
    width = max((len(name) for name, _ in facts), default=0)
    show(title)
    for name, value in facts:
        show(f"  {name:<{width}}  " + value.replace("\n", "\n" + " " * (width + 4)))


def show_shares(title: str, shares: Mapping[str, float]) -> None:
    """Write fractions by name to stdout as a table in percent, in the order given."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", overflow="fold")
    table.add_column("%", justify="right")
    for name, share in shares.items():
        table.add_row(Text(plain(name)), f"{100 * share:.1f}")
    console = Console(file=sys.stdout, highlight=False)
    with console.capture() as drawn:
        console.print(table)
    show(f"\n{title}")
    _say("\n".join(line.rstrip() for line in drawn.get().rstrip().split("\n")))


def print_json(content: Any) -> None:
    """Write one JSON object to stdout, and nothing else; ASCII, so that every reader takes it."""
    _say(json.dumps(content, indent=2, allow_nan=False))
