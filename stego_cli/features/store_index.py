"""The file beside the shards that says what they were made from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from stego_cli.checkpoints.plain import harmless
from stego_cli.errors import StaleError, StegoError
from stego_cli.features.fingerprint import Fingerprint
from stego_cli.features.shards import MAX_RECORDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stego_cli.features.place import Place

FORMAT = 1
INDEX_NAME = "store.json"
BUILT_BY = {"maps": "stego features build", "pooled": "stego knn build"}
_MAX_BYTES = 2**20


def index_bytes(fingerprint: Fingerprint, shard_size: int) -> bytes:
    """Return the content of the file."""
    content = {"format": FORMAT, "shard_size": shard_size, "fingerprint": fingerprint.model_dump(mode="json")}
    return (json.dumps(content, indent=2) + "\n").encode()


def read_index(where: Place) -> tuple[Fingerprint, int]:
    """Read what the store at a place was made from, and how many records its shards have.

    Raises:
        StegoError: If there is no store, or the file cannot be read or understood.
    """
    try:
        content: Mapping[str, Any] = json.loads(where.heads([INDEX_NAME], _MAX_BYTES)[0])
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}; this version of stego reads format {FORMAT}")
        shard_size = content["shard_size"]
        if type(shard_size) is not int or not 1 <= shard_size <= MAX_RECORDS:
            raise ValueError(f"shard_size {shard_size!r}")
        return Fingerprint.model_validate(content["fingerprint"]), shard_size
    except FileNotFoundError as error:
        raise StegoError(
            f"no features in `{where}`\n\nhint: run `{BUILT_BY['maps']}` first, or see that the path is right"
        ) from error
    except OSError as error:
        raise StegoError(f"cannot read `{where}`: {error}\n\nhint: give a folder that may be read") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise StegoError(
            f"`{INDEX_NAME}` in `{where}` is damaged, so nobody can tell what the features were made from: "
            f"{harmless(why)}\n\nhint: begin anew with --overwrite"
        ) from error


def refuse_stale(where: Place, found: Fingerprint, wanted: Fingerprint) -> None:
    """Do nothing if what was made is what is asked for.

    Raises:
        StaleError: If not; names every difference.
    """
    if differences := found.differences(wanted):
        raise StaleError(
            f"the features in `{where}` were made from something else:\n  "
            + "\n  ".join(harmless(each) for each in differences)
            + "\n\nhint: make them again with --overwrite, or keep both and choose another place with --out"
        )
