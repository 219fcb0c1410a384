"""From names in the catalog to the files that are meant, what of them is there, and what became of them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from stego_cli.catalog.locate import catalog, stego_home
from stego_cli.catalog.unpack import is_begun, is_unpacked
from stego_cli.errors import StegoError
from stego_cli.files import as_typed, printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stego_cli.catalog.entries import CatalogEntry, CatalogFile, Kind

Status = Literal["fetched", "present", "missing", "failed"]


@dataclass(frozen=True)
class Wanted:
    """One file of the catalog, and where it goes.

    Attributes:
        kind: Its part of the catalog.
        name: The entry that it belongs to.
        entry: What the catalog says about the entry.
        file: What the catalog says about the file.
        base: Folder for everything of its kind.
    """

    kind: Kind
    name: str
    entry: CatalogEntry
    file: CatalogFile
    base: Path

    @property
    def path(self) -> Path:
        """Where the file belongs."""
        return self.base / self.file.path

    @property
    def dataset(self) -> Path | None:
        """The folder of the dataset, or None if it is none."""
        return self.base / (self.entry.folder or self.name) if self.kind == "datasets" else None

    @property
    def folder(self) -> Path | None:
        """Where the file is unpacked, or None if it is used as it is."""
        return self.dataset / self.file.into if self.dataset else None

    @property
    def present(self) -> bool:
        """Whether it can be used; an archive may be removed once it is unpacked."""
        if self.file.is_folder:
            return self.path.is_dir() and any(self.path.iterdir())
        if self.folder is None:
            return self.path.is_file()
        return is_unpacked(self.path, self.folder) or self.by_others

    @property
    def by_others(self) -> bool:
        """Whether it is a dataset that somebody unpacked by hand: all is there, and nothing was begun here."""
        return self.dataset is not None and not is_begun(self.dataset) and self.file.is_in(self.dataset)

    @property
    def has_to_come(self) -> bool:
        """Whether this machine has neither the file nor what is made of it."""
        return not self.present and not self.path.exists()

    @property
    def usage(self) -> str:
        """How commands are told of it where it lies outside `STEGO_HOME`; nothing if no command can use it."""
        path = as_typed(self.path)
        if not self.entry.readable:
            return ""
        if self.kind == "datasets":
            return f"--data-dir {as_typed(self.base)}"
        return f"--model {path}" if self.kind == "models" else f"--backbone {self.name} --weights {path}"

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints about it before anything is done."""
        return {
            "kind": self.kind,
            "name": self.name,
            "file": self.file.file,
            "url": self.file.url,
            "path": printable(self.path),
            "folder": printable(self.folder) if self.folder else None,
            "size": self.file.size or self.file.size_about,
            "about": self.entry.about,
            "licence": self.entry.licence,
            "terms": self.entry.terms,
            "citation": self.entry.citation,
            "used_for": self.entry.used_for,
            "caution": self.entry.caution,
            "by_hand": bool(self.entry.manual),
            "present": self.present,
        }


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes:
        wanted: Which.
        status: What became of it.
        sha256: Its checksum, where there is a single file that was looked at.
        message: Why it is missing or has failed.
    """

    wanted: Wanted
    status: Status
    sha256: str | None = None
    message: str = ""

    @property
    def in_words(self) -> str:
        """Return in a few words what became of it."""
        if self.status == "present" and self.wanted.file.is_folder:
            return "is there; not verified, as its files are listed nowhere"
        if self.status == "present" and self.sha256 is None and self.wanted.by_others:
            return "is there, unpacked by you; not verified against an archive"
        return {"present": "is there and sound", "fetched": "done"}.get(self.status, self.status)

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints about it."""
        return self.wanted.to_json() | {"status": self.status, "sha256": self.sha256, "message": self.message}


def choose(
    kinds: Sequence[Kind], names: Sequence[str], directory: Path | None = None, *, everything: bool = False
) -> list[Wanted]:
    """Return the files of the named entries, in the catalog's order.

    Args:
        kinds: Parts of the catalog to look in.
        names: What people typed; without names it is what most people need.
        directory: Where the files go instead of `STEGO_HOME/<kind>`.
        everything: Take all entries where there are no names.

    Raises:
        StegoError: If a name is not there; names a near one, or the part of the catalog that has it.
    """
    known = {name: (kind, entry) for kind in kinds for name, entry in catalog()[kind].items()}
    for name in names:
        if name not in known:
            raise StegoError(
                f"nothing in the catalog is called `{printable(name)}`\n\nhint: {_near(name, list(known))}"
            )
    wanted = []
    for name, (kind, entry) in known.items():
        if name in names or (not names and (everything or not entry.only_by_name)):
            base = directory if directory is not None else stego_home() / kind
            wanted += [Wanted(kind, name, entry, file, base) for file in entry.files]
    return wanted


def steps(items: Sequence[Wanted]) -> str:
    """Tell a person how to get files of one entry that no program may fetch."""
    first = items[0]
    lines = list(first.entry.manual)
    for item in items:
        if item.file.is_folder:
            lines.append(f"fetch all that is in {item.file.url} and put it into the folder {printable(item.path)}")
        else:
            lines.append(f"fetch `{item.file.file}` from {item.file.url} and put it at {printable(item.path)}")
    doing = "verifies and unpacks" if first.folder else "looks for" if first.file.is_folder else "verifies"
    lines.append(f"run the same command again: it {doing} what you have placed")
    files = ", ".join(f"`{item.file.file}`" for item in items)
    numbered = "".join(f"\n  {number}. {line}" for number, line in enumerate(lines, 1))
    return (
        f"{first.name}: {files} can only be fetched by you:{numbered}\n\n"
        f"hint: another folder than {printable(first.base)} will do, too; name it with --dir"
    )


def complaints(outcomes: Sequence[Outcome]) -> list[str]:
    """Return what to tell about the files that are not there, those of one entry that a person has to fetch as one."""
    missing: dict[str, list[Wanted]] = {}
    for outcome in outcomes:
        if outcome.status == "missing":
            missing.setdefault(outcome.wanted.name, []).append(outcome.wanted)
    failed = [outcome.message for outcome in outcomes if outcome.status == "failed"]
    return [*failed, *(steps(items) for items in missing.values())]


def _near(name: str, known: list[str]) -> str:
    for kind, entries in catalog().items():
        if name in entries:
            return f"it is one of the {kind}: `stego download {kind} {name}`"
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean `{near[0]}`?" if near else f"there are {', '.join(known)}"
