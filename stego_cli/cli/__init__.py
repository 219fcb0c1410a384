"""The command line. Nothing here imports torch before a command runs, so that help and completion answer at once."""

import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from stego_cli.cli import friendly
from stego_cli.cli.convert import convert_command
from stego_cli.cli.download import download_command
from stego_cli.cli.fit import fit_command
from stego_cli.cli.info import info_command
from stego_cli.cli.predict import predict_command


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
            if param.is_flag and param.default is None:
                param.default = False
        return params


def _tidy(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
    return params


app = typer.Typer(
    name="stego",
    cls=TidyGroup,
    rich_markup_mode="rich",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from stego_cli import __version__

        typer.echo(f"stego {__version__}")
        raise typer.Exit


@app.callback()
def stego(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Give every pixel of a folder of images a meaningful class, without labels.

    Labels, where there are any, only measure the result; they never train
    the code that classes are made from.

    Settings that all commands share can stand in `stego.yaml` in the current
    folder: model, dataset, backbone, classes, device and others.

    [bold]Examples[/bold]

      stego predict imgs/
      stego info
      stego predict --help
    """


app.command("predict", cls=TidyCommand)(friendly.friendly(predict_command))
app.command("fit", cls=TidyCommand)(friendly.friendly(fit_command))
app.command("info", cls=TidyCommand)(friendly.friendly(info_command))
app.command("convert", cls=TidyCommand)(friendly.friendly(convert_command))
app.command("download", cls=TidyCommand)(friendly.friendly(download_command))


def main() -> None:
    """Run the command line. An error that is ours keeps its traceback and ends with a code of its own."""
    friendly.open_standard_streams()
    friendly.survive_odd_text()
    try:
        app()
    except Exception:  # noqa: BLE001 - the border of the program: shown in full, and told apart by its exit code
        traceback.print_exc()
        typer.echo("\nthis is a bug in stego; please report it together with the text above", err=True)
        sys.exit(friendly.OUR_BUG)
