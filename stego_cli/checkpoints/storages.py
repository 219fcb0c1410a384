"""Tensors out of torch's two file formats, each checked against what the file really holds."""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import torch
from torch import Tensor

from stego_cli.checkpoints.pickles import Name, read_pickle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_DTYPES = {
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.BoolStorage": torch.bool,
    "torch.ByteStorage": torch.uint8,
    "torch.CharStorage": torch.int8,
    "torch.ComplexDoubleStorage": torch.complex128,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.IntStorage": torch.int32,
    "torch.LongStorage": torch.int64,
    "torch.ShortStorage": torch.int16,
}
_NAMES = {*_DTYPES, *(str(dtype) for dtype in _DTYPES.values())}
_MAX_PICKLE = 64 << 20  # bytes; the largest real ones, of networks with thousands of tensors, have one or two million


@dataclass(frozen=True)
class Storage:
    """The memory of one or more tensors.

    Attributes:
        flat: All values in a row, shape (n,).
        memory: The same as bytes; the older format fills them in after the tensors are made.
    """

    flat: Tensor
    memory: bytearray


def make_storage(dtype: torch.dtype, memory: bytearray) -> Storage:
    """Look at `memory` as values of `dtype`, without a copy."""
    flat = torch.frombuffer(memory, dtype=dtype) if memory else torch.empty(0, dtype=dtype)
    return Storage(flat, memory)


def rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_rest: Any) -> Tensor:
    """Do what `torch._utils._rebuild_tensor_v2` would, within the bounds of the storage.

    Raises:
        ValueError: If the tensor reaches past its storage, or has more values than are stored.
    """
    numbers = [offset, *size, *stride]
    sound = isinstance(storage, Storage) and len(size) == len(stride)
    if not sound or any(type(number) is not int or number < 0 for number in numbers):
        raise TypeError("a tensor is described in an impossible way")
    count = math.prod(size)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if count and (last >= len(storage.flat) or count > len(storage.flat)):
        raise ValueError(f"a tensor of shape {tuple(size)} does not fit the {len(storage.flat)} values that are stored")
    flat: Tensor = storage.flat
    return flat.as_strided(size, stride, offset) if count else flat.new_empty(size)


def _same_tensor(tensor: Any, *_rest: Any) -> Tensor:
    """Stand for the functions that wrap a tensor into a parameter."""
    if not isinstance(tensor, Tensor):
        raise TypeError("a parameter is made of something else than a tensor")
    return tensor


def _subclassed(_function: Any, _kind: Any, arguments: Any, *_rest: Any) -> Tensor:
    """Stand for `torch._tensor._rebuild_from_type_v2`: a tensor with attributes of its own, which are left out."""
    return rebuild_tensor(*arguments)


_BUILDERS: dict[str, Callable[..., Any]] = {
    "torch._tensor._rebuild_from_type_v2": _subclassed,
    "torch._utils._rebuild_parameter": _same_tensor,
    "torch._utils._rebuild_parameter_with_state": _same_tensor,
    "torch._utils._rebuild_tensor": rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": rebuild_tensor,
    "torch.nn.parameter.Parameter": _same_tensor,
}


def read_zip(path: Path) -> Any:
    """Read a file of `torch.save` since version 1.6: a zip with one pickle and a member per storage.

    Raises:
        ForbiddenNameError: If the pickle names something outside the short lists.
        ValueError: If a storage has another size than declared; other exceptions if the file is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        return _ZipFile(archive, path.stat().st_size).read()


class _ZipFile:
    """One open zip file; storages are read when a tensor first asks for them."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self._archive = archive
        self._members = {info.filename: info for info in archive.infolist()}
        self._left = size  # members that overlap could otherwise unfold to far more than the file
        self._storages: dict[str, Storage] = {}
        self._root = next(name for name in self._members if name.endswith("/data.pkl")).removesuffix("data.pkl")

    def read(self) -> Any:
        if self._root + "byteorder" in self._members and self._bytes("byteorder") != b"little":
            raise ValueError("it was written on a big-endian machine")
        return read_pickle(io.BytesIO(self._bytes("data.pkl", _MAX_PICKLE)), _BUILDERS, self._stored, _NAMES)

    def _bytes(self, name: str, limit: int | None = None) -> bytearray:
        """Read one member, whose checksum the zip module verifies."""
        info = self._members[self._root + name]
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > min(self._left, limit or self._left):
            raise ValueError(
                f"its member `{name}` claims {info.file_size} bytes, more than a torch file can hold there"
            )
        self._left -= info.file_size
        memory = bytearray(info.file_size)
        with self._archive.open(info) as member:
            fill(memory, member)
        return memory

    def _stored(self, key: Any) -> Storage:
        dtype, name, count = _storage_id(key)
        if name not in self._storages:
            memory = self._bytes(f"data/{name}")
            if len(memory) != count * dtype.itemsize:
                raise ValueError(f"storage {name} declares {count * dtype.itemsize} bytes and holds {len(memory)}")
            self._storages[name] = make_storage(dtype, memory)
        return self._storages[name]


def read_legacy(path: Path) -> Any:
    """Read a file of `torch.save` before version 1.6: five pickles in a row, then the storages.

    Raises:
        ForbiddenNameError: If a pickle names something outside the short lists.
        ValueError: If a storage has another size than declared; other exceptions if the file is damaged.
    """
    with path.open("rb") as file:
        return _LegacyFile(file, path.stat().st_size).read()


class _LegacyFile:
    """One open file of the older format; storages get their values after the tensors are made."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size
        self._storages: dict[str, Storage] = {}

    def read(self) -> Any:
        for _header in ("magic number", "protocol version"):
            read_pickle(self._file)
        system = read_pickle(self._file)
        if not system["little_endian"]:
            raise ValueError("it was written on a big-endian machine")
        content = read_pickle(self._file, _BUILDERS, self._stored, _NAMES)
        for name in read_pickle(self._file):
            self._fill(self._storages.pop(name))
        if self._storages:
            raise ValueError(f"{len(self._storages)} storages have no values")
        return content

    def _stored(self, key: Any) -> Storage:
        dtype, name, count = _storage_id(key)
        if name not in self._storages:
            size = count * dtype.itemsize
            if size > self._left:
                raise ValueError(f"storage {name} declares {size} bytes, more than the file holds")
            self._left -= size
            self._storages[name] = make_storage(dtype, bytearray(size))
        return self._storages[name]

    def _fill(self, storage: Storage) -> None:
        count = int.from_bytes(self._file.read(8), "little")
        if count != len(storage.flat):
            raise ValueError(f"a storage declares {len(storage.flat)} values and holds {count}")
        fill(storage.memory, self._file)


def fill(memory: bytearray, file: IO[bytes]) -> None:
    """Fill `memory` from `file`.

    Raises:
        EOFError: If the file ends before.
    """
    view, done = memoryview(memory), 0
    while done < len(view):
        read = file.readinto(view[done:])  # type: ignore[attr-defined]  # every binary file has it
        if not read:
            raise EOFError("it ends in the middle of a tensor")
        done += read


def _storage_id(key: Any) -> tuple[torch.dtype, str, int]:
    """Take a persistent id apart: the type of the values, the storage's name, and how many values there are."""
    if type(key) is not tuple or len(key) not in {5, 6} or key[0] != "storage" or any(key[5:]):
        raise ValueError("it refers to something else than a tensor's values")
    kind, name, count = key[1], key[2], key[4]
    if type(kind) is not Name or kind.path not in _DTYPES or type(name) is not str:
        raise TypeError("a storage is described in an impossible way")
    if type(count) is not int or count < 0:
        raise ValueError(f"storage {name} declares {count} values")
    return _DTYPES[kind.path], name, count


def as_float32(tensor: Tensor) -> Tensor:
    """Return floating tensors as float32 and all others as they are."""
    return tensor.to(torch.float32) if tensor.is_floating_point() else tensor


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that hold infinities or values that are no numbers.

    Example:
        >>> not_finite({"a": torch.ones(2), "b": torch.tensor([1.0, math.nan])})
        ['b']
    """
    return [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
