from __future__ import annotations

import json
import math
import pickle
import shutil
import uuid
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import support
from stego_cli.errors import OutputError, StaleError, StegoError
from stego_cli.features import store as store_module
from stego_cli.features.fingerprint import Fingerprint
from stego_cli.features.shards import shard_name
from stego_cli.features.store import FeatureStore, check_space, estimate
from support import Heard

COUNT, SHARD = 10, 4  # shards of 4, 4 and 2


def fingerprint(count: int = COUNT, dtype: str = "float16", shape: tuple[int, ...] = (2, 3, 3)) -> Fingerprint:
    kind = "maps" if len(shape) == 3 else "pooled"
    return support.fingerprint(kind=kind, count=count, resolution=24, dtype=dtype, shape=shape)


OTHER = {
    "kind": "pooled",
    "dataset": "e",
    "split": "val",
    "crop": "five 0.5",
    "count": 11,
    "images": "bb" * 32,
    "bands": (3, 2, 1),
    "backbone": "filterbank",
    "weights": "dd" * 32,
    "feature_type": "keys",
    "block": -2,
    "patch_size": 16,
    "resolution": 32,
    "loader_crop": "squash",
    "protocol": "native",
    "precision": "bf16",
    "dtype": "float32",
    "shape": (2, 3, 4),
}


def records(print_: Fingerprint) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.normal(size=(print_.count, *print_.shape)).astype(print_.dtype)


def begin(place: str | Path, print_: Fingerprint, **options: object) -> FeatureStore:
    return FeatureStore.create(place, print_, **{"shard_size": SHARD, **options})


def write_all(store: FeatureStore, order: list[int] | None = None) -> np.ndarray:
    content = records(store.fingerprint)
    for number in order if order is not None else store.missing():
        store.write(number, content[store.shards[number].start : store.shards[number].stop])
    return content


@pytest.fixture(params=["path", "file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    addresses = {"path": f"{tmp_path}/f", "file": f"file://{tmp_path}/f", "memory": f"memory://{uuid.uuid4()}"}
    return addresses[request.param]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("shape", [(2, 3, 3), (5,)])
def test_what_was_written_is_read(place: str, dtype: str, shape: tuple[int, ...]) -> None:
    print_ = fingerprint(dtype=dtype, shape=shape)
    content = write_all(begin(place, print_))
    store = FeatureStore.open(place, print_)
    assert len(store) == COUNT
    assert np.array_equal(np.stack(list(store)), content)
    assert np.array_equal(store[-1], content[-1])
    assert np.array_equal(store.read(range(COUNT)), content)
    assert store.read([1]).dtype == np.dtype(dtype)
    assert store.failed == ()
    assert store.verify() == {}


@given(
    order=st.permutations([0, 1, 2]),
    written=st.integers(0, 3),
    wanted=st.lists(st.integers(-COUNT, COUNT - 1), max_size=20),
)
def test_any_order_and_any_part(order: list[int], written: int, wanted: list[int]) -> None:
    place = f"memory://{uuid.uuid4()}"
    content = write_all(begin(place, fingerprint()), order[:written])
    store = FeatureStore.open(place, allow_partial=True)
    assert store.missing() == sorted(order[written:])
    there = {image for number in order[:written] for image in store.shards[number]}
    assert store.count_done == len(there)
    readable = [index for index in wanted if index % COUNT in there]
    assert np.array_equal(store.read(readable), content[readable])
    for absent in set(wanted) - set(readable):
        with pytest.raises(StegoError, match=rf"image {absent % COUNT} are not in"):
            store.read([*readable, absent])


def test_a_read_can_fill_memory_that_is_there(place: str) -> None:
    content = write_all(begin(place, fingerprint()))
    store = FeatureStore.open(place)
    memory = np.zeros((3, 2, 3, 3), np.float16)
    assert store.read([7, 7, 0], memory) is memory
    assert np.array_equal(memory, content[[7, 7, 0]])
    for wrong in (memory[:2], memory.astype(np.float32), np.zeros((6, 2, 3, 3), np.float16)[::2]):
        with pytest.raises(ValueError, match="do not fit"):
            store.read([7, 7, 0], wrong)


@pytest.mark.parametrize("index", [COUNT, -COUNT - 1])
def test_what_is_beyond_the_end_is_an_index_error(place: str, index: int) -> None:
    write_all(begin(place, fingerprint()))
    store = FeatureStore.open(place)
    with pytest.raises(IndexError, match=str(index)):
        store[index]
    with pytest.raises(IndexError, match=str(index)):
        store.in_memory().read([0, index])


def test_a_store_of_nothing(place: str) -> None:
    store = begin(place, fingerprint(count=0))
    assert store.missing() == []
    assert FeatureStore.open(place).read([]).shape == (0, 2, 3, 3)
    assert len(FeatureStore.open(place).in_memory()) == 0


def test_creating_again_goes_on_and_keeps_its_shards(place: str) -> None:
    write_all(begin(place, fingerprint()), [1])
    again = FeatureStore.create(place, fingerprint(), shard_size=3)
    assert again.shards == (range(4), range(4, 8), range(8, 10))
    assert again.missing() == [0, 2]


def test_ranks_share_all_shards_whenever_they_ask(place: str) -> None:
    store = begin(place, fingerprint(), shard_size=1)
    first = store.missing(0, 3)
    write_all(store, first)
    assert first == [0, 3, 6, 9]
    assert store.missing(1, 3) == [1, 4, 7]
    assert store.missing(2, 3) == [2, 5, 8]
    assert store.missing(0, 3) == []


def test_images_that_failed_are_listed(place: str) -> None:
    store = begin(place, fingerprint())
    content = records(store.fingerprint)
    content[[1, 9]] = np.nan
    content[5, 0, 0, 0] = np.nan  # of an image that was read
    for number, images in enumerate(store.shards):
        store.write(number, content[images.start : images.stop])
    assert store.failed == (1, 9)
    opened = FeatureStore.open(place)
    assert opened.failed == opened.in_memory().failed == (1, 9)
    assert np.isnan(opened[9]).all()


@pytest.mark.parametrize("field", OTHER)
def test_another_fingerprint_is_refused_by_name(place: str, field: str) -> None:
    write_all(begin(place, fingerprint()))
    wanted = fingerprint().model_copy(update={field: OTHER[field]})
    (difference,) = fingerprint().differences(wanted)
    for opening in (FeatureStore.create, FeatureStore.open):
        with pytest.raises(StaleError) as raised:
            opening(place, wanted)
        assert difference in str(raised.value)
        assert "--overwrite" in str(raised.value)
    assert FeatureStore.open(place, fingerprint()).count_done == COUNT


def test_overwrite_begins_anew(place: str) -> None:
    write_all(begin(place, fingerprint(count=50)))
    store = begin(place, fingerprint(), overwrite=True)
    assert store.missing() == [0, 1, 2]
    content = write_all(store)
    assert np.array_equal(FeatureStore.open(place, fingerprint()).read(range(COUNT)), content)
    assert len(store.place.sizes()) == 4  # three shards and the index


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"(?s)holiday.jpg.*hint"):
            begin(tmp_path, fingerprint(), overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_overwriting_removes_nothing_but_shards(tmp_path: Path) -> None:
    write_all(begin(tmp_path, fingerprint()))
    (tmp_path / "shard-notes.txt").write_text("mine")
    begin(tmp_path, fingerprint(), overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"store.json", "shard-notes.txt"}


def test_no_store_there_is_said_with_what_to_do(place: str) -> None:
    with pytest.raises(StegoError, match=r"(?s)no features in.*stego features build"):
        FeatureStore.open(place)


@pytest.mark.parametrize(("shape", "command"), [((2, 3, 3), "stego features build"), ((5,), "stego knn build")])
def test_an_incomplete_store_says_how_far_it_is(place: str, shape: tuple[int, ...], command: str) -> None:
    write_all(begin(place, fingerprint(shape=shape)), [0])
    with pytest.raises(StegoError, match=rf"(?s)4 of 10 images.*{command}"):
        FeatureStore.open(place)


def break_shard(folder: Path, elsewhere: Path, way: str) -> str:
    """Break the middle shard in one way; return what is to be said of it."""
    shard = folder / shard_name(1)
    match way:
        case "empty":
            shard.write_bytes(b"")
            return "it is empty"
        case "cut":
            shard.write_bytes(shard.read_bytes()[:-20])
            return "cut off"
        case "long":
            shard.write_bytes(shard.read_bytes() + b"1")
            return "too long"
        case "other":
            write_all(begin(elsewhere, fingerprint().model_copy(update={"weights": "dd" * 32})))
            shutil.copy(elsewhere / shard.name, shard)
            return "something else"
        case "swapped":
            shutil.copy(folder / shard_name(0), shard)
            return "shard 0"
        case _:
            shard.write_bytes(b"\xff" * 9000)
            return "no shard"


@pytest.mark.parametrize("way", ["empty", "cut", "long", "other", "swapped", "noise"])
def test_a_broken_shard_is_named_and_made_again(tmp_path: Path, way: str) -> None:
    content = write_all(begin(tmp_path / "f", fingerprint()))
    before = {path.name: path.read_bytes() for path in (tmp_path / "f").iterdir()}
    said = break_shard(tmp_path / "f", tmp_path / "elsewhere", way)
    with pytest.raises(StegoError, match=rf"(?s)6 of 10 images.*shard-000001.*{said}.*stego features build"):
        FeatureStore.open(tmp_path / "f")
    report = Heard()
    store = FeatureStore.create(tmp_path / "f", fingerprint(), report)
    assert len(report.warnings) == 1
    assert said in report.warnings[0]
    assert store.missing() == [1]
    write_all(store, [1])
    assert np.array_equal(FeatureStore.open(tmp_path / "f").read(range(COUNT)), content)
    assert {path.name: path.read_bytes() for path in (tmp_path / "f").iterdir()} == before


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"format": 1, "shard_size": 4, "fingerprint": {"kind": "maps"}}',
        '{"format": 2, "shard_size": 4, "fingerprint": {}}',
        json.dumps({"format": 1, "shard_size": 0, "fingerprint": fingerprint().model_dump(mode="json")}),
    ],
)
def test_a_damaged_index_is_refused_and_overwritten_on_request(tmp_path: Path, content: str) -> None:
    write_all(begin(tmp_path, fingerprint()))
    (tmp_path / "store.json").write_text(content)
    for opening in (FeatureStore.create, FeatureStore.open):
        with pytest.raises(StegoError, match=r"(?s)store.json.*--overwrite"):
            opening(tmp_path, fingerprint())
    assert begin(tmp_path, fingerprint(), overwrite=True).missing() == [0, 1, 2]


def test_a_lost_index_is_made_again_and_sound_shards_stay(tmp_path: Path) -> None:
    write_all(begin(tmp_path, fingerprint()))
    index = (tmp_path / "store.json").read_bytes()
    (tmp_path / "store.json").unlink()
    assert begin(tmp_path, fingerprint()).missing() == []
    assert (tmp_path / "store.json").read_bytes() == index


def test_a_shard_cut_off_or_gone_after_opening_is_named(tmp_path: Path) -> None:
    write_all(begin(tmp_path, fingerprint()))
    store = FeatureStore.open(tmp_path)
    shard = tmp_path / shard_name(1)
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(StegoError, match=r"(?s)shard-000001.*cut off.*stego features build"):
        store.read([7])
    shard.unlink()
    with pytest.raises(StegoError, match=r"(?s)shard-000001.*stego features build"):
        store.read([7])
    assert store.read([0, 9]).shape == (2, 2, 3, 3)


def test_verify_finds_what_a_size_does_not_tell(tmp_path: Path) -> None:
    write_all(begin(tmp_path, fingerprint()))
    shard = tmp_path / shard_name(1)
    data = bytearray(shard.read_bytes())
    data[-5] ^= 1
    shard.write_bytes(data)
    store = FeatureStore.open(tmp_path)
    wrong = store.verify()
    assert wrong.keys() == {1}
    assert "shard-000001" in wrong[1]
    store.discard(wrong)
    assert FeatureStore.create(tmp_path, fingerprint()).missing() == [1]


def test_records_of_another_shape_are_our_mistake(tmp_path: Path) -> None:
    store = begin(tmp_path, fingerprint())
    with pytest.raises(ValueError, match="shard 2 needs"):
        store.write(2, np.zeros((4, 2, 3, 3), np.float16))
    with pytest.raises(ValueError, match="257"):
        begin(tmp_path, fingerprint(), shard_size=257)


def test_float32_records_are_stored_as_asked_or_refused_where_they_do_not_fit(tmp_path: Path) -> None:
    store = begin(tmp_path, fingerprint())
    content = np.full((4, 2, 3, 3), 0.1, np.float32)
    store.write(0, content)
    assert np.array_equal(store[0], content[0].astype(np.float16))
    content[2, 1, 1, 1] = -7e4
    with pytest.raises(StegoError, match=r"(?s)7e\+04.*float16.*fp32"):
        store.write(1, content)
    assert store.missing() == [1, 2]


def test_in_memory_reads_the_same(place: str) -> None:
    content = write_all(begin(place, fingerprint()))
    held = FeatureStore.open(place).in_memory()
    memory = np.zeros((2, 2, 3, 3), np.float16)
    assert held.read([3, -1], memory) is memory
    assert np.array_equal(memory, content[[3, 9]])
    assert np.array_equal(held[4], content[4])
    assert held.fingerprint == fingerprint()
    held[4][:] = 0  # a copy
    assert np.array_equal(np.stack(list(held)), content)


def test_in_memory_is_refused_when_it_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_all(begin(tmp_path, fingerprint()))
    monkeypatch.setattr("stego_cli.features.memory.available_memory", lambda: 100)
    monkeypatch.setattr(store_module, "available_memory", lambda: 100)
    with pytest.raises(StegoError, match=r"(?s)of memory.*free.*hint"):
        FeatureStore.open(tmp_path).in_memory()


def test_the_estimate_is_close(tmp_path: Path) -> None:
    print_ = fingerprint(count=300, shape=(8, 5, 5))
    write_all(FeatureStore.create(tmp_path, print_))
    size = sum(path.stat().st_size for path in tmp_path.glob("shard-*"))
    assert math.isclose(estimate(print_), size, rel_tol=0.02)


def test_space_is_checked_where_the_store_will_be(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    check_space(tmp_path / "not" / "there" / "yet", free // 2)
    check_space(f"memory://{uuid.uuid4()}", 10**18)
    with pytest.raises(OutputError, match=r"(?s)GB.*free.*--out"):
        check_space(tmp_path / "not" / "there" / "yet", free * 2)


def test_a_copy_sent_to_another_process_reads_the_same(place: str) -> None:
    content = write_all(begin(place, fingerprint()))
    copy = pickle.loads(pickle.dumps(FeatureStore.open(place)))
    assert np.array_equal(copy.read([8, 1]), content[[8, 1]])
