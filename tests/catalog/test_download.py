"""`stego download` from the catalog to files on disk, with a small catalog and a server on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from stego_cli.catalog import download as module
from stego_cli.catalog import locate
from stego_cli.catalog.checksums import checksums_path
from stego_cli.catalog.entries import CatalogEntry
from stego_cli.catalog.fetch import part_of
from stego_cli.catalog.lock import only_one
from stego_cli.cli import app
from stego_cli.errors import WeightsError

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
            body = made.files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

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
    monkeypatch.setattr(module, "catalog", lambda: made.entries)
    monkeypatch.setattr(locate, "catalog", lambda: made.entries)
    yield made
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
    [{"sha256": "0" * 64}, {"md5": "0" * 32}, {"size": 1}],
    ids=["sha256", "md5", "size"],
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
    path = world.add("models", "tiny", "tiny.ckpt", MODEL, **sums)
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
    assert (locate.dataset_folder("set") / "imgs" / "a.txt").read_bytes() == b"1"
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
    assert (locate.dataset_folder("town") / "i").exists()
    assert (locate.dataset_folder("town") / "l").exists()
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
        world.add("models", name, f"{name}.ckpt", MODEL, size_about=40_000_000)
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


@pytest.mark.parametrize("kind", ["backbones", "models", "datasets"])
def test_every_packaged_entry_says_what_a_user_should_know(kind: Any) -> None:
    for name, entry in REAL()[kind].items():
        assert entry.licence, name
        assert entry.terms.startswith("http"), name
        assert entry.citation, name
        assert entry.used_for, name


def test_packaged_names_are_unique_over_all_kinds() -> None:
    names = [name for entries in REAL().values() for name in entries]
    assert len(set(names)) == len(names)


def test_cityscapes_is_only_for_people_with_an_account() -> None:
    entry = REAL()["datasets"]["cityscapes"]
    assert [file.file for file in entry.files] == ["leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"]
    assert entry.manual


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['stego', 'download', '--help']\n"
        "from stego_cli.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('loaded:', [name for name in ('torch', 'timm', 'numpy', 'pydantic', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.rstrip().endswith("loaded: []")
