"""From what pydantic found to what people read: the key as they wrote it, the rule in plain words, the value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stego_cli.config.schema import TAG, kinds_with, nearest, suggest
from stego_cli.files import printable

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing to put right.

    Attributes:
        locations: The keys it is about; several when settings do not go together, none for a whole file.
        text: What is wrong, without key or source.
        is_missing: A required setting was given nowhere.
        is_unknown: No setting has this name.
    """

    locations: tuple[Location, ...]
    text: str
    is_missing: bool = False
    is_unknown: bool = False


_WHOLE = "a whole number"
_EXPECTED = {
    "int_parsing": _WHOLE,
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": "a smaller whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "string_unicode": "text",
    "string_too_short": "text that is not empty",
    "path_type": "a path",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a block of settings",
    "model_type": "a block of settings",
    "model_attributes_type": "a block of settings",
}


def describe(model: type[BaseModel], values: Mapping[str, Any], error: ValidationError) -> list[Problem]:
    """Return every problem that validation of `values` found, in the order of the model's fields."""
    problems: list[Problem] = []
    for details in error.errors():
        if details["type"] == "conflicts":
            problems += [Problem(tuple((key,) for key in keys), rule) for keys, rule in details["ctx"]["conflicts"]]
        else:
            location, kind = _as_written(details, values), details["type"]
            text = _words(model, location, details)
            problems.append(Problem((location,), text, kind == "missing", kind == "extra_forbidden"))
    return list(dict.fromkeys(problems))


def shown(value: Any) -> str:
    """Return a value as it can stand in a message: short, printable, absent values in words.

    Example:
        >>> shown("many"), shown(None), shown("x" * 100)
        ("'many'", 'nothing', "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...")
    """
    text = "nothing" if value is None else printable(repr(value))
    return text if len(text) <= 60 else text[:57] + "..."


def _as_written(details: ErrorDetails, values: Mapping[str, Any]) -> Location:
    """Return a location without what pydantic put in: the tag of a union, the member that was tried.

    What people wrote decides: a step is kept when it leads somewhere in `values`, or names the key that is missing.
    """
    steps = details["loc"]
    kept: list[str | int] = []
    here: Any = values
    for index, step in enumerate(steps):
        if isinstance(here, Mapping):
            if step in here:
                here = here[step]
            elif not (details["type"] == "missing" and index == len(steps) - 1):
                continue
        elif isinstance(here, Sequence) and not isinstance(here, str) and isinstance(step, int):
            here = here[step] if step < len(here) else None
        else:
            continue
        kept.append(step)
    if details["type"] == "union_tag_invalid":
        kept.append(TAG)
    return tuple(kept)


def _words(model: type[BaseModel], location: Location, details: ErrorDetails) -> str:
    """Say what is wrong with one value."""
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    match kind:
        case "missing" if isinstance(location[-1], int):
            text = f"expected more values, got {shown(value)}"
        case "missing":
            text = "is needed and was not given"
        case "extra_forbidden":
            text = _unknown_key(model, [str(step) for step in location])
        case "union_tag_invalid":
            text = _one_of(context["expected_tags"], context["tag"])
        case "union_tag_not_found":
            text = f"expected a block of settings with `{TAG}`, got {shown(value)}"
        case "literal_error":
            text = _one_of(context["expected"], value)
        case "value_error":
            text = details["msg"].removeprefix("Value error, ")
        case _:
            text = f"expected {_rule(kind, context) or details['msg']}, got {shown(value)}"
    in_quotes = kind in {"string_type", "path_type"} and isinstance(value, int | float)
    return printable(f"{text}; put it in quotes" if in_quotes else text)


def _rule(kind: str, context: Mapping[str, Any]) -> str | None:
    """Return what a value should have been, in plain words; None for a rule that none of our settings has."""
    match kind:
        case "greater_than":
            return f"a number above {context['gt']:g}"
        case "greater_than_equal":
            return f"a number of at least {context['ge']:g}"
        case "less_than":
            return f"a number below {context['lt']:g}"
        case "too_long":
            return f"at most {context['max_length']} values"
        case _:
            return _EXPECTED.get(kind)


def _unknown_key(model: type[BaseModel], location: list[str]) -> str:
    if kinds := kinds_with(model, location):
        return f"belongs to another kind of block; set `{TAG}: {kinds[0]}` beside it, or leave it out"
    if meant := suggest(model, location):
        return f"unknown key; did you mean `{meant}`?"
    return "unknown key"


def _one_of(expected: str, value: Any) -> str:
    """Turn pydantic's `'fp32', 'bf16' or 'fp16'` into a rule, with the nearest word when one is near."""
    words = [word.strip().strip("'") for word in expected.replace(" or ", ", ").split(",")]
    near = nearest(str(value), words)
    hint = f"; did you mean `{near}`?" if near else ""
    return f"expected {'one of ' if len(words) > 1 else ''}{', '.join(words)}, got {shown(value)}{hint}"
