"""Neighbour files of the reference: written as it does, read with suspicion."""

from __future__ import annotations

import io
import pickle
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

from stego_cli.errors import StegoError
from stego_cli.neighbors.index import NeighborIndex
from stego_cli.neighbors.reference import load_reference, reference_name, save_reference

TABLE = np.argsort(np.random.default_rng(0).random((40, 40)), axis=1)[:, :30]


def index(table: np.ndarray = TABLE, names: tuple[str, ...] = ()) -> NeighborIndex:
    return NeighborIndex(table, None, np.ones(len(table), bool), names)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / reference_name("vit_small", "cocostuff27", "train", "five", 224)


def array_bytes(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def write_zip(path: Path, member: str, data: bytes, compression: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(member, data)


def test_numpy_reads_what_is_written_and_we_read_it_back(path: Path) -> None:
    save_reference(index(), path)
    with np.load(path, allow_pickle=False) as file:
        assert file.files == ["nns"]
        assert file["nns"].dtype == np.int64
        np.testing.assert_array_equal(file["nns"], TABLE)
    loaded = load_reference(path, 40)
    np.testing.assert_array_equal(loaded.neighbors, TABLE)
    assert (loaded.similarities, loaded.names, loaded.fingerprint) == (None, (), None)
    assert loaded.valid.all()


def test_equal_tables_make_equal_files(path: Path) -> None:
    save_reference(index(), path)
    first = path.read_bytes()
    save_reference(index(), path)
    assert path.read_bytes() == first


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16, ">i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_tables_of_whole_numbers_of_any_kind_are_read(path: Path, write: object, dtype: object, order: str) -> None:
    write(path, nns=np.asarray(TABLE, dtype, order=order))
    loaded = load_reference(path, 40)
    assert loaded.neighbors.dtype == np.int64
    np.testing.assert_array_equal(loaded.neighbors, TABLE)


def test_images_without_neighbours_cannot_be_written(path: Path) -> None:
    table = TABLE.copy()
    table[[3, 8], 1:] = -1
    names = tuple(f"train/{number}.jpg" for number in range(40))
    with pytest.raises(StegoError, match="2 images could not be read.*`train/3.jpg` is the first"):
        save_reference(index(table, names), path)
    with pytest.raises(StegoError, match="image 3 is the first"):
        save_reference(index(table), path)
    assert not path.exists()


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(StegoError, match="no neighbour file") as raised:
        load_reference(path, 40)
    assert path.name in str(raised.value)


def test_another_number_of_images_is_refused_with_both_numbers(path: Path) -> None:
    save_reference(index(), path)
    with pytest.raises(StegoError, match="neighbours of 40 images, the dataset has 41"):
        load_reference(path, 41)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (TABLE + 11, "there are 40 images"),
        (TABLE - 2, "there are 40 images"),
        (TABLE.astype(np.uint64) + np.uint64(2**63), "there are 40 images"),
        (TABLE.astype(np.float64), "table of whole numbers, but .*<f8"),
        (TABLE[0], "table of whole numbers"),
        (np.array(4), "table of whole numbers"),
        (np.empty((40, 0), np.int64), "0 columns"),
        (np.zeros((40, 41), np.int64), "41 columns"),
        (np.full((40, 3), "name"), "table of whole numbers"),
        (np.zeros((40, 3), bool), "table of whole numbers"),
        (np.zeros((40, 3), [("a", "i8")]), "table of whole numbers"),
    ],
)
def test_tables_of_something_else_are_refused(path: Path, array: np.ndarray, words: str) -> None:
    np.savez(path, nns=array)
    with pytest.raises(StegoError, match=words) as raised:
        load_reference(path, 40)
    assert path.name in str(raised.value)
    assert "\n\nhint: " in str(raised.value)


def test_another_key_is_refused_by_name(path: Path) -> None:
    np.savez(path, neighbours=TABLE)
    with pytest.raises(StegoError, match="holds `neighbours`, expected an array `nns`"):
        load_reference(path, 40)
    zipfile.ZipFile(path, "w").close()
    with pytest.raises(StegoError, match="holds nothing"):
        load_reference(path, 40)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.place,)


def test_objects_are_refused_and_nothing_in_them_runs(path: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    table = np.full((40, 3), None, object)
    table[0, 0] = Trap(sprung)
    write_zip(path, "nns.npy", array_bytes(table, allow_pickle=True))
    with pytest.raises(StegoError, match="not a usable neighbour file"):
        load_reference(path, 40)
    write_zip(path, "nns.npy", pickle.dumps(Trap(sprung)))
    with pytest.raises(StegoError, match="not a usable neighbour file"):
        load_reference(path, 40)
    path.write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(StegoError, match="not a usable neighbour file"):
        load_reference(path, 40)
    assert not sprung.exists()


def test_a_bomb_is_refused_before_it_is_unpacked(path: Path) -> None:
    side = 1500
    np.savez_compressed(path, nns=np.zeros((side, side), np.int64))  # 18 MB in 20 kB
    assert path.stat().st_size < 50_000
    with pytest.raises(StegoError, match="would grow from"):
        load_reference(path, side)


def test_a_header_that_promises_other_sizes_is_refused(path: Path) -> None:
    whole = array_bytes(np.zeros((40, 30), np.int64))
    for data in (whole.replace(b"(40, 30)", b"(40, 31)"), whole.replace(b"(40, 30)", b"(40, 10)"), whole[:-800]):
        write_zip(path, "nns.npy", data)
        with pytest.raises(StegoError, match="do not go together"):
            load_reference(path, 40)
    write_zip(path, "nns.npy", whole.replace(b"(40, 30)", b"(40, -1)"))
    with pytest.raises(StegoError, match="not a usable neighbour file"):
        load_reference(path, 40)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", array_bytes(TABLE), b"<html></html>"])
def test_other_files_are_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(StegoError, match="not a usable neighbour file"):
        load_reference(path, 40)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_damaged_files_never_end_in_a_traceback(path: Path, write: object) -> None:
    write(path, nns=TABLE)
    whole, chance = path.read_bytes(), random.Random(0)
    for length in range(0, len(whole), len(whole) // 60):
        path.write_bytes(whole[:length])
        with pytest.raises(StegoError):
            load_reference(path, 40)
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            load_reference(path, 40)
        except StegoError:
            refused += 1
    assert refused > 200
