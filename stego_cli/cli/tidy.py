"""Tables of commands and commands whose help is quick and plain."""

from typing import Any

from typer.core import TyperCommand, TyperGroup


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


def _tidy(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
    return params
