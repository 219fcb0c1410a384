"""Questions to servers: where redirects may lead, and how long a file is."""

from __future__ import annotations

import http.client
import urllib.request
from typing import IO, TYPE_CHECKING, Any
from urllib.error import HTTPError

from stego_cli.catalog.failures import RefusedError
from stego_cli.catalog.versions import total_of

if TYPE_CHECKING:
    from collections.abc import Mapping


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to anything weaker."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Return the next request; called by urllib.

        Raises:
            RefusedError: If it would be weaker.
        """
        weaker = req.full_url.startswith("https:") and not newurl.startswith("https:")
        if weaker or not newurl.startswith(("http:", "https:")):
            raise RefusedError(f"the server sends us on from {req.full_url} to {newurl}, which is not secure")
        found = super().redirect_request(req, fp, code, msg, headers, newurl)
        if found and req.get_method() == "HEAD":  # or older versions of Python would fetch the file
            found.method = "HEAD"
        return found


def ask(url: str, timeout: float, headers: Mapping[str, str] | None = None, *, method: str = "GET") -> Any:
    """Send a request and return the answer, which is to be closed.

    Args:
        url: Address, http or https.
        timeout: Seconds without an answer, or a byte of it, after which the connection counts as dead.
        headers: What to say beside the usual.
        method: `GET`, or `HEAD` for the headers alone.

    Raises:
        RefusedError: If it leads to an address that is not secure.
        OSError: If there is no answer, or it is an error (`HTTPError`).
    """
    said = {"User-Agent": "stego", "Accept-Encoding": "identity", **(headers or {})}
    request = urllib.request.Request(url, headers=said, method=method)  # noqa: S310 - the catalog takes http(s) only
    return urllib.request.build_opener(Redirects).open(request, timeout=timeout)


def length_of(url: str, timeout: float) -> int | None:
    """Ask a server how long a file is, without fetching it.

    Returns:
        Bytes, or None if the server does not say; what is wrong with it is for the transfer itself to tell.
    """
    try:
        with ask(url, timeout, method="HEAD") as response:
            page = "text/html" in (response.headers.get("Content-Type") or "")
            return None if page else total_of(response)
    except HTTPError as error:
        error.close()
    except (OSError, http.client.HTTPException, RefusedError):
        pass
    return None
