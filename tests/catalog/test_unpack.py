"""Archives that mean well, and archives that do not."""

from __future__ import annotations

import io
import json
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from stego_cli.catalog import unpack as module
from stego_cli.catalog.failures import DownloadError, StoppedError
from stego_cli.catalog.unpack import is_unpacked, unpack
from stego_cli.progress import Silence

FILES = {"images/a.jpg": b"aaa", "images/b.jpg": b"bb", "lists/all.txt": b"a\nb\n"}
Maker = Callable[[Path, dict[str, bytes]], Path]


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def gzipped(path: Path, files: dict[str, bytes]) -> Path:
    return tarred(path, files, "w:gz")


MAKERS = pytest.mark.parametrize("make", [zipped, tarred, gzipped])


def content(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".unpacked"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@MAKERS
def test_an_archive_ends_up_in_its_folder(tmp_path: Path, make: Maker) -> None:
    archive, folder = make(tmp_path / "x.bin", FILES), tmp_path / "out"
    assert unpack(archive, folder, "id", Silence()) == 3
    assert content(folder) == FILES
    assert is_unpacked(archive, folder)


@MAKERS
def test_a_top_folder_of_the_same_name_is_left_out(tmp_path: Path, make: Maker) -> None:
    archive = make(tmp_path / "x.bin", {f"cocostuff/{name}": data for name, data in FILES.items()})
    unpack(archive, tmp_path / "cocostuff", "id", Silence())
    assert content(tmp_path / "cocostuff") == FILES


def test_a_lone_file_of_the_same_name_is_a_file(tmp_path: Path) -> None:
    unpack(zipped(tmp_path / "x.zip", {"data": b"1"}), tmp_path / "data", "id", Silence())
    assert content(tmp_path / "data") == {"data": b"1"}


HOSTILE = ["../evil", "a/../../evil", "/tmp/evil", "C:/evil", "..\\evil", "\\evil", "a\\..\\..\\evil", "C:evil"]


@MAKERS
@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_escapes_is_refused_before_anything_is_written(tmp_path: Path, make: Maker, name: str) -> None:
    archive = make(tmp_path / "in.bin", {**FILES, name: b"evil"})
    with pytest.raises(DownloadError, match="would leave the folder|has an absolute path") as caught:
        unpack(archive, tmp_path / "deep" / "out", "id", Silence())
    assert name in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.bin"]


def zip_with_mode(path: Path, mode: int) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("bad")
        info.create_system, info.external_attr = 3, mode << 16
        archive.writestr(info, "/etc/passwd")
    return path


def tar_with_type(path: Path, kind: bytes) -> Path:
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("bad")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: zip_with_mode(path, stat.S_IFLNK | 0o777), "a link"),
        (lambda path: zip_with_mode(path, stat.S_IFIFO | 0o644), "a device"),
        (lambda path: tar_with_type(path, tarfile.SYMTYPE), "a link"),
        (lambda path: tar_with_type(path, tarfile.LNKTYPE), "a link"),
        (lambda path: tar_with_type(path, tarfile.CHRTYPE), "a device"),
        (lambda path: tar_with_type(path, tarfile.FIFOTYPE), "a device"),
    ],
)
def test_links_and_devices_are_refused_by_name(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    with pytest.raises(DownloadError, match=f"`bad` is {words}"):
        unpack(make(tmp_path / "in.bin"), tmp_path / "out", "id", Silence())
    assert not (tmp_path / "out").exists()


def test_a_link_that_waits_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DownloadError, match="link out of the folder"):
        unpack(zipped(tmp_path / "x.zip", FILES), tmp_path / "out", "id", Silence())
    assert list((tmp_path / "elsewhere").iterdir()) == []


@MAKERS
def test_an_archive_that_would_be_too_large_is_refused(tmp_path: Path, make: Maker) -> None:
    archive = make(tmp_path / "x.bin", {"zeros": bytes(100_000)})
    with pytest.raises(DownloadError, match=r"100,000 bytes; at most 99,999"):
        unpack(archive, tmp_path / "out", "id", Silence(), largest=99_999)
    assert not (tmp_path / "out").exists()


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    with pytest.raises(DownloadError, match="3 members"):
        unpack(zipped(tmp_path / "x.zip", FILES), tmp_path / "out", "id", Silence())


def test_space_is_checked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=8))
    with pytest.raises(DownloadError, match="needs 0 MB"):
        unpack(zipped(tmp_path / "x.zip", FILES), tmp_path / "out", "id", Silence())
    assert not (tmp_path / "out").exists()


class KilledAfter(Silence):
    """Ends the process, so to speak, after so many files."""

    def __init__(self, count: int) -> None:
        self.count, self.seen = count, 0

    def track(self, items: Iterable[Any], doing: str, total: int) -> Iterator[Any]:
        for item in items:
            if self.seen == self.count:
                raise KeyboardInterrupt
            self.seen += 1
            yield item


@MAKERS
def test_a_killed_run_goes_on_with_what_is_missing(tmp_path: Path, make: Maker) -> None:
    archive, folder = make(tmp_path / "x.bin", FILES), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        unpack(archive, folder, "id", KilledAfter(2))
    assert not is_unpacked(archive, folder)
    assert len(content(folder)) == 2
    second = KilledAfter(99)
    unpack(archive, folder, "id", second)
    assert second.seen == 1
    assert content(folder) == FILES


def test_files_of_another_archive_are_not_taken_for_done(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        unpack(zipped(tmp_path / "x.zip", FILES), folder, "old", KilledAfter(2))
    changed = {name: bytes(len(data)) for name, data in FILES.items()}
    unpack(zipped(tmp_path / "x.zip", changed), folder, "new", Silence())
    assert content(folder) == changed


def test_what_is_unpacked_is_left_alone(tmp_path: Path) -> None:
    archive, folder = zipped(tmp_path / "x.zip", FILES), tmp_path / "out"
    unpack(archive, folder, "id", Silence())
    (folder / "images" / "a.jpg").write_bytes(b"mine")
    assert unpack(archive, folder, "id", Silence()) == 3
    assert (folder / "images" / "a.jpg").read_bytes() == b"mine"


def test_it_stops_when_told_and_leaves_no_half_file(tmp_path: Path) -> None:
    stop = Event()
    stop.set()
    with pytest.raises(StoppedError):
        unpack(zipped(tmp_path / "x.zip", FILES), tmp_path / "out", "id", Silence(), stop=stop)
    assert content(tmp_path / "out") == {}


@MAKERS
def test_a_damaged_archive_is_called_damaged(tmp_path: Path, make: Maker) -> None:
    data = {"noise": bytes(range(256)) * 400}
    archive = make(tmp_path / "x.bin", data)
    whole = bytearray(archive.read_bytes())
    archive.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(DownloadError, match="damaged"):
        unpack(archive, tmp_path / "out", "id", Silence())
    assert content(tmp_path / "out") == {}


def test_a_flipped_bit_inside_is_found(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as made:  # stored, so that only the checksum can tell
        made.writestr("noise", bytes(1000))
    data = bytearray(archive.read_bytes())
    data[200] ^= 1
    archive.write_bytes(data)
    with pytest.raises(DownloadError, match="damaged"):
        unpack(archive, tmp_path / "out", "id", Silence())
    assert content(tmp_path / "out") == {}


def test_a_marker_that_cannot_be_read_means_unpack_again(tmp_path: Path) -> None:
    archive, folder = zipped(tmp_path / "x.zip", FILES), tmp_path / "out"
    unpack(archive, folder, "id", Silence())
    module.marker_of(archive, folder).write_text(json.dumps([1]))
    assert not is_unpacked(archive, folder)
    unpack(archive, folder, "id", Silence())
    assert is_unpacked(archive, folder)
