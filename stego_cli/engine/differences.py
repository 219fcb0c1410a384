"""What differs between the settings of a run that is there and those that are asked for, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """List the settings that differ, with both values; one that is absent counts as none.

    Args:
        before: Those that are there, in blocks within blocks, as JSON has them.
        now: Those that are asked for.
        prefix: What the names begin with.

    Example:
        >>> differences({"train": {"steps": 5}}, {"train": {"steps": 6}})
        ['train.steps: 5 before, 6 now']
    """
    found = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{prefix}{name}.")
        elif old != new:
            found.append(f"{prefix}{name}: {in_words(old)} before, {in_words(new)} now")
    return found


def in_words(value: Any) -> str:
    """Return a setting as a person says it.

    Example:
        >>> in_words(True), in_words(None), in_words(3)
        ('yes', 'none', '3')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
