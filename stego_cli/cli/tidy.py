"""Tables of commands and commands whose help is quick and plain."""

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from stego_cli.cli.friendly import friendly


class TidyCommand(TyperCommand):
    """A command whose help does not call every flag `<bool>`."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, with nothing to show as the type of a flag."""
        return _tidy(super().get_params(ctx))


class TidyGroup(TyperGroup):
    """The table of commands, without Typer's detour for flags that were not typed."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options of `stego` itself, with False for flags that were not typed.

        Recent Typer converts an absent flag (None) through pydantic, whose import takes longer than all of `--help`.
        """
        params = _tidy(super().get_params(ctx))
        for param in params:
            if getattr(param, "is_flag", False) and param.default is None:
                param.default = False
        return params


def group(name: str, text: str) -> typer.Typer:
    """Return an empty table of commands, which shows its help when none of them is named; `text` is that help."""
    return typer.Typer(name=name, cls=TidyGroup, no_args_is_help=True, rich_markup_mode="rich", help=text)


def add_command(table: typer.Typer, name: str, command: Callable[..., None]) -> None:
    """Put a command into a table, with tidy help and friendly errors."""
    table.command(name, cls=TidyCommand)(friendly(command))


def _tidy(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
    return params
