"""What a server says about a file: which version it is, how long, and from where it sends."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from urllib.error import HTTPError


@dataclass(frozen=True)
class Version:
    """Which version of a file the bytes of a `.part` belong to."""

    url: str
    etag: str | None = None
    modified: str | None = None
    total: int | None = None

    @property
    def validator(self) -> str | None:
        """What `If-Range` may carry: a strong tag, else the date of the last change (RFC 9110, 13.1.5)."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        return strong or self.modified


def version_of(response: http.client.HTTPResponse, url: str) -> Version:
    """Return which version of the file at `url` an answer carries."""
    headers = response.headers
    return Version(url, headers.get("ETag"), headers.get("Last-Modified"), total_of(response))


def total_of(response: http.client.HTTPResponse) -> int | None:
    """Return the length of the whole file in bytes, or None if the server does not say."""
    if response.status == http.client.PARTIAL_CONTENT:
        total = (response.headers.get("Content-Range") or "").rpartition("/")[2]
        return int(total) if total.isdigit() else None
    length = response.headers.get("Content-Length") or ""
    return int(length) if length.isdigit() else None


def first_byte(response: http.client.HTTPResponse) -> int:
    """Return the offset that a partial answer begins at, or -1."""
    first = (response.headers.get("Content-Range") or "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else -1


def retry_after(error: HTTPError) -> float | None:
    """Return the seconds that the server asks to wait, if it says so as a number."""
    text = error.headers.get("Retry-After") or ""
    return float(text) if text.isdigit() else None
