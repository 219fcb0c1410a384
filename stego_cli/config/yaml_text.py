"""YAML as settings need it: `5e-4` is a number, `no` is text, a key written twice is an error."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class YamlProblem(Exception):  # noqa: N818 - caught here in config/, never shown as an error of its own
    """What is wrong with a text, and where: `line 3, column 5`, or empty for the whole of it."""

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place


class SettingsLoader(yaml.SafeLoader):
    """The core types of YAML 1.2 and no others.

    YAML 1.1, which PyYAML follows, reads `5e-4` as text, `010` as eight, `1:30` as ninety and `2024-01-01` as a date.
    """

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - so it is declared in PyYAML's stubs
    yaml_constructors: ClassVar[dict[Any, Any]] = {}


def read_settings_file(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds settings by name; an empty one holds none.

    Raises:
        YamlProblem: If it cannot be read, is not UTF-8, is not YAML, repeats a key, or is a list or a single value.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise YamlProblem(f"is not UTF-8 text (byte {error.start + 1} is not); save it as UTF-8") from error
    except OSError as error:
        raise YamlProblem(f"cannot be read: {(error.strerror or str(error)).lower()}") from error
    values = parse_yaml(text)
    if values is None:
        return {}
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else "a single value"
        raise YamlProblem(f"expected settings written as `name: value`, got {kind}")
    return values


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text.

    Raises:
        YamlProblem: If it is not YAML; with line and column, both counted from 1.

    Example:
        >>> parse_yaml("[5e-4, no, 010, true]")
        [0.0005, 'no', 10, True]
    """
    try:
        return yaml.load(text, SettingsLoader)  # noqa: S506 - a safe loader with fewer types still
    except yaml.reader.ReaderError as error:
        raise YamlProblem(f"holds a character that YAML does not allow (code {error.character})") from error
    except yaml.MarkedYAMLError as error:
        raise YamlProblem(_words(error), _place(error.problem_mark or error.context_mark)) from error
    except RecursionError as error:
        raise YamlProblem("is nested too deeply") from error


def _words(error: yaml.MarkedYAMLError) -> str:
    """Say in one line what PyYAML found."""
    problem = error.problem or error.context or "is not YAML"
    if "'\\t'" in problem:
        return "a tab cannot indent in YAML; use spaces"
    if "recursive" in problem:
        return "an alias contains itself"
    return f"{error.context}: {problem}" if error.context and error.problem else problem


def _place(mark: yaml.Mark | None) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _mapping(loader: SettingsLoader, node: yaml.MappingNode) -> dict[str, Any]:
    """Build a mapping whose keys are all different, as text just as written; `<<` may still be overridden."""
    seen: dict[str, yaml.Mark] = {}
    for key_node, _ in node.value:
        if key_node.tag != "tag:yaml.org,2002:merge":
            key = _key(key_node)
            if key in seen:
                problem = f"`{printable(key)}` is written twice, first on line {seen[key].line + 1}"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen[key] = key_node.start_mark
    loader.flatten_mapping(node)
    # Not a generator, unlike PyYAML's own: a mapping that contains itself is then refused instead of built.
    return {_key(key_node): loader.construct_object(value, deep=True) for key_node, value in node.value}


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise yaml.constructor.ConstructorError(None, None, "a key must be a plain word", node.start_mark)
    return str(node.value)


def _scalar(convert: Callable[[str], Any]) -> Callable[[SettingsLoader, yaml.ScalarNode], Any]:
    """Return a constructor that reads one value, and says where if it cannot."""

    def construct(loader: SettingsLoader, node: yaml.ScalarNode) -> Any:
        text = loader.construct_scalar(node)
        try:
            return convert(text)
        except (ValueError, KeyError) as error:
            problem = f"{text[:40]!r} is not a value of the type `{node.tag.rsplit(':', 1)[-1]}`"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error

    return construct


def _no_such_type(_: SettingsLoader, node: yaml.Node) -> None:
    problem = f"the type `{printable(node.tag)}` is not one that settings have"
    raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _whole_number(text: str) -> int:
    return int(text, 0) if text.lower().startswith(("0x", "0o")) else int(text)


def _number(text: str) -> float:
    return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))


def _teach(name: str, pattern: str | None, first: str, construct: Callable[..., Any]) -> None:
    """Teach the loader one type: how to recognise it (never, without a pattern) and how to build it."""
    tag = f"tag:yaml.org,2002:{name}"
    SettingsLoader.add_constructor(tag, construct)
    if pattern is not None:
        SettingsLoader.add_implicit_resolver(tag, re.compile(f"(?:{pattern})\\Z"), list(first))


_teach("str", None, "", yaml.SafeLoader.construct_yaml_str)
_teach("seq", None, "", yaml.SafeLoader.construct_yaml_seq)
_teach("map", None, "", _mapping)
_teach("null", r"~|null|Null|NULL|", "~nN", _scalar(lambda _: None))
_teach(
    "bool",
    r"true|True|TRUE|false|False|FALSE",
    "tTfF",
    _scalar(lambda text: {"true": True, "false": False}[text.lower()]),
)
_teach("int", r"[-+]?[0-9]+(?:_[0-9]+)*|0x[0-9a-fA-F]+|0o[0-7]+", "-+0123456789", _scalar(_whole_number))
_teach(
    "float",
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    "-+.0123456789",
    _scalar(_number),
)
SettingsLoader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"<<\Z"), ["<"])
SettingsLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"\Z"), [""])
# Any other tag, such as `!!python/object`:
SettingsLoader.add_constructor(None, _no_such_type)
