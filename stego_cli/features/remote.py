"""A store behind an address that fsspec knows."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from stego_cli.errors import MissingDependencyError, OutputError, StegoError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from stego_cli.features.place import Piece

# What fsspec needs beyond itself; its own messages name the package only for some.
_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("abfs", "abfss", "adl", "az"), "adlfs"),
    **dict.fromkeys(("hdfs", "arrow_hdfs"), "pyarrow"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    **dict.fromkeys(("http", "https"), "aiohttp requests"),
    "smb": "smbprotocol",
}


def connect(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of an address, and the path within it; fsspec keeps one per process.

    Raises:
        MissingDependencyError: If a package is needed for it; names it.
        StegoError: If fsspec does not know such addresses, or cannot use this one.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise MissingDependencyError(
            f"`{printable(url)}` needs the package fsspec\n\nhint: run `pip install fsspec`, or give a local folder"
        ) from error
    protocol = re.split(r"::|://", url, maxsplit=1)[0]
    try:
        files, path = url_to_fs(url)
    except ImportError as error:
        package = _PACKAGES.get(protocol) or error.name or "that it names"
        raise MissingDependencyError(
            f"`{printable(url)}` needs a package that is not installed: {error}\n\n"
            f"hint: run `pip install {package}`, or give a local folder"
        ) from error
    except Exception as error:
        raise StegoError(
            f"`{printable(url)}` cannot be used as a place for features: {error}\n\n"
            "hint: give a local folder, or an address that fsspec knows, such as s3://bucket/features"
        ) from error
    return files, path


class RemotePlace:
    """A folder behind an address; connected anew in every process, as file systems of fsspec ask for.

    An object store makes a file appear whole. Where an address is of another kind and a write is cut off, the size of
    the file tells on it.

    Args:
        url: The address, without a slash at its end.

    Raises:
        StegoError: If it cannot be used, see `connect`.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        connect(url)

    def __str__(self) -> str:
        return printable(self.url)

    def prepare(self) -> None:
        """Make the folder, where there are folders."""
        files, path = connect(self.url)
        with self._written():
            files.makedirs(path, exist_ok=True)

    def sizes(self) -> Mapping[str, int]:
        """Ask for the list of files, past any answer that fsspec remembers."""
        files, path = connect(self.url)
        try:
            files.invalidate_cache(path)
            found = files.ls(path, detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:
            raise StegoError(
                f"cannot look into `{self}`: {error}\n\nhint: check the address and your access to it"
            ) from error
        return {each["name"].rsplit("/", 1)[-1]: int(each["size"] or 0) for each in found if each["type"] == "file"}

    def heads(self, names: Sequence[str], length: int) -> list[bytes]:
        """Ask for all at once."""
        files, path = connect(self.url)
        paths = [f"{path}/{name}" for name in names]
        return self._ranges(files, paths, [0] * len(paths), [length] * len(paths))

    def read(self, pieces: Sequence[Piece]) -> None:
        """Ask for all at once."""
        files, path = connect(self.url)
        paths = [f"{path}/{piece.name}" for piece in pieces]
        starts = [piece.start for piece in pieces]
        ends = [piece.start + len(piece.target) for piece in pieces]
        for piece, data in zip(pieces, self._ranges(files, paths, starts, ends), strict=True):
            if len(data) != len(piece.target):
                raise EOFError(piece.name)
            piece.target[:] = data

    def write(self, name: str, data: bytes) -> None:
        """Send the file in one piece."""
        files, path = connect(self.url)
        with self._written():
            files.pipe_file(f"{path}/{name}", data)

    def remove(self, names: Iterable[str]) -> None:
        """Remove one file after another."""
        files, path = connect(self.url)
        with self._written():
            for name in names:
                with suppress(FileNotFoundError):
                    files.rm_file(f"{path}/{name}")

    def _ranges(self, files: Any, paths: list[str], starts: list[int], ends: list[int]) -> list[bytes]:
        """Read a range of each file; whatever goes wrong with the address becomes an OSError."""
        try:
            answers: list[bytes] = files.cat_ranges(paths, starts, ends, on_error="raise") if paths else []
        except OSError:
            raise
        except Exception as error:
            raise OSError(str(error)) from error
        return answers

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Turn whatever is said about a write into a message."""
        try:
            yield
        except Exception as error:
            raise OutputError(
                f"cannot write to `{self}`: {error}\n\n"
                "hint: check the address and your access to it, or choose another place with --out"
            ) from error
