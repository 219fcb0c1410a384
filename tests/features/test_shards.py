from __future__ import annotations

import math

import numpy as np
import pytest
from safetensors.numpy import load, save

from stego_cli.features.fingerprint import Fingerprint
from stego_cli.features.shards import (
    HEAD_BYTES,
    MAX_RECORDS,
    decode_head,
    encode,
    is_shard_name,
    shard_name,
    usual_shard_size,
)
from support import fingerprint

PRINT = fingerprint(count=10**6, shape=(2, 3))
RECORDS = np.arange(24, dtype=np.float16).reshape(4, 2, 3)
DATA = encode(RECORDS, PRINT.digest, 7)


def decode(data: bytes, print_: Fingerprint = PRINT, number: int = 7, count: int = 4):
    return decode_head(data[:HEAD_BYTES], len(data), print_, number, count)


def test_any_safetensors_reader_reads_a_shard() -> None:
    assert np.array_equal(load(DATA)["records"], RECORDS)


def test_the_header_says_where_the_records_are() -> None:
    assert DATA[decode(DATA).start :] == RECORDS.tobytes()


def test_the_same_records_give_the_same_bytes() -> None:
    assert all(encode(RECORDS.copy(), PRINT.digest, 7) == DATA for _ in range(20))
    assert encode(np.asfortranarray(RECORDS), PRINT.digest, 7) == DATA


def test_records_of_nothing_but_nan_are_listed_and_no_others() -> None:
    records = RECORDS.copy()
    records[1] = np.nan
    records[2, 0, 0] = np.nan
    assert decode(encode(records, PRINT.digest, 7)).failed == (1,)


def test_a_shard_of_failures_only_still_has_a_short_header() -> None:
    records = np.full((MAX_RECORDS, 2, 3), np.nan, np.float16)
    data = encode(records, PRINT.digest, 10**6 - 1)
    assert decode(data, number=10**6 - 1, count=MAX_RECORDS).failed == tuple(range(MAX_RECORDS))


@pytest.mark.parametrize("length", [0, 1, 7, 8, 30, len(DATA) - len(RECORDS.tobytes()), len(DATA) - 1])
def test_a_shard_that_is_cut_off_anywhere_is_noticed(length: int) -> None:
    with pytest.raises(ValueError, match="cut off"):
        decode(DATA[:length])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DATA + b"x", "too long"),
        (b"\xff" * 8192, "no shard"),
        (b"\0" * 8192, "damaged"),
        (DATA.replace(b"__meta", b"__mata"), "no shard"),
        (DATA[:8] + b"[1]".ljust(len(DATA) - 8), "damaged|no shard"),
        (save({"records": RECORDS}), "no shard"),
        (save({"records": RECORDS}, metadata={"stego": "[]"}), "no shard"),
        (save({"records": RECORDS}, metadata={"stego": '{"fingerprint": 1, "shard": 7}'}), "no shard"),
        (encode(RECORDS, fingerprint(shape=(3, 2)).digest, 7), "something else"),
        (encode(RECORDS, PRINT.digest, 8), "shard 8"),
        (encode(RECORDS[:3], PRINT.digest, 7), "another number"),
        (encode(RECORDS.reshape(4, 3, 2), PRINT.digest, 7), "another shape"),
        (encode(RECORDS.astype(np.float32), PRINT.digest, 7), "another shape"),
    ],
)
def test_what_is_not_this_shard_is_refused_with_the_reason(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(data)


@pytest.mark.parametrize("shape", [(384, 28, 28), (768, 40, 40), (384,), (90, 40, 40), (4096, 128, 128)])
def test_a_usual_shard_is_not_large_and_made_of_whole_batches(shape: tuple[int, ...]) -> None:
    count = usual_shard_size(fingerprint(count=10**6, shape=shape))
    assert 1 <= count <= MAX_RECORDS
    assert count == 1 or count * math.prod(shape) * 2 <= 64 * 2**20
    assert count < 16 or count % 16 == 0


def test_shards_are_known_by_their_names() -> None:
    assert is_shard_name(shard_name(12))
    assert not any(map(is_shard_name, ["shard-1.safetensors", "shard-000001.jpg", "store.json", "shard-00000x"]))
