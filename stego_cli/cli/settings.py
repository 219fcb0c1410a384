"""From what was typed to the config of a command."""

from collections.abc import Callable, Mapping
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

if TYPE_CHECKING:
    from stego_cli.config.base import Block

    C = TypeVar("C", bound=Block)


def settings(model: "type[C]", typed: Mapping[str, Any]) -> "C":
    """Build a command's config from `stego.yaml`, `--config`, what was typed, and `--set`.

    Args:
        model: The command's config.
        typed: The parameters of the command by name; those that are fields of `model` count.

    Raises:
        ConfigError: Lists every problem.
    """
    from stego_cli.config.load import load_config
    from stego_cli.config.project import find_project_file

    return load_config(
        model,
        file=typed["config"],
        project=find_project_file(Path()),
        options={name: value for name, value in typed.items() if name in model.model_fields},
        overrides=typed["overrides"] or (),
    )


def with_options(**shared: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command, whose last parameter is `**shared`, the options named here before its own, off by default."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in signature(command).parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
        added = [
            Parameter(
                name, Parameter.KEYWORD_ONLY, default=False if get_args(option)[0] is bool else None, annotation=option
            )
            for name, option in shared.items()
        ]
        hints = {name: hint for name, hint in command.__annotations__.items() if name in {p.name for p in own}}
        command.__annotations__ = {**shared, **hints}
        params = [p.replace(kind=Parameter.KEYWORD_ONLY) for p in (*added, *own)]
        setattr(command, "__signature__", Signature(params))  # noqa: B010  typing knows no such attribute
        return command

    return decorate


def typed_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was typed, from `locals()` at the start of a command `with_options`.

    Raises:
        ConfigError: If the argument DATASET and the option --dataset, which mean the same, differ.
    """
    typed = {**values["shared"], **{name: value for name, value in values.items() if name != "shared"}}
    argument, option = typed.get("dataset"), typed.pop("dataset_option", None)
    if argument is not None and option is not None and argument != option:
        from stego_cli.errors import ConfigError

        raise ConfigError(
            f"DATASET is `{argument}`, but --dataset is `{option}`\n\nhint: give one of the two; they mean the same"
        )
    return {**typed, "dataset": argument if option is None else option}
