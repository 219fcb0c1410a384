"""Files are whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from stego_cli.errors import OutputError
from stego_cli.files import TEMPORARY, atomic_write, check_writable, printable, remove_unfinished, write_text


def test_a_written_file_has_its_content_and_ordinary_permissions(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    write_text(path, "grüße")
    assert path.read_text("utf-8") == "grüße"
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"half of the new con")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="no space left on the disk") as caught:
        write_text(tmp_path / "a.txt", "x")
    assert "hint: free some space" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_file_in_place_of_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a part of the path is a file"):
        write_text(tmp_path / "file" / "a.txt", "x")


def test_a_folder_in_place_of_the_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OutputError, match="a folder is in its place"):
        write_text(tmp_path / "a.txt", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_odd_bytes_are_printed_as_escapes() -> None:
    printable(Path(os.fsdecode(b"caf\xe9"))).encode("utf-8")


def test_a_folder_that_cannot_be_written_to_is_found_out_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        check_writable(tmp_path / "file/below")
    check_writable(tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())


def test_what_killed_runs_were_writing_is_removed_and_nothing_else(tmp_path: Path) -> None:
    here, below = tmp_path / f"{TEMPORARY}1", tmp_path / "a" / f"{TEMPORARY}2"
    below.parent.mkdir()
    for file in (here, below, tmp_path / "kept"):
        file.touch()
    remove_unfinished(tmp_path, tmp_path / "nowhere")
    assert not here.exists()
    assert below.exists()
    remove_unfinished(tmp_path, below=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "kept"]
