"""From what the user typed to the place of a store: a local folder, or any address that fsspec knows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from stego_cli.features.local import LocalPlace
from stego_cli.features.remote import RemotePlace, connect

if TYPE_CHECKING:
    from stego_cli.features.place import Place


def find_place(place: str | Path) -> Place:
    """Return the place that a path or an address such as `s3://bucket/features` means.

    Raises:
        MissingDependencyError: If a package is needed for the address; names it.
        StegoError: If fsspec does not know such addresses.
    """
    text = os.fspath(place)
    if "://" not in text:
        return LocalPlace(Path(text).expanduser())
    files, path = connect(text)
    if "file" in ((files.protocol,) if isinstance(files.protocol, str) else files.protocol):
        return LocalPlace(Path(path))
    return RemotePlace(text.rstrip("/"))
