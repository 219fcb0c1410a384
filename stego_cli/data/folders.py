"""Looking through folders: everything below one, or what a pattern matches, the same on every machine."""

from __future__ import annotations

import fnmatch
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path


class Entry(NamedTuple):
    """Something in a folder."""

    path: Path
    is_folder: bool
    is_link: bool


class FolderReader:
    """Lists folders, and remembers which ones could not be read. Hidden entries are left out.

    Args:
        exclude: Folders that are not entered from the folder above them.

    Attributes:
        unreadable: Folders that the system did not let us look into, with its reason.
    """

    def __init__(self, exclude: Iterable[Path] = ()) -> None:
        self.unreadable: dict[Path, str] = {}
        self._excluded = frozenset(os.path.realpath(folder) for folder in exclude)
        self._real_paths: dict[Path, str] = {}

    def real_path(self, folder: Path) -> str:
        """Return a folder's path without links."""
        if folder not in self._real_paths:
            self._real_paths[folder] = os.path.realpath(folder)
        return self._real_paths[folder]

    def below(self, root: Path) -> tuple[list[Entry], list[Entry]]:
        """Return the folders (the root first) and the files at and below `root`, each real folder once."""
        folders: list[Entry] = []
        files: list[Entry] = []
        stack, links, visited = [Entry(root, is_folder=True, is_link=False)], list[Entry](), set[str]()
        while stack or links:
            folder = stack.pop() if stack else links.pop()  # links last, so that files go by their real folder's name
            if self.real_path(folder.path) in visited:
                continue
            visited.add(self.real_path(folder.path))
            folders.append(folder)
            for entry in self._entries(folder.path):
                (files if not entry.is_folder else links if entry.is_link else stack).append(entry)
        return folders, files

    def expand(self, base: Path, parts: Sequence[str]) -> list[Entry]:
        """Return what a pattern matches; `**` stands for any folders.

        Args:
            base: Where to start.
            parts: The pattern's parts below `base`, such as `("**", "*.jpg")`. Hidden entries match a part that
                begins with a dot.
        """
        matches = [Entry(base, is_folder=True, is_link=False)]
        for part in parts:
            folders = [match.path for match in matches if match.is_folder]
            if part == "**":
                matches = [below for folder in folders for below in self.below(folder)[0]]
            else:
                entries = (entry for folder in folders for entry in self._entries(folder, hidden=part.startswith(".")))
                matches = [entry for entry in entries if fnmatch.fnmatch(entry.path.name, part)]
        return matches

    def _entries(self, folder: Path, *, hidden: bool = False) -> Iterator[Entry]:
        """List one folder, sorted by name."""
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            self.unreadable[folder] = f"cannot look into it: {error.strerror}"
            return
        for entry in entries:
            if entry.name.startswith(".") and not hidden:
                continue
            path = folder / entry.name
            is_link = entry.is_symlink()
            # Where a link leads is asked in a way that does not raise if it leads to itself.
            is_folder = os.path.isdir(path) if is_link else entry.is_dir(follow_symlinks=False)  # noqa: PTH112
            if not (is_folder and self._excluded and self.real_path(path) in self._excluded):
                yield Entry(path, is_folder, is_link)
