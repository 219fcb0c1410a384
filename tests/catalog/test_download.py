"""`stego download` from the catalog to files on disk, with a small catalog and a server on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from stego_cli.catalog import download as module
from stego_cli.catalog import locate
from stego_cli.catalog import wanted as wanted_module
from stego_cli.catalog.checksums import checksums_path
from stego_cli.catalog.entries import CatalogEntry
from stego_cli.catalog.fetch import notes_of, part_of
from stego_cli.catalog.lock import only_one
from stego_cli.catalog.unpack import is_unpacked, marker_of
from stego_cli.cli import app
from stego_cli.errors import WeightsError
from stego_cli.progress import Silence

MODEL = b"\x80\x02" + bytes(range(256)) * 10
REAL = locate.catalog


def zipped(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


@dataclass
class World:
    """What the server serves, what was asked of it, and the folder that downloads go to."""

    home: Path
    base: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    stall_after: int | None = None
    released: threading.Event = field(default_factory=threading.Event)
    entries: dict[str, dict[str, CatalogEntry]] = field(default_factory=dict)

    def add(self, kind: str, name: str, file: str, content: bytes | None, **more: Any) -> Path:
        """Put an entry into the catalog and, if there is content, on the server."""
        entry = CatalogEntry(url=f"{self.base}/{file}", file=file, **{"licence": "free", **more})
        self.entries[kind][name] = entry
        if content is not None:
            self.files[f"/{file}"] = content
        return self.home / kind / file


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            made.ranges.append(self.headers.get("Range"))
            body = made.files.get(self.path)
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
            self.send_response(404 if body is None else 206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body or b'') - 1}/{len(body or b'')}")
            self.send_header("Content-Length", str(len(body or b"") - start))
            self.end_headers()
            self.wfile.write((body or b"")[start : made.stall_after])
            if made.stall_after is not None:
                made.released.wait(10)

        def do_HEAD(self) -> None:
            body = made.files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    made = World(tmp_path / "home", f"http://127.0.0.1:{server.server_port}")
    made.entries = {"backbones": {}, "models": {}, "datasets": {}}
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("STEGO_HOME", str(made.home))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wanted_module, "catalog", lambda: made.entries)
    monkeypatch.setattr(locate, "catalog", lambda: made.entries)
    yield made
    made.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["download", *arguments])


def recorded() -> dict[str, Any]:
    return json.loads(checksums_path().read_text())  # type: ignore[no-any-return]


def test_a_model_is_fetched_recorded_and_found(world: World) -> None:
    path = world.add("models", "tiny", "tiny.ckpt", MODEL, terms="http://terms.example")
    result = run("models")
    assert result.exit_code == 0, result.output
    assert path.read_bytes() == MODEL
    assert recorded()["models/tiny.ckpt"]["sha256"] == hashlib.sha256(MODEL).hexdigest()
    assert locate.find_model("tiny") == path
    assert "licence free; terms: http://terms.example" in result.stderr
    assert sorted(file.name for file in path.parent.iterdir()) == ["tiny.ckpt"]


def test_what_is_there_is_verified_and_not_fetched_again(world: World) -> None:
    world.add("models", "tiny", "tiny.ckpt", MODEL)
    run("models")
    result = run("models", "tiny")
    assert (result.exit_code, len(world.asked)) == (0, 1)
    assert "is there and sound" in result.stdout


def test_a_file_that_rotted_on_disk_is_named_and_kept(world: World) -> None:
    path = world.add("models", "tiny", "tiny.ckpt", MODEL)
    run("models")
    path.write_bytes(MODEL[:-1] + b"!")
    result = run("models")
    assert result.exit_code == 2
    assert "was recorded on the first download" in result.stderr
    assert "--overwrite" in result.stderr
    assert path.read_bytes() != MODEL
    assert run("models", "--overwrite").exit_code == 0
    assert path.read_bytes() == MODEL


def test_another_file_than_the_first_time_is_not_kept(world: World) -> None:
    path = world.add("models", "tiny", "tiny.ckpt", MODEL)
    run("models")
    path.unlink()
    world.files["/tiny.ckpt"] = MODEL + b"changed"
    result = run("models")
    assert result.exit_code == 2
    assert "models/tiny.ckpt" in result.stderr
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    "published",
    [{"sha256": "0" * 64}, {"md5": "0" * 32}, {"size": 1}, {"sha256_prefix": "0000"}, {"md5_prefix": "0000"}],
    ids=["sha256", "md5", "size", "sha256_prefix", "md5_prefix"],
)
def test_what_differs_from_what_is_published_is_not_kept(world: World, published: dict[str, Any]) -> None:
    path = world.add("models", "tiny", "tiny.ckpt", MODEL, **published)
    result = run("models")
    assert result.exit_code == 2
    assert "publ" in result.stderr
    assert "by hand" in result.stderr
    assert list(path.parent.iterdir()) == []
    assert not checksums_path().exists()


def test_what_is_as_published_is_kept(world: World) -> None:
    sums = {"sha256": hashlib.sha256(MODEL).hexdigest(), "md5": hashlib.md5(MODEL).hexdigest(), "size": len(MODEL)}
    prefixes = {"sha256_prefix": sums["sha256"][:8], "md5_prefix": sums["md5"][:6]}
    path = world.add("models", "tiny", "tiny.ckpt", MODEL, **sums, **prefixes)
    assert run("models").exit_code == 0
    assert path.read_bytes() == MODEL


def test_a_short_error_page_is_not_stored(world: World) -> None:
    path = world.add("models", "tiny", "tiny.ckpt", b"<html>sorry</html>")
    result = run("models")
    assert result.exit_code == 2
    assert "web page" in result.stderr
    assert not path.exists()


def test_a_zip_without_its_end_is_not_stored(world: World) -> None:
    path = world.add("datasets", "set", "set.zip", zipped({"a": b"1"})[:-10])
    result = run("datasets")
    assert result.exit_code == 2
    assert "cut off" in result.stderr
    assert not path.exists()


def test_one_that_fails_does_not_keep_the_others_away(world: World) -> None:
    good = world.add("models", "good", "good.ckpt", MODEL)
    world.add("models", "gone", "gone.ckpt", None)
    result = run("models")
    assert result.exit_code == 1
    assert good.exists()
    assert "not there any more" in result.stderr
    assert "good.ckpt done" in result.stdout


def test_a_dataset_is_unpacked_and_its_archive_may_go(world: World) -> None:
    path = world.add("datasets", "set", "set.zip", zipped({"set/imgs/a.txt": b"1", "set/b.txt": b"2"}))
    assert run("datasets", "set").exit_code == 0
    assert (locate.datasets_folder() / "set" / "imgs" / "a.txt").read_bytes() == b"1"
    path.unlink()
    result = run("datasets", "set")
    assert (result.exit_code, len(world.asked)) == (0, 1)
    assert "is there and sound" in result.stdout


def test_overwrite_unpacks_again_and_stays_done(world: World) -> None:
    world.add("datasets", "set", "set.zip", zipped({"a.txt": b"1"}))
    run("datasets")
    unpacked = world.home / "datasets" / "set" / "a.txt"
    unpacked.write_bytes(b"mine")
    assert run("datasets", "--overwrite").exit_code == 0
    assert unpacked.read_bytes() == b"1"
    assert "is there and sound" in run("datasets").stdout
    assert len(world.asked) == 2


def test_a_dataset_that_would_escape_is_refused(world: World, tmp_path: Path) -> None:
    world.add("datasets", "set", "set.zip", zipped({"../../evil": b"1"}))
    result = run("datasets")
    assert result.exit_code == 2
    assert "`../../evil` would leave the folder" in result.stderr
    assert not list(tmp_path.rglob("evil"))


def account_set(world: World) -> Path:
    second = {"url": f"{world.base}/labels.zip", "file": "labels.zip"}
    steps = ["register at http://register.example"]
    return world.add("datasets", "town", "images.zip", zipped({"i": b"1"}), manual=steps, also=[second])


def test_what_needs_an_account_is_explained_and_never_asked_for(world: World) -> None:
    path = account_set(world)
    result = run("datasets", "town")
    assert (result.exit_code, world.asked) == (2, [])
    for words in ("1. register at http://register.example", str(path), "labels.zip"):
        assert words in result.stderr


def test_files_placed_by_hand_are_verified_and_unpacked(world: World) -> None:
    path = account_set(world)
    path.parent.mkdir(parents=True)
    path.write_bytes(zipped({"i": b"1"}))
    assert run("datasets", "town").exit_code == 1  # the labels are not there yet
    (path.parent / "labels.zip").write_bytes(zipped({"l": b"2"}))
    assert run("datasets", "town").exit_code == 0
    assert (locate.datasets_folder() / "town" / "i").exists()
    assert (locate.datasets_folder() / "town" / "l").exists()
    assert set(recorded()) == {"datasets/images.zip", "datasets/labels.zip"}


def test_a_page_placed_by_hand_is_refused_and_left_alone(world: World) -> None:
    path = account_set(world)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"<html>please log in</html>")
    result = run("datasets", "town", "--overwrite")
    assert result.exit_code == 2
    assert "web page" in result.stderr
    assert path.exists()


def test_a_part_of_unknown_origin_does_not_get_into_the_file(world: World) -> None:
    path = world.add("models", "tiny", "tiny.ckpt", MODEL)
    path.parent.mkdir(parents=True)
    part_of(path).write_bytes(MODEL[:100])  # without the notes that say where it came from
    assert run("models").exit_code == 0
    assert path.read_bytes() == MODEL


def test_a_file_that_another_process_fetches_is_left_to_it(world: World) -> None:
    path = world.add("models", "tiny", "tiny.ckpt", MODEL)
    with only_one(path):
        result = run("models")
    assert (result.exit_code, world.asked) == (2, [])
    assert "another process is fetching `tiny.ckpt`" in result.stderr
    assert run("models").exit_code == 0


def test_another_folder_can_be_given(world: World, tmp_path: Path) -> None:
    world.add("models", "tiny", "tiny.ckpt", MODEL)
    assert run("models", "--dir", "here").exit_code == 0
    assert (tmp_path / "here" / "tiny.ckpt").exists()
    Path("stego.yaml").write_text("download: {directory: there}")
    assert run("models").exit_code == 0
    assert (tmp_path / "there" / "tiny.ckpt").exists()


def test_a_dry_run_says_everything_and_does_nothing(world: World) -> None:
    path = world.add("models", "tiny", "tiny.ckpt", MODEL, size=5_000_000)
    result = run("models", "--dry-run")
    assert (result.exit_code, world.asked, world.home.exists()) == (0, [], False)
    for words in ("would be fetched", "5 MB", "free", str(path), f"{world.base}/tiny.ckpt"):
        assert words in result.stdout


def test_the_list_shows_what_is_here(world: World) -> None:
    world.add("models", "tiny", "tiny.ckpt", MODEL)
    world.add("backbones", "vit", "vit.pth", MODEL, size_about=241_000_000)
    account_set(world)
    run("models")
    rows = {line.split()[0]: line for line in run("list").stdout.splitlines()}
    assert rows["tiny"].split() == ["tiny", "models", "unknown", "yes", "free"]
    assert rows["vit"].split() == ["vit", "backbones", "241", "MB", "no", "free"]
    assert "by hand" in rows["town"]
    assert run().stdout == run("list").stdout


def test_json_is_all_of_stdout(world: World) -> None:
    world.add("models", "tiny", "tiny.ckpt", MODEL, citation="Someone, 2020", used_for="tests")
    (listed,) = json.loads(run("list", "--json").stdout)["files"]
    assert (listed["present"], listed["citation"], listed["used_for"]) == (False, "Someone, 2020", "tests")
    (done,) = json.loads(run("models", "--json").stdout)["files"]
    assert (done["status"], done["sha256"]) == ("fetched", hashlib.sha256(MODEL).hexdigest())
    world.add("models", "gone", "gone.ckpt", None)
    result = run("models", "--json")
    assert [file["status"] for file in json.loads(result.stdout)["files"]] == ["present", "failed"]
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["models", "tinny"], "did you mean `tiny`?"),
        (["models", "vit"], "`stego download backbones vit`"),
        (["vit"], "`stego download backbones vit`"),
        (["modles"], "models, backbones, datasets or list"),
        (["models", "--jobs", "0"], "--jobs"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_right_one(world: World, typed: list[str], words: str) -> None:
    world.add("models", "tiny", "tiny.ckpt", MODEL)
    world.add("backbones", "vit", "vit.pth", MODEL)
    result = run(*typed)
    assert result.exit_code == 2
    assert words in result.stderr
    assert world.asked == []


def test_space_for_all_files_is_checked_before_the_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        world.add("models", name, f"{name}.ckpt", None, size_about=40_000_000)  # the server does not say it
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000_000))
    result = run("models")
    assert (result.exit_code, world.asked) == (2, [])
    assert "80 MB" in result.stderr


def test_a_record_that_cannot_be_read_is_never_replaced(world: World) -> None:
    world.add("models", "tiny", "tiny.ckpt", MODEL)
    checksums_path().parent.mkdir(parents=True)
    checksums_path().write_text("{broken")
    result = run("models")
    assert result.exit_code == 2
    assert str(checksums_path()) in result.stderr
    assert checksums_path().read_text() == "{broken"


def test_many_files_at_once_are_all_recorded(world: World) -> None:
    for number in range(12):
        world.add("models", f"m{number}", f"m{number}.ckpt", MODEL + bytes([number]))
    assert run("models", "--jobs", "6").exit_code == 0
    assert len(recorded()) == 12


def test_a_missing_file_names_the_command_first(world: World) -> None:
    world.add("backbones", "vit", "vit.pth", MODEL)
    with pytest.raises(WeightsError) as caught:
        locate.find_weights("vit")
    assert "hint: run `stego download backbones vit`" in str(caught.value)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['stego', 'download', '--help']\n"
        "from stego_cli.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('loaded:', [name for name in ('torch', 'timm', 'numpy', 'pydantic', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.rstrip().endswith("loaded: []")


class Recorder(Silence):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, int]] = []
        self.notes: list[str] = []

    def track(self, items: Iterable[Any], doing: str, total: int) -> Iterator[Any]:
        count = 0
        for item in items:
            yield item
            count += 1
        self.told.append((doing, count, total))

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_several_files_have_one_progress_over_all_their_bytes(world: World) -> None:
    for name, size in (("a", 3_400_000), ("b", 2_800_000)):
        world.add("models", name, f"{name}.ckpt", MODEL[:2] + bytes(size - 2))
    report = Recorder()
    outcomes = module.download(wanted_module.choose(["models"], []), report)
    assert [outcome.status for outcome in outcomes] == ["fetched", "fetched"]
    assert ("All 2 files, MB", 6, 6) in report.told
    assert ("a.ckpt, MB", 4, 4) in report.told


def test_what_arrived_earlier_is_no_part_of_the_total(world: World) -> None:
    body = MODEL[:2] + bytes(4_000_000 - 2)
    path = world.add("models", "a", "a.ckpt", body)
    world.add("models", "b", "b.ckpt", body)
    path.parent.mkdir(parents=True)
    part_of(path).write_bytes(body)
    version = {"url": f"{world.base}/a.ckpt", "etag": None, "modified": None, "total": len(body)}
    notes_of(path).write_text(json.dumps(version))
    report = Recorder()
    module.download(wanted_module.choose(["models"], []), report)
    assert ("All 2 files, MB", 4, 4) in report.told
    assert world.asked == ["/b.ckpt"]


def test_one_file_needs_no_total_and_unknown_lengths_are_said(world: World) -> None:
    world.add("models", "a", "a.ckpt", MODEL)
    report = Recorder()
    module.download(wanted_module.choose(["models"], []), report)
    assert [doing for doing, *_ in report.told] == ["a.ckpt, MB"]
    world.add("models", "b", "b.ckpt", MODEL)
    world.add("models", "gone", "gone.ckpt", None)
    report = Recorder()
    module.download(wanted_module.choose(["models"], []), report)
    assert "All 2 files, MB (length of 1 unknown)" in [doing for doing, *_ in report.told]


def test_lengths_that_servers_say_count_for_the_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        world.add("models", name, f"{name}.ckpt", MODEL[:2] + bytes(3_000_000))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=module.SPARE + 5_000_000))
    result = run("models")
    assert (result.exit_code, world.asked) == (2, [])
    assert "need 6 MB" in result.stderr


def test_a_bug_in_one_file_shows_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        world.add("models", name, f"{name}.ckpt", MODEL)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(module, "check_format", broken)
    with pytest.raises(ZeroDivisionError):
        module.download(wanted_module.choose(["models"], []), Recorder())


def test_without_names_only_what_most_people_need_is_fetched(world: World) -> None:
    world.add("models", "usual", "usual.ckpt", MODEL)
    world.add("models", "rare", "rare.ckpt", MODEL, only_by_name=True)
    assert run("models").exit_code == 0
    assert world.asked == ["/usual.ckpt"]
    assert "rare" in run("list").stdout
    assert "rare" not in run("models", "--dry-run").stdout
    assert run("models", "rare").exit_code == 0


def test_what_to_mind_is_said_first(world: World) -> None:
    world.add("models", "odd", "odd.ckpt", MODEL, caution="nobody knows whether the moon is made of it")
    assert "mind: nobody knows whether" in run("models", "--dry-run").stdout
    assert "mind: nobody knows whether" in run("models").stderr


def unpacked(world: World, name: str, *files: str) -> None:
    for file in files:
        path = world.home / "datasets" / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")


@pytest.mark.parametrize("nested", ["", "set/"])
def test_a_dataset_unpacked_by_hand_counts(world: World, nested: str) -> None:
    world.add("datasets", "set", "set.zip", zipped({"imgs/a": b"1"}), holds=["imgs", "list.txt"])
    unpacked(world, "set", f"{nested}imgs/a", f"{nested}list.txt")
    result = run("datasets", "set")
    assert (result.exit_code, world.asked) == (0, [])
    assert "set.zip is there, unpacked by you; not verified against an archive" in result.stdout
    assert json.loads(run("datasets", "set", "--json").stdout)["files"][0]["sha256"] is None
    assert "is there, unpacked by you" in run("datasets", "set", "--dry-run").stdout


def test_a_part_of_a_dataset_does_not_count(world: World) -> None:
    world.add("datasets", "set", "set.zip", zipped({"imgs/a": b"1", "list.txt": b"2"}), holds=["imgs", "list.txt"])
    unpacked(world, "set", "imgs/a")
    (world.home / "datasets" / "set" / "list.txt").mkdir()  # empty
    run("datasets", "set", "--dry-run")
    assert not wanted_module.choose(["datasets"], ["set"])[0].present


def test_what_this_tool_has_unpacked_to_a_half_does_not_count(world: World) -> None:
    path = world.add("datasets", "set", "set.zip", zipped({"imgs/a": b"1", "imgs/b": b"2"}), holds=["imgs"])
    unpacked(world, "set", "imgs/a")
    marker_of(path, world.home / "datasets" / "set").write_text(json.dumps({"identity": "x", "done": False}))
    assert run("datasets", "set").exit_code == 0
    assert (world.home / "datasets" / "set" / "imgs" / "a").read_bytes() == b"1"
    assert (world.home / "datasets" / "set" / "imgs" / "b").read_bytes() == b"2"


def test_of_two_archives_only_the_one_that_nobody_unpacked_is_asked_for(world: World) -> None:
    second = {"url": f"{world.base}/labels.zip", "file": "labels.zip", "holds": ["labels"]}
    content = zipped({"imgs/a": b"1"})
    world.add("datasets", "town", "images.zip", content, manual=["register"], also=[second], holds=["imgs"])
    unpacked(world, "town", "imgs/a")
    result = run("datasets", "town")
    assert result.exit_code == 1
    assert "images.zip is there, unpacked by you" in result.stdout
    assert "labels.zip" in result.stderr
    assert "images.zip" not in result.stderr
    unpacked(world, "town", "labels/a")
    assert run("datasets", "town").exit_code == 0


def test_archives_of_other_owners_end_up_in_the_usual_folder(world: World) -> None:
    labels = {"url": f"{world.base}/maps.zip", "file": "maps.zip", "into": "labels", "holds": ["labels/train"]}
    world.files["/maps.zip"] = zipped({"train/a.png": b"2"})
    images = zipped({"train/a.jpg": b"1"})
    world.add("datasets", "other", "train.zip", images, folder="set", into="imgs", holds=["imgs/train"], also=[labels])
    assert run("datasets", "other").exit_code == 0
    folder = world.home / "datasets" / "set"
    assert (folder / "imgs" / "train" / "a.jpg").read_bytes() == b"1"
    assert (folder / "labels" / "train" / "a.png").read_bytes() == b"2"
    assert "is there and sound" in run("datasets", "other").stdout


def test_files_of_one_entry_are_explained_together_and_verified_where_they_belong(world: World) -> None:
    book = {"url": f"{world.base}/book", "below": "Set/books", "file": "book.npy"}
    world.add(
        "models", "heads", "a.pth", None, below="Set/heads", beside=["b.pth"], also=[book], manual=["open the page"]
    )
    result = run("models", "heads")
    assert result.exit_code == 2
    assert result.stderr.count("open the page") == 1
    places = [world.home / "models" / "Set" / part for part in ("heads/a.pth", "heads/b.pth", "books/book.npy")]
    for place in places:
        assert str(place) in result.stderr
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(MODEL)
    assert "with --dir" in result.stderr
    assert run("models", "heads").exit_code == 0
    assert set(recorded()) == {"models/Set/heads/a.pth", "models/Set/heads/b.pth", "models/Set/books/book.npy"}


def test_a_folder_whose_files_nobody_lists_is_looked_for(world: World) -> None:
    place = world.add("models", "many", "many", None, is_folder=True, manual=["open the page"])
    assert run("models", "many").exit_code == 2
    place.mkdir(parents=True)
    assert run("models", "many").exit_code == 2  # still empty
    (place / "x.ckpt").write_bytes(MODEL)
    result = run("models", "many", "--overwrite")
    assert result.exit_code == 0
    assert "not verified" in result.stdout


def test_files_placed_into_another_folder_are_verified_there(world: World, tmp_path: Path) -> None:
    world.add("backbones", "vit", "vit.pth", None, manual=["accept the licence"], sha256_prefix="0000")
    assert "with --dir" in run("backbones", "vit").stderr
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "vit.pth").write_bytes(MODEL)
    result = run("backbones", "vit", "--dir", "here")
    assert result.exit_code == 2
    assert "the published one begins with 0000" in result.stderr
    assert (tmp_path / "here" / "vit.pth").exists()


@pytest.mark.parametrize(
    ("kind", "file", "usage"),
    [
        ("datasets", "x.zip", "--data-dir 'my files'"),
        ("models", "x.ckpt", "--model 'my files/x.ckpt'"),
        ("backbones", "x.pth", "--backbone x --weights 'my files/x.pth'"),
    ],
)
def test_other_commands_are_told_where_files_outside_are(world: World, kind: str, file: str, usage: str) -> None:
    world.add(kind, "x", file, zipped({"a": b"1"}))
    result = run(kind, "--dir", "my files")
    assert result.exit_code == 0
    assert f"tell them with {usage}" in result.stdout
    assert "tell them" not in run(kind).stdout


def test_of_what_no_command_reads_no_use_is_told(world: World) -> None:
    world.add("models", "x", "x.ckpt", MODEL, readable=False)
    assert "tell them" not in run("models", "--dir", "here").stdout


CHILD = """
import json, sys, time
from stego_cli.catalog import locate, unpack, wanted
from stego_cli.catalog.entries import CatalogEntry
entries = {kind: {name: CatalogEntry(**entry) for name, entry in rows.items()}
           for kind, rows in json.loads(sys.argv[1]).items()}
locate.catalog = wanted.catalog = lambda: entries
write, pause = unpack._write, float(sys.argv[2])
unpack._write = lambda *given: (time.sleep(pause), write(*given))
sys.argv = ["stego", "download", "datasets", "--quiet"]
from stego_cli.cli import main
main()
"""


def child(world: World, home: Path, pause: float = 0.0) -> subprocess.Popen[bytes]:
    """Start the real command in a process of its own, with a disk that takes `pause` seconds for each file."""
    rows = {
        kind: {name: entry.model_dump(exclude_defaults=True) for name, entry in entries.items()}
        for kind, entries in world.entries.items()
    }
    environment = os.environ | {"STEGO_HOME": str(home)}
    return subprocess.Popen([sys.executable, "-c", CHILD, json.dumps(rows), str(pause)], env=environment)


def kill_when(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not ready():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()


def everything(home: Path) -> dict[str, bytes]:
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def test_a_command_killed_in_transfer_and_in_unpacking_ends_with_the_same_bytes(world: World, tmp_path: Path) -> None:
    noise = random.Random(0)
    body = zipped({f"imgs/{number:03}.bin": noise.randbytes(20_000) for number in range(100)})
    world.add("datasets", "set", "set.zip", body)
    with child(world, tmp_path / "undisturbed") as process:
        assert process.wait(60) == 0

    home = tmp_path / "killed"
    part = part_of(home / "datasets" / "set.zip")
    world.stall_after = len(body) // 2
    with child(world, home) as process:
        kill_when(process, lambda: part.is_file() and part.stat().st_size >= len(body) // 2)
    assert not (home / "datasets" / "set.zip").exists()
    world.stall_after = None
    world.released.set()

    folder = home / "datasets" / "set"
    with child(world, home, pause=0.02) as process:
        kill_when(process, lambda: len(list(folder.glob("imgs/*.bin"))) >= 10)
    assert not is_unpacked(home / "datasets" / "set.zip", folder)

    with child(world, home) as process:
        assert process.wait(60) == 0
    assert everything(home) == everything(tmp_path / "undisturbed")
    assert world.ranges == [None, None, f"bytes={len(body) // 2}-"]
