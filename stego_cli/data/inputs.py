"""From what the user typed to the list of images."""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from stego_cli.data.folders import Entry, FolderReader
from stego_cli.data.images import IMAGE_SUFFIXES
from stego_cli.errors import StegoError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

_WILDCARD = re.compile(r"[*?[]")
_CONVERTIBLE = frozenset({".heic", ".heif", ".avif", ".jp2", ".svg", ".pdf", ".psd", ".dng", ".cr2", ".nef", ".exr"})
_MOST_NAMES = 20_000  # looked through for what may have been meant


@dataclass(frozen=True)
class InputImage:
    """One image to work on.

    Attributes:
        path: Where it is.
        relative: Its path within the folder (or within what stands before the first wildcard) that it was found
            under; the bare name of a file that was named itself. Outputs are laid out by it.
    """

    path: Path
    relative: PurePath


@dataclass(frozen=True)
class Skipped:
    """Something asked for that gives no image, such as a folder that cannot be read."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Collected:
    """What was found.

    Attributes:
        images: Each image once, in the order asked for; within folders in natural order (2 before 10).
        skipped: What gave no image although it should have; each is worth a warning.
    """

    images: tuple[InputImage, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """Every path that a result is owed for, the images first."""
        return [*(image.path for image in self.images), *(entry.path for entry in self.skipped)]


def collect_inputs(paths: Sequence[str | Path], exclude: Sequence[Path] = ()) -> Collected:
    """Find the images that files, folders and patterns stand for.

    Files are taken whatever they are called. Folders are searched with all that is below them, linked folders too,
    for names that end in one of `IMAGE_SUFFIXES`; hidden files and folders are left out. Patterns may contain `*`,
    `?`, `[...]` and `**`; an existing file or folder whose name looks like a pattern is taken as it is.

    Args:
        paths: What the user typed.
        exclude: Folders that are left out where they are met below a folder or pattern: the output of earlier runs.

    Raises:
        StegoError: If a path does not exist (all are named, with what may have been meant), or nothing was found.
    """
    search = _Search(exclude)
    missing = [_describe_missing(path) for path in paths if not search.add(path)]
    if missing:
        raise StegoError(
            "\n".join(missing) + "\n\nhint: check the spelling; patterns such as 'imgs/**/*.jpg' belong in quotes"
        )
    if not search.found:
        raise StegoError(search.describe_nothing(paths))
    return Collected(tuple(search.found.values()), search.skipped)


class _Search:
    """Collects images from one path after another, each file once.

    Args:
        exclude: Folders to leave out.
    """

    def __init__(self, exclude: Sequence[Path]) -> None:
        self.found: dict[tuple[str, str], InputImage] = {}
        self._folders = FolderReader(exclude)
        self._fruitless: dict[Path, str] = {}
        self._passed_over: dict[Path, str] = {}  # suffixes of files that are no images

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Return what gave no image although it should have."""
        reasons = self._folders.unreadable | self._fruitless
        return tuple(Skipped(path, reason) for path, reason in reasons.items())

    def add(self, typed: str | Path) -> bool:
        """Add what one path stands for; return False if there is nothing of that name."""
        path = Path(typed)
        while path.name == "**":  # everything below a folder is what the folder itself stands for
            path = path.parent
        if _is_folder(path) and str(typed):
            images = self._images([Entry(path, is_folder=True, is_link=False)], path, every_file=False)
        elif os.path.exists(typed):  # noqa: PTH110, `Path.exists` raises where a folder above is locked
            images = [InputImage(path, PurePath(path.name))]
        else:
            base, parts = _split_pattern(path)
            matches = self._folders.expand(base, parts) if parts else []
            if not matches:
                return False
            # `*.dat` asks for just these files, `*` for whatever images there are.
            every_file = bool(suffix := PurePath(parts[-1]).suffix) and not _WILDCARD.search(suffix)
            images = self._images(matches, base, every_file=every_file)
        if not images and path not in self._folders.unreadable:
            self._fruitless[path] = "holds no images"
        for image in images:
            self.found.setdefault((self._folders.real_path(image.path.parent), image.path.name), image)
        return True

    def describe_nothing(self, paths: Sequence[str | Path]) -> str:
        """Say what was looked for, and what is there instead."""
        where = ", ".join(f"`{printable(path)}`" for path in paths) or "an empty list of paths"
        lines = [f"no images in {where}"]
        lines += [f"`{printable(path)}`: {reason}" for path, reason in self._folders.unreadable.items()]
        kinds = Counter(self._passed_over.values())
        common = [f"{count} {printable(suffix) or 'without a suffix'}" for suffix, count in kinds.most_common(5)]
        lines.append(f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
        if common or not self._folders.unreadable:
            lines.append(f"found other files: {', '.join(common)}" if common else "found nothing that is not hidden")
        hint = "name the folder that holds the photographs; files that are named themselves may be called anything"
        if convertible := sorted(kinds.keys() & _CONVERTIBLE):
            hint = f"convert the {', '.join(convertible)} files to JPEG or PNG first"
        return "\n".join(lines) + f"\n\nhint: {hint}"

    def _images(self, entries: Sequence[Entry], base: Path, *, every_file: bool) -> list[InputImage]:
        """Return the images among files and below folders, in natural order; their paths are relative to `base`."""
        files = {entry.path for entry in entries if not entry.is_folder and (every_file or self._is_image(entry.path))}
        for folder in (entry.path for entry in entries if entry.is_folder):
            files |= {entry.path for entry in self._folders.below(folder)[1] if self._is_image(entry.path)}
        images = (InputImage(path, path.relative_to(base)) for path in files)
        return sorted(images, key=lambda image: _natural_order(image.relative))

    def _is_image(self, path: Path) -> bool:
        """Tell images by their name, and count what is passed over."""
        suffix = path.suffix.lower()
        if suffix not in IMAGE_SUFFIXES:
            self._passed_over[path] = suffix
        elif os.path.isfile(path):  # noqa: PTH113, as above
            return True
        else:
            self._fruitless[path] = "is a link to nothing, or no ordinary file"
        return False


def _is_folder(path: Path) -> bool:
    """Say whether there is a folder, without raising where a folder above it is locked."""
    return os.path.isdir(path)  # noqa: PTH112


def _split_pattern(path: Path) -> tuple[Path, tuple[str, ...]]:
    """Cut a path before its first part with a wildcard; no parts are left where there is none."""
    start = next((index for index, part in enumerate(path.parts) if _WILDCARD.search(part)), len(path.parts))
    return Path(*path.parts[:start]), path.parts[start:]


def _natural_order(relative: PurePath) -> list[tuple[list[int | str], str]]:
    """Sort numbers within names by value.

    Example:
        >>> sorted([PurePath("a10.jpg"), PurePath("a9.jpg")], key=_natural_order)[0].name
        'a9.jpg'
    """
    order: list[tuple[list[int | str], str]] = []
    for part in relative.parts:
        pieces = re.split("([0-9]+)", part.casefold())  # text and numbers take turns
        order.append(([int(piece) if odd % 2 else piece for odd, piece in enumerate(pieces)], part))
    return order


def _describe_missing(typed: str | Path) -> str:
    """Say that a path does not exist, and what may have been meant."""
    if not str(typed):
        return "an empty path was given; a variable may not be set"
    path = Path(typed)
    if os.path.islink(path):  # noqa: PTH114, as in `_is_folder`
        return f"`{printable(path)}` is a link to something that does not exist"
    base, parts = _split_pattern(path)
    if parts and _is_folder(base):
        locked = not os.access(base, os.R_OK)
        return f"`{printable(path)}` matches nothing" + (", its folder cannot be looked into" if locked else "")
    above = next(folder for folder in (*base.parents, Path()) if _is_folder(folder))
    words = f"`{printable(path)}` does not exist"
    try:
        with os.scandir(above) as entries:
            names = {entry.name.casefold(): entry.name for entry in islice(entries, _MOST_NAMES)}
    except OSError:
        return f"{words}, or is in a folder that cannot be looked into: `{printable(above)}`"
    wrong = base.parts[len(above.parts)]
    close = difflib.get_close_matches(wrong.casefold(), names, n=1)
    return f"{words}; did you mean `{printable(above / names[close[0]])}`?" if close else words
