"""What the outputs of each input are called, so that no two inputs ever write the same file."""

from __future__ import annotations

import itertools
import os
import unicodedata
from collections import Counter
from pathlib import PurePath, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from stego_cli.data.inputs import InputImage


def assign_names(images: Sequence[InputImage], taken: Mapping[str, str] | None = None) -> dict[Path, str]:
    """Give every input a name of its own; an output's path is a folder, this name, and a suffix added to it.

    The name is the relative path without its suffix. Inputs that would share it (`a.jpg` and `a.png`) all keep their
    suffix; those that still agree (the same name in two folders) get the folder's name in front, or a number. Names
    count as equal if they differ only in case or in the way accents are encoded, as on many disks, and no name is
    given that would need a folder where another output is a file.

    Args:
        images: The inputs, in the order in which they have the choice.
        taken: Names from earlier runs, by absolute path of the input. Those are kept, and not given to others.

    Returns:
        Relative names with `/` between folders, by path of the input. None leaves the output folder. Bytes of file
        names that are no text are kept as they are.

    Example:
        >>> from pathlib import Path
        >>> from stego_cli.data.inputs import InputImage
        >>> paths = [Path("imgs/a.jpg"), Path("imgs/a.png"), Path("imgs/b/c.jpg")]
        >>> list(assign_names([InputImage(path, path.relative_to("imgs")) for path in paths]).values())
        ['a.jpg', 'a.png', 'b/c']
    """
    reserved = _Reserved()
    kept = {owner: name for owner, name in (taken or {}).items() if _is_safe(name) and reserved.take(name)}
    inputs = {image.path: image for image in images}.values()
    wanted = Counter(_fold(_without_suffix(_safe_parts(image.relative))) for image in inputs)
    names: dict[Path, str] = {}
    for image in inputs:
        known = kept.get(str(image.path.absolute()))
        names[image.path] = known or next(name for name in _candidates(image, wanted) if reserved.take(name))
    return names


class _Reserved:
    """The names that are gone, and those that would put a file where another output needs a folder."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._blocked: set[str] = set()

    def take(self, name: str) -> bool:
        """Reserve a name; return False, and change nothing, if it cannot be had."""
        key = _fold(name)
        folders = set(_names_that_hit_a_folder(key))
        if key in self._names or key in self._blocked or folders & self._names:
            return False
        self._names.add(key)
        self._blocked |= folders
        return True


def _names_that_hit_a_folder(key: str) -> Iterator[str]:
    """Yield the names of which an output could be one of the folders that `key` lies in.

    Example:
        >>> list(_names_that_hit_a_folder("x/a.b.png/c"))  # the output x/a.png cannot be beside the folder x/a.png/
        ['x/a', 'x/a.b']
    """
    folders = key.split("/")[:-1]
    for depth, folder in enumerate(folders):
        for end in (index for index, letter in enumerate(folder) if letter == "." and index):
            yield "/".join((*folders[:depth], folder[:end]))


def _candidates(image: InputImage, wanted: Counter[str]) -> Iterator[str]:
    """Yield names for an input, best first, without end."""
    parts = _safe_parts(image.relative)
    short, full = _without_suffix(parts), "/".join(parts)
    if wanted[_fold(short)] == 1:
        yield short
    yield full
    if root := _root_name(image, len(parts)):
        yield f"{root}/{full}"
    first, rest = PurePosixPath(parts[0]), parts[1:]
    for number in itertools.count(2):
        # A folder whose name has a dot may be in the way of an output whatever is added, so it goes without.
        numbered = f"{first.name.replace('.', '_')}-{number}" if rest else f"{first.stem}-{number}{first.suffix}"
        yield "/".join((numbered, *rest))


def _root_name(image: InputImage, depth: int) -> str:
    """Return the name of the folder that an input was found under."""
    parents = PurePath(os.path.abspath(image.path)).parents  # noqa: PTH100, `resolve` would follow links
    return parents[depth - 1].name if depth <= len(parents) else ""


def _safe_parts(relative: PurePath) -> tuple[str, ...]:
    """Return the parts of a relative path that lead downwards."""
    return tuple(part for part in relative.parts if part not in ("..", relative.anchor)) or ("image",)


def _without_suffix(parts: Sequence[str]) -> str:
    stem = PurePosixPath(parts[-1]).stem
    return "/".join((*parts[:-1], parts[-1] if stem in {".", ".."} else stem))


def _is_safe(name: str) -> bool:
    """Tell whether a name, which someone may have edited, stays within the output folder."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and str(path) == name


def _fold(name: str) -> str:
    """Return what names have in common that some disk takes for the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
