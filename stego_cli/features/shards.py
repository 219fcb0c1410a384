"""One file of records: safetensors, with what it belongs to in its header."""

from __future__ import annotations

import json
import math
import re
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stego_cli.features.fingerprint import Fingerprint

    Records = NDArray[np.floating[Any]]

MAX_RECORDS = 256  # so that few minutes of work are lost with a shard, and its header fits into HEAD_BYTES
HEAD_BYTES = 4096
_FULL_BYTES = 64 * 2**20
_BATCH = 16
_TENSOR = "records"
_ABOUT = "stego"
_DTYPES = {"float16": "F16", "float32": "F32"}


@dataclass(frozen=True)
class Shard:
    """What the header of a shard says.

    Attributes:
        start: Where in the file the first record begins.
        failed: Positions in the shard of images that could not be read; their records are NaN.
        crc32: Checksum of the records' bytes.
    """

    start: int
    failed: tuple[int, ...]
    crc32: int


def shard_name(number: int) -> str:
    """Return what the file of a shard is called."""
    return f"shard-{number:06d}.safetensors"


def is_shard_name(name: str) -> bool:
    """Say whether a file is called like a shard."""
    return re.fullmatch(r"shard-[0-9]{6}\.safetensors", name) is not None


def record_bytes(fingerprint: Fingerprint) -> int:
    """Return the size of one record."""
    return math.prod(fingerprint.shape) * np.dtype(fingerprint.dtype).itemsize


def usual_shard_size(fingerprint: Fingerprint) -> int:
    """Return how many records make a shard: 64 MiB at most, in whole batches of 16 where that many fit."""
    count = min(max(_FULL_BYTES // record_bytes(fingerprint), 1), MAX_RECORDS)
    return count // _BATCH * _BATCH or count


def encode(records: Records, digest: str, number: int) -> bytes:
    """Return the bytes of a shard, the same for the same records.

    Args:
        records: Shape (n, *record), n at most `MAX_RECORDS`; a record of nothing but NaN is one that failed.
        digest: Of the fingerprint.
        number: Of the shard.
    """
    whole = np.ascontiguousarray(records)
    about = {
        "fingerprint": digest,
        "shard": number,
        "failed": _failed(whole),
        "crc32": zlib.crc32(whole.data.cast("B")) if whole.size else 0,
    }
    # One entry only: the library writes several in an order that changes from run to run.
    return save({_TENSOR: whole}, metadata={_ABOUT: json.dumps(about)})


def decode_head(head: bytes, size: int, fingerprint: Fingerprint, number: int, count: int) -> Shard:
    """Read the header of a shard and see that it is the one that is looked for, and whole.

    Args:
        head: The first `HEAD_BYTES` of the file.
        size: Of the file, in bytes.
        fingerprint: What its records should be made from.
        number: Of the shard.
        count: Records that it should have.

    Raises:
        ValueError: If it is not; says why.
    """
    start, header = _header(head)
    expected = start + count * record_bytes(fingerprint)
    try:
        about = json.loads(header["__metadata__"][_ABOUT])
        digest, found = about["fingerprint"], about["shard"]
        shard = Shard(start, tuple(int(each) for each in about["failed"]), int(about["crc32"]))
        layout = header[_TENSOR]["dtype"], header[_TENSOR]["shape"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError("it is no shard of a feature store") from error
    if digest != fingerprint.digest:
        raise ValueError("it belongs to a store that was made from something else")
    if found != number:
        raise ValueError(f"it is shard {found} under another name")
    if layout != (_DTYPES[fingerprint.dtype], [count, *fingerprint.shape]):
        raise ValueError("it holds another number of records, or records of another shape")
    if size != expected:
        raise ValueError(f"it is {'cut off' if size < expected else 'too long'}: {size} bytes of {expected}")
    return shard


def _header(head: bytes) -> tuple[int, dict[str, Any]]:
    """Return the length of the header with the eight bytes before it, and what it says."""
    length = struct.unpack("<Q", head[:8])[0] if len(head) >= 8 else 0
    if not head or 8 + length > len(head):
        # A header of ours always fits, so there is less than a header, or something else.
        raise ValueError("it is cut off" if len(head) < HEAD_BYTES else "it is no shard of a feature store")
    try:
        header = json.loads(head[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise ValueError("its header is damaged") from error
    if not isinstance(header, dict):
        raise ValueError("its header is damaged")  # noqa: TRY004 - it is a file's fault, not a caller's
    return 8 + length, header


def _failed(records: Records) -> list[int]:
    """Return the positions of records that are NaN throughout; few need to be looked at beyond their first value."""
    flat = records.reshape(len(records), -1)
    likely = np.flatnonzero(np.isnan(flat[:, 0])) if flat.size else np.empty(0, int)
    return [int(each) for each in likely if np.isnan(flat[each]).all()]
