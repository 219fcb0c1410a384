"""What a folder of files must be able to do for a store to lie in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Piece(NamedTuple):
    """Bytes to read: the file, where in it they begin, and the memory that they fill."""

    name: str
    start: int
    target: memoryview


class Place(Protocol):
    """A flat folder of files, each of which appears whole."""

    def __str__(self) -> str:
        """Return the path or address as people type it."""
        ...

    def prepare(self) -> None:
        """Make the folder, and clear away what killed processes left half written.

        Raises:
            OutputError: If the folder cannot be made.
        """
        ...

    def sizes(self) -> Mapping[str, int]:
        """Return the files by name, with their sizes in bytes; nothing if there is no folder.

        Raises:
            StegoError: If the folder cannot be looked into.
        """
        ...

    def heads(self, names: Sequence[str], length: int) -> list[bytes]:
        """Return the first bytes of each file, all of it if it is shorter.

        Raises:
            OSError: If a file is not there or cannot be read.
        """
        ...

    def read(self, pieces: Sequence[Piece]) -> None:
        """Fill the memory of all pieces; those of one file are best given one after another.

        Raises:
            EOFError: If a file ends before a piece does; its argument is the file's name.
            OSError: If a file is not there or cannot be read.
        """
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a file, in place of one of the same name.

        Raises:
            OutputError: If that is refused; the file is as it was.
        """
        ...

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those that are not there are passed over.

        Raises:
            OutputError: If that is refused.
        """
        ...
