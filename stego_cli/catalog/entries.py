"""What the catalog says about one thing that can be downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field, NonNegativeInt

from stego_cli.config.base import Block

if TYPE_CHECKING:
    from pathlib import Path

Kind: TypeAlias = Literal["backbones", "models", "datasets"]

# Folders and names go into paths: nothing absolute, nothing hidden, nothing upwards.
_FileName = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
_Folders = Annotated[str, Field(pattern=r"^(\w[\w.-]*/)*(\w[\w.-]*)?$")]


class CatalogFile(Block):
    """One file: where it comes from, what it is called on disk, and what its owner says about its content.

    Attributes:
        url: Its address; for a manual entry, the page on which a person fetches it.
        below: Folders that it lies in, below that of its kind, where its users expect some.
        file: Name on disk, without folders.
        is_folder: Whether it is a folder of files that its owner names nowhere: not verified, only looked for.
        size: Exact size in bytes, if published.
        size_about: Rounded size in bytes, if published; shown, and used to check the disk space.
        sha256: Published checksum, 64 lower-case hex digits.
        sha256_prefix: Its first digits, where only those are published.
        md5: Published checksum, 32 lower-case hex digits, for files that have no better one.
        md5_prefix: Its first digits, where only those are published.
        into: Folders below that of the dataset which an archive is unpacked into.
        holds: What is there once an archive is unpacked, below the folder of the dataset; by this a dataset is
            recognised that somebody unpacked by hand.
    """

    url: Annotated[str, Field(pattern=r"^https?://")]
    below: _Folders = ""
    file: _FileName
    is_folder: bool = False
    size: NonNegativeInt | None = None
    size_about: NonNegativeInt | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    sha256_prefix: Annotated[str, Field(pattern=r"^[0-9a-f]{4,63}$")] | None = None
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    md5_prefix: Annotated[str, Field(pattern=r"^[0-9a-f]{4,31}$")] | None = None
    into: _Folders = ""
    holds: tuple[_Folders, ...] = ()

    @property
    def path(self) -> str:
        """Where it lies below the folder of its kind."""
        return f"{self.below}/{self.file}" if self.below else self.file

    def is_in(self, folder: Path) -> bool:
        """Say whether what it holds is in the folder of a dataset, or one level deeper, as some archives have it."""
        places = (folder, folder / folder.name)
        return bool(self.holds) and any(all(_is_filled(place / part) for part in self.holds) for place in places)


class CatalogEntry(CatalogFile):
    """One thing with a name: a first file, perhaps others beside it, and what a user should know before fetching it.

    Attributes:
        beside: Names of further files on the same page, placed beside the first.
        also: Further files that come from elsewhere.
        licence: Under which terms, in a few words.
        terms: Where the terms are to be read.
        citation: What to cite.
        about: What it is.
        used_for: What needs it.
        caution: What is not confirmed about it, or missing from it, as a sentence.
        manual: Steps of a person, where no program may or can fetch it.
        folder: Name of the folder that the archives of a dataset are unpacked into, unless it is that of the entry.
        only_by_name: Whether it is left out unless it is named.
        readable: Whether the commands of this version can work with it.
    """

    beside: tuple[_FileName, ...] = ()
    also: tuple[CatalogFile, ...] = ()
    licence: str
    terms: str = ""
    citation: str = ""
    about: str = ""
    used_for: str = ""
    caution: str = ""
    manual: tuple[str, ...] = ()
    folder: _FileName | None = None
    only_by_name: bool = False
    readable: bool = True

    @property
    def files(self) -> tuple[CatalogFile, ...]:
        """All files of the entry, the first one first."""
        beside = (CatalogFile(url=self.url, below=self.below, file=name) for name in self.beside)
        return (self, *beside, *self.also)

    @property
    def bytes_about(self) -> int | None:
        """Size of all files together in bytes as far as it is published, or None when none is."""
        known = [size for file in self.files if (size := file.size or file.size_about)]
        return sum(known) if known else None


def _is_filled(path: Path) -> bool:
    """Say whether there is a file, or a folder with something in it."""
    return path.is_file() or (path.is_dir() and any(path.iterdir()))
