"""Label spaces: which classes there are, what they are called and how they are coloured. One YAML file each."""

from __future__ import annotations

import difflib
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

from stego_cli.config.model import LabelSpace
from stego_cli.data.colours import MOST_COLOURS, distinct_colours
from stego_cli.errors import ConfigError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

IGNORE_LABEL = -1


def available_label_spaces() -> tuple[str, ...]:
    """Return the names that `load_label_space` takes, in alphabetical order."""
    return tuple(sorted(file.name.removesuffix(".yaml") for file in _folder().iterdir() if file.name.endswith(".yaml")))


def load_label_space(name: str) -> LabelSpace:
    """Return a label space that comes with the package.

    Class names are unique, so that a legend can be read: where the published list repeats a name, it carries an
    addition such as `food (stuff)`.

    Raises:
        ConfigError: If there is none of that name; suggests the nearest.

    Example:
        >>> load_label_space("camvid").names[:3]
        ('sky', 'building', 'pole')
    """
    classes = _classes(name)
    return LabelSpace.model_validate(
        {
            "name": name,
            "names": tuple(entry["name"] for entry in classes),
            "colours": tuple(tuple(entry["colour"]) for entry in classes),
        }
    )


def stored_values(name: str) -> tuple[tuple[int, ...], ...]:
    """Return for each class the values that stand for it in the label files of the dataset as it is published.

    Where a label space does not say, files hold the class ids themselves.

    Raises:
        ConfigError: If there is no such label space.

    Example:
        >>> stored_values("potsdam")
        ((0, 4), (1, 5), (2, 3))
    """
    return tuple(tuple(entry.get("stored", (index,))) for index, entry in enumerate(_classes(name)))


def anonymous_label_space(n: int, kind: str = "cluster") -> LabelSpace:
    """Return `n` classes that nobody has named yet: `cluster 0`, `cluster 1` and so on, well apart in colour.

    The same id has the same colour for every `n`.

    Raises:
        ConfigError: If there are more classes than colours that can be told apart.

    Example:
        >>> anonymous_label_space(3).names
        ('cluster 0', 'cluster 1', 'cluster 2')
    """
    if not 1 <= n <= MOST_COLOURS:
        raise ConfigError(
            f"a label space of {n} unnamed classes: the number must be from 1 to {MOST_COLOURS}"
            f"\n\nhint: use at most {MOST_COLOURS} clusters"
        )
    return LabelSpace(
        name=f"{n} unnamed {kind}{'es' if kind.endswith('s') else 's'}",
        names=tuple(f"{kind} {index}" for index in range(n)),
        colours=distinct_colours(n),
    )


def _folder() -> Traversable:
    """Return where the YAML files lie, inside the package."""
    return files("stego_cli.data") / "label_spaces"


@lru_cache
def _classes(name: str) -> list[dict[str, Any]]:
    """Read the classes of one file: each has `name` and `colour`, some have `stored`."""
    known = available_label_spaces()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"use one of {', '.join(known)}"
        raise ConfigError(f"no label space is called `{name}`\n\nhint: {hint}")
    classes: list[dict[str, Any]] = yaml.safe_load((_folder() / f"{name}.yaml").read_text("utf-8"))["classes"]
    return classes
