"""What a config model knows: its keys, which of them hold blocks, and the key that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, BeforeValidator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic.fields import FieldInfo

TAG = "kind"  # the key that says which block of a union is meant, everywhere in this project


def blocks_of(field: FieldInfo) -> tuple[type[BaseModel], ...]:
    """Return the block, or the blocks of a union, that a field holds; nothing for single values and lists."""
    return tuple(_blocks(field.annotation))


def holds_anything(field: FieldInfo) -> bool:
    """Say whether a field takes keys that no model describes, such as another command's section."""
    kinds = {field.annotation, *get_args(field.annotation)}
    return Any in kinds or any(getattr(kind, "__origin__", kind) is dict for kind in kinds)


def option_of(model: type[BaseModel], key: str, value: Any) -> str:
    """Return the option that people type for a top-level key: its own name, or the one that the field states."""
    extra = model.model_fields[key].json_schema_extra if key in model.model_fields else None
    if isinstance(extra, dict) and "option" in extra:
        return str(extra["option"])
    return f"--{'no-' if value is False else ''}{key.replace('_', '-')}"


def dotted_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return every key of a model and of its blocks, dotted, outer ones first.

    Example:
        >>> from stego_cli.config.crf import CrfParameters
        >>> dotted_keys(CrfParameters, "crf_parameters.")[0]
        'crf_parameters.iterations'
    """
    keys = [prefix + name for name in model.model_fields]
    for name, field in model.model_fields.items():
        for block in blocks_of(field):
            keys += dotted_keys(block, f"{prefix}{name}.")
    return list(dict.fromkeys(keys))


def nearest(word: str, known: Sequence[str]) -> str | None:
    """Return the known word that `word` was probably meant to be: one that it begins, else a near spelling.

    Example:
        >>> nearest("batchsize", ["device", "batch_size"]), nearest("res", ["workers", "resolution"])
        ('batch_size', 'resolution')
    """
    if len(word) >= 3 and (begun := [name for name in known if name.startswith(word)]):
        return begun[0]
    return next(iter(difflib.get_close_matches(word, known, n=1)), None)


def suggest(model: type[BaseModel], location: Sequence[str]) -> str | None:
    """Return the key that an unknown key was probably meant to be, at its own level first, then at any.

    Args:
        model: The whole config.
        location: The unknown key with the blocks around it, such as `("method", "knn_shfit")`.

    Returns:
        The bare name when it belongs to the same block, else the dotted one; None when nothing is near.
    """
    *around, word = location
    if near := nearest(word, [name for block in _block_at(model, around) for name in block.model_fields]):
        return near
    keys = dotted_keys(model)
    last = nearest(word, [key.rsplit(".", 1)[-1] for key in keys])
    return next((key for key in keys if key.rsplit(".", 1)[-1] == last), None)


def kinds_with(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    """Return the kinds of a block, given by its `kind`, that do have the key at the end of `location`."""
    blocks = _block_at(model, location[:-1])
    return [str(block.model_fields[TAG].default) for block in blocks if {TAG, location[-1]} <= set(block.model_fields)]


def stops_at(model: type[BaseModel], path: Sequence[str]) -> str | None:
    """Return the dotted part of `path` that is a single value and so has no keys, or None if there is none."""
    blocks: tuple[type[BaseModel], ...] = (model,)
    for index, name in enumerate(path[:-1]):
        fields = [block.model_fields[name] for block in blocks if name in block.model_fields]
        if not fields or any(holds_anything(field) for field in fields):
            return None  # an unknown key is another problem, found by validation
        blocks = tuple(block for field in fields for block in blocks_of(field))
        if not blocks:
            return ".".join(path[: index + 1])
    return None


def expanded(model: type[BaseModel], key: str, value: Any) -> Any:
    """Write out a short form, such as `backbone: dino_vits8`, so that single keys can be changed inside."""
    field = model.model_fields.get(key)
    for step in reversed(field.metadata if field else []):
        if isinstance(step, BeforeValidator):
            value = step.func(value)  # type: ignore[call-arg]  # ours take the value alone
    return value


def with_default_kinds(model: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """Fill in `kind` where a block of a union does not say it and the field has a default block."""
    filled = dict(values)
    for name, field in model.model_fields.items():
        value = filled.get(name)
        kind = getattr(field.default, TAG, None)
        if kind is not None and isinstance(value, Mapping) and TAG not in value and len(blocks_of(field)) > 1:
            filled[name] = {TAG: kind, **value}
    return filled


def _blocks(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models in an annotation, through unions and `Annotated`, but not out of lists or tuples."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif getattr(annotation, "__origin__", None) not in {list, tuple, dict, set, frozenset}:
        for part in get_args(annotation):
            yield from _blocks(part)


def _block_at(model: type[BaseModel], path: Sequence[str]) -> tuple[type[BaseModel], ...]:
    blocks: tuple[type[BaseModel], ...] = (model,)
    for name in path:
        fields = [block.model_fields[name] for block in blocks if name in block.model_fields]
        blocks = tuple(block for field in fields for block in blocks_of(field))
    return blocks
