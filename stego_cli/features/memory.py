"""How much memory there is to hold records in."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_OWN_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_SPARE = 0.8  # the share of the memory that may be taken; the rest is for the run itself


def fits_in_memory(needed: int) -> bool:
    """Say whether so many bytes fit into the memory that is free, with a fifth to spare; no if that is not known."""
    available = available_memory()
    return available is not None and needed <= _SPARE * available


def available_memory() -> int | None:
    """Return the bytes that this process may still take without others being pushed out; None if nobody tells.

    On Linux the limit of a container or of a batch system's job counts too. Elsewhere half of all memory is taken as
    available.
    """
    free = _meminfo()
    if free is not None:
        return max(min([free, *_group_limits()]), 0)
    with suppress(AttributeError, OSError, ValueError):  # Windows knows no sysconf
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return None


def _meminfo() -> int | None:
    """Return what Linux says is available."""
    with suppress(OSError, ValueError, IndexError):
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _group_limits() -> list[int]:
    """Return what the control groups (version 2) that the process is in leave free, its own and those around it."""
    groups = [_GROUPS]
    with suppress(OSError, StopIteration):
        own = next(line[3:] for line in _OWN_GROUP.read_text().splitlines() if line.startswith("0::"))
        inner = _GROUPS / own.strip("/")
        groups += [inner, *(each for each in inner.parents if each.is_relative_to(_GROUPS))]
    limits = []
    for group in groups:
        with suppress(OSError, ValueError):  # no such file, or the word `max`
            limit = int((group / "memory.max").read_text())
            used = int((group / "memory.current").read_text()) - _reclaimable(group)
            limits.append(limit - used)
    return limits


def _reclaimable(group: Path) -> int:
    """Return how much of a group's memory only caches files, and is given up when it is needed."""
    lines = (line.split() for line in (group / "memory.stat").read_text().splitlines())
    return sum(int(value) for name, value in lines if name == "inactive_file")
