"""What a stranger's file says, made plain: configs as dictionaries and lists, text without control characters."""

from __future__ import annotations

from typing import Any

from stego_cli.checkpoints.pickles import Name, StandIn
from stego_cli.errors import CheckpointError

_MAX_DEPTH = 64
_MAX_VALUES = 200_000


def to_plain(value: Any) -> Any:
    """Turn a stored config into plain dictionaries, lists and values.

    The classes of omegaconf keep their content in `_content` and their values in `_val`; other stand-ins become their
    entries, their elements, or their attributes. Tensors and other leaves stay as they are.

    Raises:
        CheckpointError: If the config is larger or deeper than any real one: references make it easy to write a small
            file that unfolds without end.
    """
    return _Unfolding().plain(value, 0)


class _Unfolding:
    """Counts what one `to_plain` has made so far."""

    def __init__(self) -> None:
        self._made = 0

    def plain(self, value: Any, depth: int) -> Any:
        self._made += 1
        if depth > _MAX_DEPTH or self._made > _MAX_VALUES:
            raise CheckpointError(
                f"the stored config unfolds to more than {_MAX_DEPTH} levels or {_MAX_VALUES} values\n\n"
                "hint: no real config does; do not use this file"
            )
        if isinstance(value, StandIn):
            return self.plain(_inside(value), depth + 1)
        if isinstance(value, dict):
            return {key: self.plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(item, depth + 1) for item in value]
        return value.path if isinstance(value, Name) else value


def _inside(value: StandIn) -> Any:
    """Return what a stand-in holds."""
    state = value.state if isinstance(value.state, dict) else {}
    for key in ("_content", "_val"):
        if key in state:
            return state[key]
    if value.path.startswith("pathlib."):
        return "/".join(str(part) for part in value.args)
    return value.entries or value.elements or state or list(value.args)


def harmless(text: object) -> str:
    r"""Return words from a file so that they can be shown: control characters, which steer terminals, as escapes.

    Example:
        >>> print(harmless("posix\x1b[2J"))
        posix\x1b[2J
    """
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )
