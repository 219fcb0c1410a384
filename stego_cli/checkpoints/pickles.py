"""What a pickle says, read without doing it.

Released checkpoints are pickles, and a pickle is a small program: `pickle.load` runs what it names. The restricted
loader of torch (`weights_only=True`) is no way out here: below torch 2.10 a file can corrupt memory through it
(CVE-2026-24747), and in later versions a few bytes can still make it allocate any amount of memory. So the opcodes are
taken apart by the standard library's `pickletools`, which only parses, and given a meaning by the few lines below:
plain containers, numbers and text are built; a name becomes a `Name` that is never looked up or imported; calling one
makes an inert `StandIn`, unless the caller gave a builder for it. Every name outside the short lists is refused.
"""

from __future__ import annotations

import pickletools
import re
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Builder = Callable[..., Any]

# Classes of configs, callbacks and annotations that training frameworks leave in checkpoints.
_INERT_FAMILIES = (
    "lightning.", "lightning_fabric.", "numpy.", "omegaconf.", "pytorch_lightning.", "torchmetrics.", "typing.",
)  # fmt: skip
_INERT_NAMES = frozenset(
    {"argparse.Namespace", "torch.Size", "torch.device", "types.SimpleNamespace"}
    | {f"pathlib.{name}" for name in ("Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")}
    | {f"builtins.{name}" for name in ("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int")}
    | {f"builtins.{name}" for name in ("list", "object", "range", "set", "slice", "str", "tuple")}
)
_LITERALS = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBER_CODE = re.compile(r"[biuf][1248]")


class ForbiddenNameError(ValueError):
    """A pickle names something that a model file has no use for."""


@dataclass(frozen=True)
class Name:
    """A function or class that a pickle names; only the words, never the thing."""

    path: str


class StandIn:
    """What a pickle says of an object whose class is not wanted here.

    Attributes:
        path: The class or function that would have made the object.
        args: What it would have been called with.
        state: What its attributes would have been set to.
        entries: Key and value pairs that would have been set on it.
        elements: Values that would have been appended to it.
    """

    __slots__ = ("args", "elements", "entries", "path", "state")

    def __init__(self, path: str, args: tuple[Any, ...] = ()) -> None:
        self.path = path
        self.args = args
        self.state: Any = None
        self.entries: dict[Any, Any] = {}
        self.elements: list[Any] = []

    def __repr__(self) -> str:
        return f"StandIn({self.path!r})"


def read_pickle(
    file: IO[bytes],
    builders: Mapping[str, Builder] | None = None,
    stored: Callable[[Any], Any] | None = None,
    names: Iterable[str] = (),
) -> Any:
    """Read one pickle, up to and including its last opcode.

    Args:
        file: Open for reading bytes; left right behind the pickle.
        builders: What to call for the names that mean something to the caller. They see arguments made by a stranger,
            so they check them.
        stored: Gives the object behind a persistent id; without it, such ids are refused.
        names: More names that may occur.

    Returns:
        Dictionaries, lists (also for sets), tuples, text, bytes, numbers, booleans, None, `Name`, `StandIn`, and what
        the builders and `stored` return.

    Raises:
        ForbiddenNameError: If the pickle names anything else; its text is that name.
        ValueError: If the pickle is cut short or uses an opcode that no model file needs; other exceptions of the
            usual kinds (TypeError, IndexError, KeyError ...) if it is malformed.
    """
    return _Reader({**_BUILDERS, **(builders or {})}, stored, frozenset(names)).read(file)


class _Reader:
    """The stack machine of one pickle."""

    def __init__(
        self, builders: Mapping[str, Builder], stored: Callable[[Any], Any] | None, names: frozenset[str]
    ) -> None:
        self._builders = builders
        self._stored = stored
        self._names = names | _INERT_NAMES | builders.keys()
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []  # stacks set aside by MARK
        self._memo: dict[int, Any] = {}
        self._actions: dict[str, Callable[[Any], None]] = {
            "PROTO": lambda _: None,
            "FRAME": lambda _: None,
            "MARK": lambda _: self._mark(),
            "POP": lambda _: self._drop(),
            "DUP": lambda _: self._stack.append(self._stack[-1]),
            "EMPTY_LIST": lambda _: self._stack.append([]),
            "EMPTY_DICT": lambda _: self._stack.append({}),
            "EMPTY_TUPLE": lambda _: self._stack.append(()),
            "EMPTY_SET": lambda _: self._stack.append([]),
            "FROZENSET": lambda _: self._push(self._since_mark()),
            "TUPLE": lambda _: self._push(tuple(self._since_mark())),
            "TUPLE1": lambda _: self._tuple(1),
            "TUPLE2": lambda _: self._tuple(2),
            "TUPLE3": lambda _: self._tuple(3),
            "LIST": lambda _: self._push(self._since_mark()),
            "DICT": lambda _: self._push(_mapping(_pairs(self._since_mark()))),
            "APPEND": lambda _: self._append([self._stack.pop()]),
            "APPENDS": lambda _: self._append(self._since_mark()),
            "ADDITEMS": lambda _: self._append(self._since_mark()),
            "SETITEM": lambda _: self._set([self._tuple_of(2)]),
            "SETITEMS": lambda _: self._set(_pairs(self._since_mark())),
            "MEMOIZE": lambda _: self._remember(len(self._memo)),
            "GLOBAL": lambda words: self._name(*words.split(" ", 1)),
            "STACK_GLOBAL": lambda _: self._name(*self._tuple_of(2)),
            "REDUCE": lambda _: self._call(*self._tuple_of(2)),
            "NEWOBJ": lambda _: self._call(*self._tuple_of(2)),
            "BUILD": lambda _: self._build(self._stack.pop()),
            "BINPERSID": lambda _: self._persistent(self._stack.pop()),
        }
        self._actions |= dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda key: self._push(self._memo[key]))
        self._actions |= dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), self._remember)

    def read(self, file: IO[bytes]) -> Any:
        for opcode, argument, _ in pickletools.genops(file):
            name = opcode.name
            if name == "STOP":
                return self._stack.pop()
            if name in _LITERALS:
                self._stack.append(argument)
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name])
            elif name in self._actions:
                self._actions[name](argument)
            else:
                raise ValueError(f"the pickle uses the opcode {name}, which no model file needs")
        raise ValueError("the pickle has no end")  # pragma: no cover - genops raises first

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _drop(self) -> None:
        self._stack.pop()

    def _mark(self) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        values, self._stack = self._stack, self._outer.pop()
        return values

    def _tuple_of(self, count: int) -> tuple[Any, ...]:
        if len(self._stack) < count:
            raise IndexError("the pickle takes more values than it has")
        values = tuple(self._stack[-count:])
        del self._stack[-count:]
        return values

    def _tuple(self, count: int) -> None:
        self._push(self._tuple_of(count))

    def _remember(self, key: int) -> None:
        self._memo[key] = self._stack[-1]

    def _append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is list:
            target.extend(values)
        elif type(target) is StandIn:
            target.elements.extend(values)
        else:
            raise TypeError(f"the pickle appends to a {type(target).__name__}")

    def _set(self, pairs: Iterable[tuple[Any, ...]]) -> None:
        target = self._stack[-1]
        entries = target.entries if type(target) is StandIn else target
        if type(entries) is not dict:
            raise TypeError(f"the pickle sets entries of a {type(target).__name__}")
        for key, value in pairs:
            entries[_key(key)] = value

    def _name(self, module: str, name: str) -> None:
        if type(module) is not str or type(name) is not str:
            raise TypeError("the pickle names something by other things than words")
        path = f"{'builtins' if module == '__builtin__' else module}.{name}"  # as Python 2 called it
        if path not in self._names and not path.startswith(_INERT_FAMILIES):
            raise ForbiddenNameError(path)
        self._push(Name(path))

    def _call(self, function: Any, args: Any) -> None:
        if type(function) is not Name or type(args) is not tuple:
            raise TypeError(f"the pickle calls a {type(function).__name__}")
        builder = self._builders.get(function.path)
        self._push(builder(*args) if builder else StandIn(function.path, args))

    def _build(self, state: Any) -> None:
        target = self._stack[-1]
        if type(target) is StandIn:
            target.state = state
        elif type(target) is not dict:  # attributes of an ordered dictionary, such as `_metadata`, are left out
            raise TypeError(f"the pickle sets attributes of a {type(target).__name__}")

    def _persistent(self, key: Any) -> None:
        if self._stored is None:
            raise ValueError("the pickle refers to data outside of it")
        self._push(self._stored(key))


def _pairs(values: list[Any]) -> list[tuple[Any, Any]]:
    """Put a flat list of keys and values into pairs."""
    return list(zip(values[::2], values[1::2], strict=True))


def _key(key: Any) -> Any:
    """Return a key that is safe to hash: hashing a deeply nested tuple overflows the interpreter's stack."""
    flat = (str, int, float, bool, bytes, Name, type(None))
    if type(key) in flat or (type(key) is tuple and all(type(part) in flat for part in key)):
        return key
    raise TypeError(f"the pickle uses a {type(key).__name__} as a dictionary key")


def _mapping(pairs: Any = ()) -> dict[Any, Any]:
    """Build a dictionary from what `OrderedDict` or `Counter` would have been called with."""
    if type(pairs) not in (dict, list, tuple):
        raise TypeError("the pickle makes a dictionary of something else than pairs")
    return {_key(key): value for key, value in (pairs.items() if type(pairs) is dict else pairs)}


def _empty_mapping(*_factory: Any) -> dict[Any, Any]:
    """Stand for `defaultdict(factory)`; its entries follow as separate opcodes."""
    return {}


def _values(values: Any = ()) -> list[Any]:
    """Stand for a set, whose members would have to be hashed."""
    if type(values) not in (list, tuple):
        raise TypeError("the pickle makes a set of something else than values")
    return list(values)


def _encode(text: Any, encoding: Any) -> bytes:
    """Return bytes that Python 3 wrote into an old pickle as text."""
    if type(text) is not str or encoding not in {"latin1", "latin-1"}:
        raise TypeError("the pickle encodes text in an unusual way")
    return text.encode("latin-1")


def _number(dtype: Any, raw: Any) -> float | int | bool:
    """Return a NumPy scalar as a plain number."""
    code = dtype.args[0] if type(dtype) is StandIn and dtype.args else None
    if type(code) is not str or not _NUMBER_CODE.fullmatch(code):
        raise TypeError("the pickle holds a NumPy value that is not a number")
    order = ">" if type(dtype.state) is tuple and ">" in dtype.state[:2] else "<"
    data = raw.encode("latin-1") if type(raw) is str else raw
    number: float | int | bool = np.frombuffer(data, np.dtype(order + code), count=1)[0].item()
    return number


_BUILDERS: Mapping[str, Builder] = {
    "_codecs.encode": _encode,
    "builtins.frozenset": _values,
    "builtins.set": _values,
    "collections.Counter": _mapping,
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _empty_mapping,
    "numpy._core.multiarray.scalar": _number,
    "numpy.core.multiarray.scalar": _number,
}
