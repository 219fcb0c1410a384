"""One record per image of a dataset split, on disk or behind an address: written in shards, read at random."""

from __future__ import annotations

import shutil
import zlib
from typing import TYPE_CHECKING, Self

import numpy as np

from stego_cli.checkpoints.plain import harmless
from stego_cli.errors import OutputError, StegoError
from stego_cli.features.local import LocalPlace
from stego_cli.features.memory import available_memory, fits_in_memory
from stego_cli.features.place import Piece
from stego_cli.features.places import find_place
from stego_cli.features.reader import InMemory, Numbers, Records, bytes_of, memory_for, whole_numbers
from stego_cli.features.shards import (
    HEAD_BYTES,
    MAX_RECORDS,
    Shard,
    decode_head,
    encode,
    is_shard_name,
    record_bytes,
    shard_name,
    usual_shard_size,
)
from stego_cli.features.store_index import BUILT_BY, INDEX_NAME, index_bytes, read_index, refuse_stale
from stego_cli.progress import Silence

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stego_cli.features.fingerprint import Fingerprint
    from stego_cli.features.place import Place
    from stego_cli.progress import Report

_HEADER_ABOUT = 300  # bytes; only an estimate needs it
_SHOWN = 3


class FeatureStore:
    """The records of a dataset split. Made by `create` or `open`.

    Shards are files that appear whole, so any number of threads, processes and machines may write different ones at
    once, and whoever writes the same one writes the same bytes. Nothing is kept open: a store may be sent to other
    processes, and reading is safe in threads.

    Attributes:
        place: Where it is.
        fingerprint: What the records are made from.
        shards: The images of each shard.
    """

    def __init__(self, place: Place, fingerprint: Fingerprint, shard_size: int) -> None:
        self.place = place
        self.fingerprint = fingerprint
        self.shards: tuple[range, ...] = tuple(
            range(start, min(start + shard_size, fingerprint.count))
            for start in range(0, fingerprint.count, shard_size)
        )
        self._shard_size = shard_size
        self._found: dict[int, Shard] = {}

    @classmethod
    def create(
        cls,
        place: str | Path,
        fingerprint: Fingerprint,
        report: Report | None = None,
        *,
        overwrite: bool = False,
        shard_size: int | None = None,
    ) -> Self:
        """Open a place for writing: go on with what is there if it is made from the same, else begin.

        All ranks may call it at once, but only one may `overwrite`, and the others must wait for it.

        Args:
            place: A folder, or an address that fsspec knows.
            fingerprint: What the records will be made from.
            report: Told which shards are damaged, and so missing.
            overwrite: Begin anew, whatever store is there.
            shard_size: Records in a shard, at most 256; by default 64 MiB of them. A store that is there keeps its own.

        Raises:
            StaleError: If there is a store that was made from something else; names the differences.
            OutputError: If the folder holds other files than a store's, or cannot be written to.
            StegoError: If what is there cannot be understood, or the address cannot be used.
        """
        if shard_size is not None and not 1 <= shard_size <= MAX_RECORDS:
            raise ValueError(f"shard_size {shard_size} is not within 1 and {MAX_RECORDS}")
        where = find_place(place)
        store = cls(where, fingerprint, shard_size or usual_shard_size(fingerprint))
        files = where.sizes()
        shards = [name for name in files if is_shard_name(name)]
        if len(shards) < len(files) and INDEX_NAME not in files:
            raise OutputError(
                f"`{where}` holds other files, and no features: {harmless(min(files.keys() - set(shards)))}\n\n"
                "hint: choose an empty folder, or one that does not exist yet"
            )
        if INDEX_NAME in files and not overwrite:
            found, shard_size_there = read_index(where)
            refuse_stale(where, found, fingerprint)
            store = cls(where, fingerprint, shard_size_there)
        where.prepare()
        if overwrite:
            where.remove(shards)
        if overwrite or INDEX_NAME not in files:
            where.write(INDEX_NAME, index_bytes(fingerprint, store._shard_size))
        for why in store._refresh():
            (report or Silence()).warn(f"{why}; it is made again")
        return store

    @classmethod
    def open(cls, place: str | Path, fingerprint: Fingerprint | None = None, *, allow_partial: bool = False) -> Self:
        """Open a store for reading.

        Args:
            place: A folder, or an address that fsspec knows.
            fingerprint: What the records should be made from; None takes whatever they are made from.
            allow_partial: Whether records may be missing.

        Raises:
            StaleError: If the store was made from something else; names the differences.
            StegoError: If there is no store, it is not complete, or parts are damaged; names the command to run.
        """
        where = find_place(place)
        found, shard_size = read_index(where)
        if fingerprint is not None:
            refuse_stale(where, found, fingerprint)
        store = cls(where, found, shard_size)
        damaged = store._refresh()
        done = store.count_done
        if done < len(store) and not allow_partial:
            listed = "".join(f"\n  {why}" for why in damaged[:_SHOWN])
            more = f"\n  and {len(damaged) - _SHOWN} more" if len(damaged) > _SHOWN else ""
            raise StegoError(
                f"the features in `{where}` are incomplete: {done} of {len(store)} images{listed}{more}\n\n"
                f"hint: run `{BUILT_BY[found.kind]}` with the same settings; it makes what is missing"
            )
        return store

    def __len__(self) -> int:
        return self.fingerprint.count

    @property
    def failed(self) -> tuple[int, ...]:
        """Images that could not be read when their record was to be made; their records are NaN."""
        found = sorted(self._found.items())
        return tuple(self.shards[number][position] for number, shard in found for position in shard.failed)

    @property
    def count_done(self) -> int:
        """Images whose records were there when the store was opened, or last asked what is missing."""
        return sum(len(self.shards[number]) for number in self._found)

    def missing(self, rank: int = 0, world: int = 1) -> list[int]:
        """Look again which shards are not there, or damaged, and return those that one of several ranks should make.

        Each shard belongs to one rank whatever is there, so ranks need not ask at the same moment.
        """
        self._refresh()
        return [number for number in range(rank, len(self.shards), world) if number not in self._found]

    def write(self, shard: int, records: Records) -> None:
        """Write a whole shard; it is on disk when this returns.

        Args:
            shard: Its number.
            records: Shape (len(shards[shard]), *record), of any floating type; a record of nothing but NaN is that of
                an image that could not be read.

        Raises:
            ValueError: If the records have another shape.
            StegoError: If a value is too large for the type that is stored.
            OutputError: If it cannot be written; what was written before stays.
        """
        expected = (len(self.shards[shard]), *self.fingerprint.shape)
        if records.shape != expected:
            raise ValueError(f"records of the shape {records.shape}; shard {shard} needs {expected}")
        stored = self._as_stored(records)
        data = encode(stored, self.fingerprint.digest, shard)
        self.place.write(shard_name(shard), data)
        self._found[shard] = self._decode(shard, data[:HEAD_BYTES], len(data))

    def __getitem__(self, index: int) -> Records:
        record: Records = self.read([index])[0]
        return record

    def read(self, indices: Numbers, out: Records | None = None) -> Records:
        """Return some records, see `FeatureReader`."""
        numbers = whole_numbers(indices, len(self))
        out = memory_for(numbers, self.fingerprint, out)
        rows = bytes_of(out)
        self._fill(self._piece(int(numbers[row]), rows[row]) for row in np.argsort(numbers, kind="stable"))
        return out

    def in_memory(self) -> InMemory:
        """Read all records into memory.

        Raises:
            StegoError: If they do not fit into the memory that is free, or cannot be read.
        """
        needed = len(self) * record_bytes(self.fingerprint)
        available = available_memory()
        if available is not None and not fits_in_memory(needed):
            raise StegoError(
                f"the features in `{self.place}` need {_size(needed)} of memory, with a fifth to spare; "
                f"{_size(available)} are free\n\nhint: read them from the disk instead (cache), or free some memory"
            )
        records = np.empty((len(self), *self.fingerprint.shape), self.fingerprint.dtype)
        for images in self.shards:  # one at a time, so that an address is not asked for everything at once
            self._fill([self._piece(images.start, bytes_of(records[images.start : images.stop]).reshape(-1))])
        records.flags.writeable = False
        return InMemory(self.fingerprint, self.failed, records)

    def verify(self, report: Report | None = None) -> dict[int, str]:
        """Read every record once and compare it with its checksum; return what is wrong, by shard.

        Opening a store looks at headers and sizes only. `discard` what is found, and the next build makes it again.
        """
        wrong = {}
        numbers = sorted(self._found)
        for number in (report or Silence()).track(numbers, "Checking features", total=len(numbers)):
            data = np.empty(len(self.shards[number]) * record_bytes(self.fingerprint), np.uint8)
            try:
                self._fill([self._piece(self.shards[number].start, data)])
            except StegoError as error:
                wrong[number] = str(error).partition("\n")[0]
            else:
                if zlib.crc32(data.data) != self._found[number].crc32:
                    wrong[number] = f"`{shard_name(number)}` in `{self.place}` is damaged: its checksum is another"
        return wrong

    def discard(self, shards: Iterable[int]) -> None:
        """Remove shards, so that they are made again.

        Raises:
            OutputError: If they cannot be removed.
        """
        for number in shards:
            self.place.remove([shard_name(number)])
            self._found.pop(number, None)

    def _as_stored(self, records: Records) -> Records:
        """Return records in the type that is stored."""
        with np.errstate(over="ignore"):
            stored = records.astype(self.fingerprint.dtype, copy=False)
        if stored is not records and np.isinf(stored).any() and not np.isinf(records).any():
            raise StegoError(
                f"features reach {float(np.nanmax(np.abs(records))):.3g}, more than {self.fingerprint.dtype} can hold"
                "\n\nhint: store them as --dtype fp32"
            )
        return stored

    def _refresh(self) -> list[str]:
        """Look which shards are there and sound; return what is wrong with the others that are there."""
        sizes = self.place.sizes()
        there = [number for number in range(len(self.shards)) if sizes.get(shard_name(number))]
        found, damaged = {}, [number for number in range(len(self.shards)) if sizes.get(shard_name(number)) == 0]
        problems = [f"`{shard_name(number)}` in `{self.place}` cannot be used: it is empty" for number in damaged]
        for number, head in zip(there, self._heads(there), strict=True):
            try:
                found[number] = self._decode(number, head, sizes[shard_name(number)])
            except ValueError as error:
                problems.append(f"`{shard_name(number)}` in `{self.place}` cannot be used: {error}")
        self._found = found
        return problems

    def _heads(self, shards: Sequence[int]) -> list[bytes]:
        try:
            return self.place.heads([shard_name(number) for number in shards], HEAD_BYTES)
        except OSError as error:
            raise StegoError(
                f"cannot read `{self.place}`: {error}\n\nhint: check that the files in it may be read, then try again"
            ) from error

    def _decode(self, shard: int, head: bytes, size: int) -> Shard:
        return decode_head(head, size, self.fingerprint, shard, len(self.shards[shard]))

    def _piece(self, image: int, target: NDArray[np.uint8]) -> Piece:
        """Return where the records from one image on are."""
        number, position = divmod(image, self._shard_size)
        shard = self._found.get(number)
        if shard is None:
            raise StegoError(
                f"the features of image {image} are not in `{self.place}` yet\n\n"
                f"hint: run `{BUILT_BY[self.fingerprint.kind]}` with the same settings; it makes what is missing"
            )
        return Piece(shard_name(number), shard.start + position * record_bytes(self.fingerprint), target.data)

    def _fill(self, pieces: Iterable[Piece]) -> None:
        """Read pieces, and say in words why that is not possible."""
        try:
            self.place.read(list(pieces))
        except (EOFError, OSError) as error:
            why = f"`{error}` is cut off" if isinstance(error, EOFError) else str(error)
            raise StegoError(
                f"cannot read features from `{self.place}`: {why}\n\n"
                f"hint: run `{BUILT_BY[self.fingerprint.kind]}` with the same settings; it makes what is missing"
            ) from error


def has_store(place: str | Path) -> bool:
    """Say whether there is a store at a place, finished or not."""
    return INDEX_NAME in find_place(place).sizes()


def estimate(fingerprint: Fingerprint) -> int:
    """Return about how many bytes a store of all records takes."""
    shards = -(-fingerprint.count // usual_shard_size(fingerprint))
    return fingerprint.count * record_bytes(fingerprint) + shards * _HEADER_ABOUT


def check_space(place: str | Path, needed: int) -> None:
    """See that so many bytes fit on the disk that a place is on; of an address nobody knows.

    Raises:
        OutputError: If they do not.
    """
    where = find_place(place)
    if not isinstance(where, LocalPlace):
        return
    existing = next(folder for folder in (where.folder, *where.folder.parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise OutputError(
            f"the features need {_size(needed)} in `{where}`, and {_size(free)} are free\n\n"
            "hint: free some space, or choose another place with --out"
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 10**9 else f"{count / 1e6:.1f} MB"
