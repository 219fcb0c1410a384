"""Layers of settings: defaults, `stego.yaml`, a config file, options, `--set`. The later one wins, key by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from stego_cli.config.base import Block
from stego_cli.config.problems import Location, Problem, describe, shown
from stego_cli.config.project import ProjectConfig
from stego_cli.config.schema import TAG, expanded, option_of, stops_at, suggest, with_default_kinds
from stego_cli.config.yaml_text import YamlProblem, parse_yaml, read_settings_file
from stego_cli.errors import ConfigError
from stego_cli.files import printable

if TYPE_CHECKING:
    from pathlib import Path

C = TypeVar("C", bound=Block)

SET = "--set"


@dataclass(frozen=True)
class Layer:
    """Settings that came from one place.

    Attributes:
        source: The place, in words: a file or an option.
        values: The settings, nested as the model is.
        prefix: Where they stand inside a file, such as `predict.` in `stego.yaml`.
        dotted: For `--set`: the one path that is changed, leaving what is beside it.
    """

    source: str
    values: Mapping[str, Any]
    prefix: str = ""
    dotted: tuple[str, ...] = ()


@dataclass
class Findings:
    """Every problem so far, each with the place it came from; raised together at the end."""

    found: list[tuple[str, str]] = field(default_factory=list)  # (source, line)
    unread: bool = False  # a file could not be read, so what it holds is not known

    def add(self, source: str, text: str, key: str = "") -> None:
        """Remember one problem."""
        self.found.append((source, f"{key}: {text}" if key else text))

    def read(self, path: Path) -> dict[str, Any]:
        """Read a settings file; what is wrong with it becomes a problem, and the result is empty."""
        try:
            return read_settings_file(path)
        except YamlProblem as problem:
            self.unread = True
            self.add(printable(path), problem.message, problem.place)
            return {}

    def raise_all(self) -> None:
        """Raise one ConfigError with every problem; do nothing when there are none."""
        if not self.found:
            return
        sources = {source for source, _ in self.found}
        one = len(sources) == 1 and "" not in sources
        count = f"{len(self.found)} problem{'s' if len(self.found) != 1 else ''}"
        lines = [text if one or not source else f"{text} (from {source})" for source, text in self.found]
        raise ConfigError("\n  ".join([f"{count} in {sources.pop() if one else 'the settings'}", *lines]))


def load_config(
    model: type[C],
    *,
    file: Path | None = None,
    project: Path | None = None,
    options: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
) -> C:
    """Put the layers together, weakest first, and check the whole.

    Args:
        model: The config to build. If it has a `section`, that part of the project file is used, too.
        file: A YAML file with keys of `model`; None for none.
        project: A `stego.yaml`; None for none.
        options: What was typed on the command line, by field name; None means not typed.
        overrides: Changes of single keys, each `a.b=value`, where the value is YAML.

    Raises:
        ConfigError: Lists every problem, each with the place it came from.
    """
    findings = Findings()
    layers = [
        *_project_layers(model, project, findings),
        *([Layer(printable(file), findings.read(file))] if file else []),
        *_option_layers(model, options or {}),
        *_override_layers(model, overrides, findings),
    ]
    values, used = _merged(model, layers, findings)
    config = _validated(model, values, used, findings)
    findings.raise_all()
    if config is None:  # cannot be: what stops validation was found
        raise AssertionError(values)
    return config


def _validated(model: type[C], values: dict[str, Any], layers: Sequence[Layer], findings: Findings) -> C | None:
    """Check the values; if only unknown keys are wrong, check again without them, as rules between keys run last."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = describe(model, values, error)
    for problem in problems:
        # What an unreadable file holds is not known, so nothing is called missing.
        if not (problem.is_missing and findings.unread):
            _report(model, problem, layers, findings)
    if not all(problem.is_unknown for problem in problems):
        return None
    return _validated(model, _without(values, [problem.locations[0] for problem in problems]), layers, findings)


def _report(model: type[Block], problem: Problem, layers: Sequence[Layer], findings: Findings) -> None:
    """Add a problem under its key as written, with the layer that the value came from."""
    origins = [_origin(location, layers) for location in problem.locations]
    key = ", ".join(f"{layer.prefix if layer else ''}{_joined(location)}" for location, layer in origins)
    sources = list(dict.fromkeys(layer.source for _, layer in origins if layer))
    text = problem.text
    if problem.is_missing and not sources:
        option = option_of(model, str(problem.locations[0][0]), None)
        text += f"; give {option}, or write it in a config file"
    findings.add(" and ".join(sources), text, key)


def _origin(location: Location, layers: Sequence[Layer]) -> tuple[Location, Layer | None]:
    """Return the strongest layer that holds a location, or the nearest block around it."""
    for length in range(len(location), 0, -1):
        for layer in reversed(layers):
            if _holds(layer.values, location[:length]):
                return location, layer
    return location, None


def _holds(values: Any, location: Location) -> bool:
    for step in location:
        if isinstance(values, Mapping):
            if step not in values:
                return False
            values = values[step]
        elif isinstance(values, Sequence) and not isinstance(values, str) and isinstance(step, int):
            if step >= len(values):
                return False
            values = values[step]
        else:
            return False
    return True


def _project_layers(model: type[Block], project: Path | None, findings: Findings) -> list[Layer]:
    """Return the shared keys that `model` has, then its own section; check the rest of the file."""
    if project is None:
        return []
    values, source = findings.read(project), printable(project)
    section = getattr(model, "section", None)
    # Keys of this model are checked with the other layers, since a stronger layer may replace them.
    shared = {
        key: value for key, value in values.items() if key in model.model_fields and key in ProjectConfig.model_fields
    }
    try:
        ProjectConfig.model_validate({key: value for key, value in values.items() if key not in shared})
    except ValidationError as error:
        for problem in describe(ProjectConfig, values, error):
            key, text = _joined(problem.locations[0]), problem.text
            if section and text == "unknown key" and (meant := suggest(model, [key])):
                text = f"unknown key; did you mean `{section}.{meant}`?"
            findings.add(source, text, key)
    own = values.get(section) if section else None
    layers = [Layer(source, shared)]
    return [*layers, Layer(source, own, prefix=f"{section}.")] if isinstance(own, Mapping) else layers


def _option_layers(model: type[Block], options: Mapping[str, Any]) -> list[Layer]:
    """Return one layer for each option that was typed, so that each can be named."""
    typed = {key: value for key, value in options.items() if value is not None}
    return [Layer(option_of(model, key, value), {key: value}) for key, value in typed.items()]


def _override_layers(model: type[Block], overrides: Sequence[str], findings: Findings) -> list[Layer]:
    """Return one layer for each `--set` that can be read."""
    layers = []
    for override in overrides:
        name, equals, text = override.partition("=")
        path = tuple(part.strip() for part in name.split("."))
        if not equals or not all(path):
            findings.add(SET, f"expected `key=value`, such as `batch_size=4` or `a.b=value`, got {shown(override)}")
        elif single := stops_at(model, path):
            meant = suggest(model, path[-1:])
            hint = f"; did you mean `{meant}`?" if meant and meant != single else ""
            findings.add(SET, f"`{single}` is a single value and has no keys{hint}", name)
        else:
            try:
                layers.append(Layer(SET, _nested(path, parse_yaml(text)), dotted=path))
            except YamlProblem as problem:
                findings.add(SET, f"the value {shown(text)} cannot be read: {problem.message}", name)
    return layers


def _merged(model: type[Block], layers: Sequence[Layer], findings: Findings) -> tuple[dict[str, Any], list[Layer]]:
    """Lay the layers over each other; return the result and the layers that are in it."""
    values: dict[str, Any] = {}
    used = []
    for layer in layers:
        if len(layer.dotted) > 1 and layer.dotted[0] in values:
            # A short form, such as `backbone: dino_vits8`, is written out so that a key inside it can change.
            key = layer.dotted[0]
            values = {**values, key: expanded(model, key, values[key])}
        if single := _single_value(values, layer.dotted):
            findings.add(layer.source, f"{single}, so nothing can be set inside", ".".join(layer.dotted))
            continue
        values = _over(values, layer.values)
        used.append(layer)
    return with_default_kinds(model, values), used


def _single_value(values: Any, path: Sequence[str]) -> str | None:
    """Say which part of `path` holds a single value, if one does; absent and empty blocks are fine."""
    for index, key in enumerate(path[:-1]):
        values = values.get(key)
        if values is None:
            return None
        if not isinstance(values, Mapping):
            return f"`{'.'.join(path[: index + 1])}` is {shown(values)}"
    return None


def _over(weak: Mapping[Any, Any], strong: Mapping[Any, Any]) -> dict[Any, Any]:
    """Merge two mappings, block by block. A block of another kind replaces the weaker one as a whole."""
    if TAG in strong and TAG in weak and strong[TAG] != weak[TAG]:
        return dict(strong)
    merged = dict(weak)
    for key, value in strong.items():
        old = merged.get(key)
        merged[key] = _over(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _without(values: Mapping[str, Any], locations: Sequence[Location]) -> dict[str, Any]:
    """Return the values without some keys."""
    here = {location[0] for location in locations if len(location) == 1}
    kept = {}
    for key, value in values.items():
        if key not in here:
            inner = [location[1:] for location in locations if len(location) > 1 and location[0] == key]
            kept[key] = _without(value, inner) if inner and isinstance(value, Mapping) else value
    return kept


def _nested(path: Sequence[str], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def _joined(location: Location) -> str:
    """Write a location with dots; places in a list are left out, since the message shows the value.

    Example:
        >>> _joined(("crf_parameters", "iterations")), _joined(("bands", 0))
        ('crf_parameters.iterations', 'bands')
    """
    return printable(".".join(step for step in location if isinstance(step, str)))
