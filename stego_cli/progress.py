"""How core code says what it is doing; the command line decides how that looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

T = TypeVar("T")


class Report(Protocol):
    """What the core may say while it works. Nothing said here is a result."""

    def track(self, items: Iterable[T], doing: str, total: int) -> Iterator[T]:
        """Yield `items` unchanged while showing progress; `total` may exceed what is yielded."""
        ...

    def note(self, message: str) -> None:
        """Say one thing that helps the reader, such as a choice made for them."""
        ...

    def warn(self, message: str) -> None:
        """Say one thing that the reader should act on, such as an input that was skipped."""
        ...


@runtime_checkable
class ShowsLosses(Protocol):
    """A `Report` that can also show how a training goes; one that cannot is told nothing of it."""

    def losses(self, step: int, values: Mapping[str, float]) -> None:
        """Show the loss terms, by name, as they are after so many steps."""
        ...


class Silence:
    """A `Report` that says nothing, for tests and for use as a library."""

    def track(self, items: Iterable[T], doing: str, total: int) -> Iterator[T]:  # noqa: ARG002
        """Yield `items` unchanged."""
        yield from items

    def note(self, message: str) -> None:
        """Drop the message."""

    def warn(self, message: str) -> None:
        """Drop the message."""
