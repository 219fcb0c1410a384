"""The command line. Nothing here imports torch before a command runs, so that help and completion answer at once."""

import os
import sys
import traceback
from typing import Annotated

import typer

from stego_cli.cli import friendly
from stego_cli.cli.ablate import ablate_app
from stego_cli.cli.convert import convert_command
from stego_cli.cli.crop import crop_command
from stego_cli.cli.download import download_command
from stego_cli.cli.eval import eval_command
from stego_cli.cli.features import features_app
from stego_cli.cli.fit import fit_command
from stego_cli.cli.info import info_app
from stego_cli.cli.knn import knn_app
from stego_cli.cli.predict import predict_command
from stego_cli.cli.pretrain import pretrain_command
from stego_cli.cli.tidy import TidyGroup, add_command
from stego_cli.cli.train import train_command

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


add_command(app, "predict", predict_command)
add_command(app, "fit", fit_command)
add_command(app, "eval", eval_command)
app.add_typer(info_app)
add_command(app, "convert", convert_command)
add_command(app, "crop", crop_command)
add_command(app, "download", download_command)
app.add_typer(features_app)
app.add_typer(knn_app)
add_command(app, "train", train_command)
add_command(app, "pretrain", pretrain_command)
app.add_typer(ablate_app)


def main() -> None:
    """Run the command line. An error that is ours keeps its traceback and ends with a code of its own."""
    # Threads of OpenMP that spin while they wait slow everything down, up to seventy times, on a machine that is busy
    # with other work; read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    friendly.open_standard_streams()
    friendly.survive_odd_text()
    try:
        app()
    except Exception:  # noqa: BLE001 - the border of the program: shown in full, and told apart by its exit code
        traceback.print_exc()
        typer.echo("\nthis is a bug in stego; please report it together with the text above", err=True)
        sys.exit(friendly.OUR_BUG)
