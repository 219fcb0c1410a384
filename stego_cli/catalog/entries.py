"""What the catalog says about one thing that can be downloaded."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, NonNegativeInt

from stego_cli.config.base import Block

Kind: TypeAlias = Literal["backbones", "models", "datasets"]


class CatalogFile(Block):
    """One file: where it comes from, what it is called on disk, and what its owner says about its content.

    Attributes:
        url: Its address; for a manual entry, the page on which a person fetches it.
        file: Name on disk, without folders.
        size: Exact size in bytes, if published.
        size_about: Rounded size in bytes, if published; shown, and used to check the disk space.
        sha256: Published checksum, 64 lower-case hex digits.
        md5: Published checksum, 32 lower-case hex digits, for files that have no better one.
    """

    url: Annotated[str, Field(pattern=r"^https?://")]
    file: Annotated[str, Field(pattern=r"^[\w][\w.-]*$")]
    size: NonNegativeInt | None = None
    size_about: NonNegativeInt | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None


class CatalogEntry(CatalogFile):
    """One thing with a name: a first file, perhaps others beside it, and what a user should know before fetching it."""

    licence: str
    terms: str = ""
    citation: str = ""
    about: str = ""
    used_for: str = ""
    also: tuple[CatalogFile, ...] = ()
    manual: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[CatalogFile, ...]:
        """All files of the entry, the first one first."""
        return (self, *self.also)

    @property
    def bytes_about(self) -> int | None:
        """Size of all files together in bytes as far as it is published, or None when none is."""
        known = [size for file in self.files if (size := file.size or file.size_about)]
        return sum(known) if known else None
