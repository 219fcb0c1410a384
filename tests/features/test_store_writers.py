"""Several writers at once, writers that are killed, and disks that are full."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from stego_cli.errors import OutputError
from stego_cli.features.store import FeatureStore
from support import fingerprint

PRINT = fingerprint(count=23, resolution=128, shape=(8, 16, 16))
SHARD = 4  # six shards of 16 kB
CONTENT = np.random.default_rng(0).normal(size=(23, 8, 16, 16)).astype(np.float16)
CONTENT[9] = np.nan

# Writes shards one by one; before the shard of which half is written, it says so and stays there.
WRITER = """
import os, sys, time
import numpy as np
from stego_cli.features.fingerprint import Fingerprint
from stego_cli.features.store import FeatureStore

place, content, print_, stop = sys.argv[1:]
content = np.load(content)
store = FeatureStore.create(place, Fingerprint.model_validate_json(print_), shard_size=4)
written = 0

def hang(file):
    print("at work", flush=True)
    time.sleep(600)

for number in store.missing():
    if written == int(stop):
        os.fsync = hang
    store.write(number, content[store.shards[number].start:store.shards[number].stop])
    written += 1
"""


def begin(folder: Path) -> FeatureStore:
    return FeatureStore.create(folder, PRINT, shard_size=SHARD)


def part(store: FeatureStore, number: int) -> np.ndarray:
    return CONTENT[store.shards[number].start : store.shards[number].stop]


def write(store: FeatureStore, numbers: list[int]) -> None:
    for number in numbers:
        store.write(number, part(store, number))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    """What a run that nothing stops leaves behind."""
    store = begin(tmp_path / "whole")
    write(store, store.missing())
    return files(tmp_path / "whole")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("stop", [0, 1, 4])
def test_a_killed_writer_loses_the_shard_it_was_at(tmp_path: Path, whole: dict[str, bytes], stop: int) -> None:
    folder = tmp_path / "f"
    np.save(tmp_path / "content.npy", CONTENT)
    command = [sys.executable, "-c", WRITER, folder, tmp_path / "content.npy", PRINT.model_dump_json(), str(stop)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "at work\n"
        assert any(name.startswith(".writing-") for name in files(folder))
        begin(folder)  # another rank that starts meanwhile leaves the half shard of a living one alone
        assert any(name.startswith(".writing-") for name in files(folder))
        writer.send_signal(signal.SIGKILL)
    finished = {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*")}
    assert len(finished) == stop

    store = begin(folder)
    assert not any(name.startswith(".writing-") for name in files(folder))
    assert store.missing() == list(range(stop, 6))
    write(store, store.missing())
    assert files(folder) == whole
    assert all((folder / name).stat().st_mtime_ns == time for name, time in finished.items())


def test_several_processes_write_at_once(tmp_path: Path, whole: dict[str, bytes]) -> None:
    store = begin(tmp_path / "f")
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(store.write, store.missing(), [part(store, number) for number in store.missing()]))
        read = pool.submit(FeatureStore.open(tmp_path / "f").read, [22, 9, 0]).result()
    assert files(tmp_path / "f") == whole
    assert np.array_equal(read, CONTENT[[22, 9, 0]], equal_nan=True)


def test_threads_begin_and_write_the_same_at_once(tmp_path: Path, whole: dict[str, bytes]) -> None:
    def work(rank: int) -> None:
        store = begin(tmp_path / "f")
        write(store, [(rank + number) % 6 for number in range(6)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert files(tmp_path / "f") == whole


def test_threads_read_at_once(tmp_path: Path) -> None:
    store = begin(tmp_path / "f")
    write(store, store.missing())
    orders = [np.random.default_rng(seed).permutation(23) for seed in range(16)]
    with ThreadPoolExecutor(8) as pool:
        for order, read in zip(orders, pool.map(store.read, orders), strict=True):
            assert np.array_equal(read, CONTENT[order], equal_nan=True)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_what_was_written(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    store = begin(tmp_path / "f")
    write(store, [0, 1])

    def full(_: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OutputError, match=r"(?s)shard-000002.*hint: free some space"):
            write(store, [2])
    assert files(tmp_path / "f").items() <= whole.items()
    assert store.missing() == [2, 3, 4, 5]
    write(store, store.missing())
    assert files(tmp_path / "f") == whole


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB, of which the store needs more."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    command = [mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("disks cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_really_full(small_disk: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    store = begin(small_disk / "f")
    with pytest.raises(OutputError, match="no space left"):
        write(store, store.missing())
    left = files(small_disk / "f")
    assert len(left) >= 3
    assert left.items() <= whole.items()
    shutil.copytree(small_disk / "f", tmp_path / "larger")
    store = begin(tmp_path / "larger")
    write(store, store.missing())
    assert files(tmp_path / "larger") == whole
