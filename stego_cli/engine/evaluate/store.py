"""`scores.json` of a report folder: what is finished, so that the same command continues where it stopped."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stego_cli import __version__
from stego_cli.engine.workplace import workplace
from stego_cli.errors import OutputError
from stego_cli.files import printable, remove_unfinished, write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

SCORES_NAME = "scores.json"
PAGE_NAME = "index.html"
FORMAT = 1

Entry = dict[str, Any]
"""One model on one split: what `--json` prints, and what only the report needs (`PRIVATE`)."""

PRIVATE = ("fingerprint", "confusion", "label_space", "folder", "examples", "model")


def digest(facts: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what a result depends on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def finished(folder: Path) -> dict[str, Entry]:
    """Return the results that a folder has, by fingerprint; none if its record cannot be read."""
    try:
        content = json.loads((folder / SCORES_NAME).read_text("utf-8"))
        if content["format"] != FORMAT:
            return {}
        entries = [*content.get("earlier", ()), *content["results"]]
        return {entry["fingerprint"]: entry for entry in entries if _is_whole(folder, entry)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not there, or changed by hand
        return {}


def save_entries(folder: Path, entries: Sequence[Entry], found: Mapping[str, Entry]) -> None:
    """Write the record, whole or not at all.

    Args:
        folder: The report.
        entries: The results that were asked for.
        found: What the record had, by fingerprint: of it the others are kept for commands that ask for them.

    Raises:
        OutputError: If it cannot be written.
    """
    asked = {entry["fingerprint"] for entry in entries}
    earlier = [entry for fingerprint, entry in found.items() if fingerprint not in asked]
    content = {"format": FORMAT, "stego": __version__, "results": list(entries), "earlier": earlier}
    write_text(folder / SCORES_NAME, json.dumps(content, indent=1, allow_nan=False) + "\n")


@contextmanager
def report_folder(folder: Path, places: Iterable[str]) -> Iterator[None]:
    """Keep other runs out of a report while the block lasts; what a killed run left half written is removed.

    Args:
        folder: The report.
        places: Folders of single results in it.

    Raises:
        OutputError: If it cannot be written to, or another run is at work in it.
    """
    try:
        with workplace(folder):
            ours = [folder] if (folder / SCORES_NAME).exists() else []
            remove_unfinished(*ours, *(folder / each for each in places))
            yield
    except OutputError as error:  # which knows of --out, the option of most commands
        raise OutputError(str(error).replace("with --out", "with --report")) from error


def refuse_foreign(folder: Path) -> None:
    """Refuse to write a page over one that is not ours.

    Raises:
        OutputError: Names it.
    """
    page = folder / PAGE_NAME
    if page.exists() and not (folder / SCORES_NAME).exists():
        raise OutputError(
            f"`{printable(page)}` would be replaced, and no `{SCORES_NAME}` says that this command wrote it\n\n"
            "hint: choose another folder with --report, or add --overwrite if it may go"
        )


def public(entry: Entry) -> Entry:
    """Return what `--json` prints of a result."""
    return {key: value for key, value in entry.items() if key not in PRIVATE}


def _is_whole(folder: Path, entry: Entry) -> bool:
    """Say whether all files of a result are there still."""
    place = folder / entry["folder"]
    pictures = [place / file for example in entry["examples"] for file in example["pictures"].values()]
    return all(path.is_file() for path in [place / "images.csv", *pictures])
