"""Field types that several configs share, and how a config says that two settings do not go together."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

from stego_cli.config.base import Block

if TYPE_CHECKING:
    from collections.abc import Sequence


class CommandConfig(Block):
    """All settings of one command; `section` is the name of its part of `stego.yaml`."""

    section: ClassVar[str]


class Conflict(NamedTuple):
    """Settings that do not go together: their keys, and the rule in words."""

    keys: tuple[str, ...]
    rule: str


def refuse(conflicts: Sequence[Conflict]) -> None:
    """Raise one validation error for all conflicts; do nothing when there are none.

    Called at the end of a model validator, so that every broken rule is reported at once.
    """
    if conflicts:
        text = "; ".join(conflict.rule for conflict in conflicts)
        raise PydanticCustomError("conflicts", "{text}", {"text": text, "conflicts": tuple(conflicts)})


def usable_cores() -> int:
    """Return how many CPU cores this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def split_commas(value: Any) -> Any:
    """Turn `labels,overlay` into its parts, so that options and YAML lists mean the same.

    Example:
        >>> split_commas("labels, overlay")
        ['labels', 'overlay']
    """
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _known_device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", name):
        raise ValueError(f"expected auto, cpu, cuda, cuda:N (the N-th card, from 0) or mps, got {name!r}")
    return name


def _not_blank(value: Any) -> Any:
    """Refuse what would silently become the current folder, and what no file system takes."""
    if isinstance(value, str) and (not value.strip() or "\0" in value):
        raise ValueError(f"expected a path, got {value!r}")
    return value


def _home_expanded(path: Path) -> Path:
    """Replace a leading `~`, which no shell has done for values from a file."""
    with suppress(RuntimeError):  # `~nobody`: no such user, so it is a name like any other
        return path.expanduser()
    return path


DeviceName = Annotated[str, AfterValidator(_known_device)]
UserPath = Annotated[Path, BeforeValidator(_not_blank), AfterValidator(_home_expanded)]
