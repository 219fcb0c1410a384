"""What goes wrong while something is downloaded, in words."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError

from stego_cli.errors import StegoError
from stego_cli.files import printable

if TYPE_CHECKING:
    from pathlib import Path


class DownloadError(StegoError):
    """A file of the catalog could not be fetched, is not what it should be, or cannot be unpacked."""


class RefusedError(DownloadError):
    """The server answered, and asking again would not help."""


class StoppedError(DownloadError):
    """The run was stopped, by Ctrl-C or by our own bug in another file; what is done is kept."""


# Answers that pass by themselves.
PASSING = {408, 425, 429, 500, 502, 503, 504}
_ANSWERS = {
    401: "the server wants a login",
    403: "the server refuses access",
    404: "the file is not there any more",
    407: "the proxy wants a login",
    408: "the server gave up waiting",
    409: "the owner has closed public access",
    410: "the file was taken away",
    429: "the server was asked too often",
    500: "the server has a fault",
    502: "the server cannot reach its source",
    503: "the server is overloaded or being repaired",
    504: "the server cannot reach its source in time",
}
_FULL = {errno.ENOSPC, errno.EDQUOT}


def answer_in_words(status: int) -> str:
    """Say what an HTTP status means for the reader.

    Example:
        >>> answer_in_words(404)
        'the file is not there any more (HTTP 404)'
    """
    return f"{_ANSWERS.get(status, 'the server gives no file')} (HTTP {status})"


def in_words(error: BaseException) -> str:
    """Say what happened to a connection."""
    reason: Any = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
    if isinstance(reason, HTTPError):
        return answer_in_words(reason.code)
    if isinstance(reason, TimeoutError):
        return "the server has stopped sending"
    if isinstance(reason, socket.gaierror):
        return "the server's name cannot be found: is this machine offline?"
    if isinstance(reason, ConnectionRefusedError):
        return "nobody answers at that address: is this machine offline?"
    return f"the connection broke ({reason})"


def is_offline(error: BaseException) -> bool:
    """Say whether no name could be looked up: trying again within seconds would not help."""
    return isinstance(error, URLError) and isinstance(error.reason, socket.gaierror)


def cannot_write(path: Path, error: OSError) -> DownloadError:
    """Say why a file cannot be written, and what to do. What has arrived so far is kept."""
    if error.errno in _FULL:
        return DownloadError(
            f"cannot write `{printable(path)}`: no space left\n\nhint: free some space, then run the same command again"
        )
    return DownloadError(
        f"cannot write `{printable(path)}`: {error.strerror or error}\n\nhint: choose another place with --dir"
    )


def by_hand(url: str, place: Path) -> str:
    """Return the hint for people whose machine cannot fetch a file."""
    return f"fetch {url} by hand,\n      put it at {printable(place)}, and run the same command again to verify it"
