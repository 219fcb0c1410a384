from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from stego_cli.errors import MissingDependencyError, OutputError, StegoError
from stego_cli.features.local import LocalPlace
from stego_cli.features.place import Piece, Place
from stego_cli.features.places import find_place
from stego_cli.features.remote import RemotePlace


@pytest.fixture(params=["path", "file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    addresses = {
        "path": str(tmp_path / "a b"),
        "file": f"file://{tmp_path}/a b",
        "memory": f"memory://{uuid.uuid4()}/in/",
    }
    return find_place(addresses[request.param])


def read(place: Place, *wanted: tuple[str, int, int]) -> list[bytes]:
    memory = [bytearray(length) for _, _, length in wanted]
    place.read([Piece(name, start, memoryview(m)) for (name, start, _), m in zip(wanted, memory, strict=True)])
    return [bytes(each) for each in memory]


def test_files_come_back(place: Place) -> None:
    assert place.sizes() == {}
    place.prepare()
    place.write("one", b"0123456789")
    place.write("two", b"abc")
    assert place.sizes() == {"one": 10, "two": 3}
    assert place.heads(["two", "one"], 4) == [b"abc", b"0123"]
    assert read(place, ("one", 2, 3), ("one", 0, 1), ("two", 1, 2)) == [b"234", b"0", b"bc"]
    place.write("one", b"new")
    place.remove(["two", "never"])
    assert place.sizes() == {"one": 3}


def test_reading_past_the_end_names_the_file(place: Place) -> None:
    place.prepare()
    place.write("one", b"0123")
    with pytest.raises(EOFError, match="one"):
        read(place, ("one", 2, 3))


def test_what_is_not_there_is_an_os_error(place: Place) -> None:
    place.prepare()
    with pytest.raises(FileNotFoundError):
        read(place, ("none", 0, 1))
    with pytest.raises(FileNotFoundError):
        place.heads(["none"], 1)


def test_a_place_can_be_sent_to_other_processes(place: Place) -> None:
    place.prepare()
    place.write("one", b"0123")
    copy = pickle.loads(pickle.dumps(place))
    assert str(copy) == str(place)
    assert copy.heads(["one"], 9) == [b"0123"]


def test_file_addresses_are_local_folders(tmp_path: Path) -> None:
    found = find_place(f"file://{tmp_path}/x")
    assert isinstance(found, LocalPlace)
    assert found.folder == tmp_path / "x"


def test_a_windows_path_and_a_name_with_a_colon_are_no_addresses() -> None:
    assert isinstance(find_place(r"C:\features"), LocalPlace)
    assert isinstance(find_place("run:3"), LocalPlace)


@pytest.mark.parametrize(
    ("address", "module", "package"), [("s3://b/x", "s3fs", "s3fs"), ("sftp://h/x", "paramiko", "paramiko")]
)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, address: str, module: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(MissingDependencyError, match=rf"(?s){address}.*pip install {package}"):
        find_place(address)


def test_an_unknown_kind_of_address_is_refused_by_name() -> None:
    with pytest.raises(StegoError, match=r"(?s)nosuch://x.*hint"):
        find_place("nosuch://x")


def test_an_address_that_cannot_be_written_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    place = RemotePlace(f"memory://{uuid.uuid4()}")

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("access denied")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.pipe_file", refuse)
    with pytest.raises(OutputError, match=r"(?s)access denied.*hint"):
        place.write("one", b"1")


def test_an_address_that_cannot_be_listed_or_read_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    place = RemotePlace(f"memory://{uuid.uuid4()}")
    place.prepare()
    place.write("one", b"1")

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no credentials")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.ls", refuse)
    monkeypatch.setattr("fsspec.spec.AbstractFileSystem.cat_ranges", refuse)
    with pytest.raises(StegoError, match=r"(?s)no credentials.*hint"):
        place.sizes()
    with pytest.raises(OSError, match="no credentials"):
        place.heads(["one"], 1)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("not a folder")
    place = LocalPlace(tmp_path / "x")
    with pytest.raises(StegoError, match="cannot look into"):
        place.sizes()
    with pytest.raises(OutputError):
        place.prepare()


def test_hidden_files_and_links_to_nothing_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_text("x")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "there").write_text("12")
    assert LocalPlace(tmp_path).sizes() == {"there": 2}


def test_only_temporaries_that_nobody_finishes_are_swept(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here = f".writing-{socket.gethostname()}-"
    swept = [f"{here}{ended.pid}-aa", ".writing-otherhost-1-bb"]
    kept = [f"{here}{os.getpid()}-cc", ".writing-otherhost-1-dd", ".writing-x8f3k", f"{here}{10**30}-ee"]
    for name in (*swept, *kept):
        (tmp_path / name).touch()
    two_hours_ago = time.time() - 7200
    os.utime(tmp_path / swept[1], (two_hours_ago, two_hours_ago))
    LocalPlace(tmp_path).prepare()
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


def test_a_refused_write_leaves_the_file_and_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = LocalPlace(tmp_path)
    place.write("one", b"old")

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        place.write("one", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    assert (tmp_path / "one").read_bytes() == b"old"
