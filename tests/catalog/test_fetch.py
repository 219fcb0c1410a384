"""Transfers from a server on this machine that does everything a bad one does."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.request import Request

import pytest

from stego_cli.catalog import fetch as module
from stego_cli.catalog.failures import DownloadError, StoppedError
from stego_cli.catalog.fetch import Policy, fetch, notes_of, part_of
from stego_cli.catalog.servers import Redirects, length_of
from stego_cli.progress import Silence

BODY = b"PK\x03\x04" + random.Random(0).randbytes(3_000_000)
OTHER = b"PK\x03\x04" + random.Random(1).randbytes(2_500_000)
HALF = 1_500_000
Handler = BaseHTTPRequestHandler
Behaviour = Callable[["Handler"], None]


class Server(ThreadingHTTPServer):
    """Answers each request with the next of `script`, the last one for ever; remembers the headers that came."""

    script: list[Behaviour]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script, self.seen, self.paths = [], [], []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.ckpt"

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet about clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        server.seen.append(dict(self.headers))
        server.paths.append(self.path)
        behaviour = server.script.pop(0) if len(server.script) > 1 else server.script[0]
        behaviour(self)
        self.close_connection = True

    do_HEAD = do_GET  # noqa: N815 - the base class calls it so

    def log_message(self, *_: object) -> None:
        pass


def serving(
    body: bytes = BODY, *, etag: str | None = '"v1"', ranges: bool = True, upto: int | None = None, length: bool = True
) -> Behaviour:
    """Serve `body`, honouring Range and If-Range; hang up once `upto` bytes of it were sent."""

    def behave(handler: Handler) -> None:
        wanted, start = handler.headers.get("Range"), 0
        if wanted and ranges and handler.headers.get("If-Range") in {None, etag}:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            handler.send_response(200)
        if etag:
            handler.send_header("ETag", etag)
        if length:
            handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        handler.wfile.write(body[start:upto])

    return behave


def stalling(handler: Handler) -> None:
    serving(upto=HALF)(handler)
    handler.wfile.flush()
    handler.server.released.wait(5)


def status(code: int, body: bytes = b"<html>no</html>", **headers: str) -> Behaviour:
    def behave(handler: Handler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return behave


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.released.set()
    made.shutdown()
    thread.join()
    made.server_close()


class Waits(list[float]):
    """Remembers how long it was asked to wait, and does not."""

    def policy(self, **more: float) -> Policy:
        return Policy(**{"retries": 3, "timeout": 5.0, **more}, sleep=self.append)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "models" / "file.ckpt"


def ranges(server: Server) -> list[str | None]:
    return [headers.get("Range") for headers in server.seen]


def test_a_file_arrives_whole_under_its_temporary_name(server: Server, place: Path) -> None:
    server.script = [serving()]
    assert fetch(server.url, place) == part_of(place)
    assert part_of(place).read_bytes() == BODY
    assert not place.exists()


def test_a_dropped_connection_goes_on_where_it_stopped(server: Server, place: Path, waits: Waits) -> None:
    server.script = [serving(upto=HALF), serving(upto=2_000_000), serving()]
    fetch(server.url, place, policy=waits.policy())
    assert part_of(place).read_bytes() == BODY
    assert ranges(server) == [None, f"bytes={HALF}-", "bytes=2000000-"]
    assert server.seen[1]["If-Range"] == '"v1"'
    assert waits == [1.0, 1.0]  # each attempt brought something, so patience begins anew


def test_a_later_process_goes_on_where_the_first_was_killed(server: Server, place: Path, waits: Waits) -> None:
    server.script = [serving(upto=HALF), status(503)]
    with pytest.raises(DownloadError):
        fetch(server.url, place, policy=waits.policy(retries=1))
    server.script, server.seen = [serving()], []
    fetch(server.url, place)
    assert part_of(place).read_bytes() == BODY
    assert ranges(server) == [f"bytes={HALF}-"]


def test_a_process_killed_outright_loses_nothing(server: Server, place: Path) -> None:
    server.script = [stalling]
    code = (
        "import sys, pathlib; from stego_cli.catalog.fetch import fetch; fetch(sys.argv[1], pathlib.Path(sys.argv[2]))"
    )
    with subprocess.Popen([sys.executable, "-c", code, server.url, str(place)]) as process:
        deadline = time.monotonic() + 20
        while not part_of(place).exists() or part_of(place).stat().st_size < HALF:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    server.released.set()
    server.script, server.seen = [serving()], []
    fetch(server.url, place)
    assert part_of(place).read_bytes() == BODY
    assert ranges(server) == [f"bytes={HALF}-"]


def test_a_server_that_does_not_say_the_length_is_believed(server: Server, place: Path) -> None:
    server.script = [serving(length=False, etag=None)]
    fetch(server.url, place)
    assert part_of(place).read_bytes() == BODY


def test_killed_after_the_last_byte_nothing_is_asked_for(server: Server, place: Path) -> None:
    server.script = [serving()]
    fetch(server.url, place)
    fetch(server.url, place)
    assert len(server.seen) == 1


def test_a_server_without_ranges_starts_again_cleanly(server: Server, place: Path, waits: Waits) -> None:
    server.script = [serving(ranges=False, upto=HALF), serving(ranges=False)]
    fetch(server.url, place, policy=waits.policy())
    assert part_of(place).read_bytes() == BODY


def test_a_server_that_always_breaks_off_at_the_same_byte_is_given_up(
    server: Server, place: Path, waits: Waits
) -> None:
    server.script = [serving(ranges=False, upto=HALF)]
    with pytest.raises(DownloadError, match="broke off after 1500000 of 3000004 bytes"):
        fetch(server.url, place, policy=waits.policy())
    assert len(server.seen) == 4  # one that brought something, and three that brought no more


def test_a_file_that_changed_in_between_is_fetched_anew(server: Server, place: Path, waits: Waits) -> None:
    server.script = [serving(upto=HALF), serving(OTHER, etag='"v2"')]
    fetch(server.url, place, policy=waits.policy())
    assert part_of(place).read_bytes() == OTHER


def test_a_range_of_another_version_is_not_glued_on(server: Server, place: Path, waits: Waits) -> None:
    def careless(handler: Handler) -> None:  # ignores If-Range
        del handler.headers["If-Range"]
        serving(OTHER, etag='"v2"')(handler)

    server.script = [serving(upto=HALF), careless]
    fetch(server.url, place, policy=waits.policy())
    assert part_of(place).read_bytes() == OTHER
    assert ranges(server) == [None, f"bytes={HALF}-", None]


def test_a_range_that_begins_elsewhere_is_not_glued_on(server: Server, place: Path, waits: Waits) -> None:
    def shifted(handler: Handler) -> None:  # as many bytes as are missing, from the wrong place
        content = BODY[7 : 7 + len(BODY) - HALF]
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 7-{6 + len(content)}/{len(BODY)}")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    server.script = [serving(upto=HALF), shifted, serving()]
    fetch(server.url, place, policy=waits.policy())
    assert part_of(place).read_bytes() == BODY


def test_without_a_tag_the_length_tells_versions_apart(server: Server, place: Path, waits: Waits) -> None:
    server.script = [serving(etag=None, upto=HALF), serving(OTHER, etag=None), serving(OTHER, etag=None)]
    fetch(server.url, place, policy=waits.policy())
    assert part_of(place).read_bytes() == OTHER


def test_a_part_of_unknown_origin_is_not_continued(server: Server, place: Path) -> None:
    place.parent.mkdir(parents=True)
    part_of(place).write_bytes(b"x" * HALF)
    notes_of(place).write_text("{")
    server.script = [serving()]
    fetch(server.url, place)
    assert part_of(place).read_bytes() == BODY


def test_a_part_that_is_longer_than_the_file_is_not_continued(server: Server, place: Path, waits: Waits) -> None:
    server.script = [serving(), serving(OTHER, etag='"v2"')]
    fetch(server.url, place)
    with part_of(place).open("ab") as file:
        file.write(b"more")
    fetch(server.url, place, policy=waits.policy())
    assert part_of(place).read_bytes() == OTHER
    assert ranges(server) == [None, None]


def test_a_range_beyond_the_end_starts_again(server: Server, place: Path, waits: Waits) -> None:
    server.script = [serving(upto=HALF), status(416), serving(OTHER, etag='"v2"')]
    fetch(server.url, place, policy=waits.policy())
    assert part_of(place).read_bytes() == OTHER


def test_a_stalled_connection_counts_as_dead(server: Server, place: Path, waits: Waits) -> None:
    server.script = [stalling, serving()]
    notes: list[str] = []
    report = Silence()
    report.note = notes.append  # type: ignore[method-assign]
    fetch(server.url, place, policy=waits.policy(timeout=0.1), report=report)
    assert part_of(place).read_bytes() == BODY
    assert ranges(server) == [None, f"bytes={HALF}-"]
    assert notes == ["file.ckpt: the server has stopped sending; trying again in 1 s"]


def test_the_wait_doubles_and_what_the_server_asks_for_counts(server: Server, place: Path, waits: Waits) -> None:
    server.script = [status(503), status(502), status(429, Retry_After="7"), serving()]
    fetch(server.url, place, policy=waits.policy())
    assert part_of(place).read_bytes() == BODY
    assert waits == [1.0, 2.0, 7.0]


@pytest.mark.parametrize(
    ("code", "words"), [(401, "login"), (403, "refuses"), (404, "not there any more"), (409, "closed public access")]
)
def test_a_refusal_is_put_in_words_and_not_repeated(
    server: Server, place: Path, waits: Waits, code: int, words: str
) -> None:
    server.script = [status(code)]
    with pytest.raises(DownloadError, match=words) as caught:
        fetch(server.url, place, policy=waits.policy())
    assert len(server.seen) == 1
    assert f"fetch {server.url} by hand" in str(caught.value)
    assert str(place) in str(caught.value)


def test_redirects_are_followed_with_the_range(server: Server, place: Path, waits: Waits) -> None:
    there = status(302, Location="/elsewhere")
    server.script = [there, serving(upto=HALF), there, serving()]
    fetch(server.url, place, policy=waits.policy())
    assert part_of(place).read_bytes() == BODY
    assert server.paths == ["/file.ckpt", "/elsewhere"] * 2
    assert ranges(server)[-1] == f"bytes={HALF}-"


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_redirects_leave_http_for_nothing_else(server: Server, place: Path, waits: Waits, target: str) -> None:
    server.script = [status(302, Location=target)]
    with pytest.raises(DownloadError):
        fetch(server.url, place, policy=waits.policy(retries=0))
    assert not part_of(place).exists()


def test_https_is_never_left_for_http() -> None:
    request = Request("https://example.org/a")
    with pytest.raises(DownloadError, match="not secure"):
        Redirects().redirect_request(request, None, 302, "", {}, "http://example.org/a")  # type: ignore[arg-type]


@pytest.mark.parametrize("headers", [{"Content_Type": "text/html; charset=utf-8"}, {"Content_Type": "binary/x"}, {}])
def test_a_web_page_is_never_stored(server: Server, place: Path, waits: Waits, headers: dict[str, str]) -> None:
    server.script = [status(200, b"\n<!DOCTYPE html><html>" + b"quota " * 200, **headers)]
    with pytest.raises(DownloadError, match="web page"):
        fetch(server.url, place, policy=waits.policy())
    assert list(place.parent.iterdir()) == []
    assert len(server.seen) == 1


def test_wrong_first_bytes_end_the_transfer_at_once(server: Server, place: Path, waits: Waits) -> None:
    server.script = [serving(b"\0" * 3_000_000)]
    with pytest.raises(DownloadError, match=r"does not begin as a \.ckpt file does"):
        fetch(server.url, place, policy=waits.policy())
    assert list(place.parent.iterdir()) == []


def test_nobody_there_says_what_to_fetch_by_hand(place: Path, waits: Waits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as closed:
        url = f"http://127.0.0.1:{closed.server_port}/file.ckpt"
    with pytest.raises(DownloadError, match="offline") as caught:
        fetch(url, place, policy=waits.policy())
    assert waits == [1.0, 2.0, 4.0]
    assert url in str(caught.value)
    assert str(place) in str(caught.value)


def test_a_name_that_cannot_be_looked_up_is_not_asked_for_again(
    place: Path, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")

    def no_name(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr("socket.create_connection", no_name)
    with pytest.raises(DownloadError, match="name cannot be found"):
        fetch("http://nowhere.invalid/file.ckpt", place, policy=waits.policy())
    assert waits == []


def test_too_little_space_is_said_before_anything_is_written(
    server: Server, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=2_000_000))
    server.script = [serving()]
    with pytest.raises(DownloadError, match="needs 3 MB more, and only 2 MB are free"):
        fetch(server.url, place)
    assert not part_of(place).exists()


def test_a_full_disk_keeps_what_arrived_and_the_next_run_goes_on(
    server: Server, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = module._write, []

    def filling(file: object, chunk: bytes, part: Path) -> None:
        if sum(written) > 1_000_000:
            raise module.cannot_write(part, OSError(28, "No space left on device"))
        written.append(len(chunk))
        real(file, chunk, part)  # type: ignore[arg-type]

    server.script = [serving()]
    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", filling)
        with pytest.raises(DownloadError, match="no space left"):
            fetch(server.url, place)
    fetch(server.url, place)
    assert part_of(place).read_bytes() == BODY
    assert ranges(server) == [None, f"bytes={sum(written)}-"]


def test_a_stopped_transfer_keeps_what_it_has(server: Server, place: Path, waits: Waits) -> None:
    stop = threading.Event()
    server.script = [serving(upto=HALF), serving()]
    with pytest.raises(StoppedError):
        fetch(server.url, place, policy=Policy(sleep=lambda _: stop.set()), stop=stop)
    assert part_of(place).stat().st_size == HALF
    assert json.loads(notes_of(place).read_text())["etag"] == '"v1"'


def test_progress_counts_megabytes(server: Server, place: Path) -> None:
    told: list[tuple[str, int, int]] = []

    class Counting(Silence):
        def track(self, items, doing, total):  # type: ignore[no-untyped-def]
            count = 0
            for item in items:
                count += 1
                yield item
            told.append((doing, count, total))

    server.script = [serving()]
    fetch(server.url, place, report=Counting())
    assert told == [("file.ckpt, MB", 4, 4)]


def test_a_folder_that_cannot_be_made_is_said(server: Server, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(DownloadError, match="cannot write"):
        fetch(server.url, tmp_path / "models" / "file.ckpt")


def test_every_byte_is_counted_once_however_often_it_breaks_off(server: Server, place: Path, waits: Waits) -> None:
    counts: list[int] = []
    server.script = [serving(upto=HALF), serving(upto=2_000_000), serving()]
    fetch(server.url, place, policy=waits.policy(), arrived=counts.append)
    assert sum(counts) == len(BODY)


def test_the_length_is_asked_for_without_fetching(server: Server) -> None:
    def headers_only(handler: Handler) -> None:
        assert handler.command == "HEAD"
        handler.send_response(200)
        handler.send_header("Content-Length", "12345")
        handler.end_headers()

    server.script = [status(302, b"", Location="/elsewhere"), headers_only]
    assert length_of(server.url, 5.0) == 12345


@pytest.mark.parametrize(
    "behaviour",
    [
        status(404, b""),
        status(501, b""),
        status(200, b"", Content_Type="text/html"),
        status(302, b"", Location="ftp://x/y"),
    ],
    ids=["404", "501", "page", "insecure"],
)
def test_a_length_that_is_not_said_is_unknown(server: Server, behaviour: Behaviour) -> None:
    server.script = [behaviour]
    assert length_of(server.url, 5.0) is None


def test_a_server_that_does_not_answer_leaves_the_length_unknown(server: Server) -> None:
    server.script = [lambda handler: server.released.wait(5)]
    assert length_of(server.url, 0.1) is None
