"""`stego pretrain`: a small backbone from nothing but images."""

from typing import TYPE_CHECKING, Annotated

import typer

from stego_cli.cli import options as o
from stego_cli.cli.friendly import SOME_SKIPPED
from stego_cli.cli.terminal import duration, print_json, show, terminal_report
from stego_cli.files import printable

if TYPE_CHECKING:
    from stego_cli.engine.pretrain.run import PretrainResult

TRAINING = "Training"

Paths = Annotated[
    list[str],
    typer.Argument(metavar="PATHS", help="Image files, folders (with all folders inside) and globs, in any mix."),
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="The weight file; what belongs to it lies beside it in a folder ending with .run. (default: a new one "
        "below runs/)",
        rich_help_panel=o.RESULTS,
    ),
]
Rounds = Annotated[
    int | None,
    typer.Option(
        "--rounds",
        metavar="N",
        help="The first learns words of a filter bank, each later one those of the network before. (default: 2)",
        rich_help_panel=TRAINING,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", metavar="N", help="Updates in each round. (default: 2000)", rich_help_panel=TRAINING),
]
Resolution = Annotated[
    int | None,
    typer.Option(
        "--res",
        "--resolution",
        metavar="PIXELS",
        help="Shorter side of the images that views are cut from; best the one that you will predict at. "
        "(default: 240)",
        rich_help_panel=TRAINING,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", metavar="N", help="Views of a step. (default: 32)", rich_help_panel=o.SPEED),
]
Minutes = Annotated[
    float | None,
    typer.Option("--minutes", metavar="N", help="Stop in good order after so many minutes.", rich_help_panel=TRAINING),
]


def pretrain_command(  # noqa: PLR0913, PLR0917 - one parameter per option
    paths: Paths,
    out: Out = None,
    overwrite: o.Overwrite = None,
    json: o.Json = False,
    rounds: Rounds = None,
    steps: Steps = None,
    resolution: Resolution = None,
    seed: o.Seed = None,
    minutes: Minutes = None,
    device: o.Device = None,
    batch_size: BatchSize = None,
    workers: o.Workers = None,
    config: o.Config = None,
    overrides: o.Overrides = None,
    quiet: o.Quiet = False,
) -> None:
    """Teach a small vision transformer from your images alone, for when no pretrained one can be had.

    It sees part of an image and learns to say which visual words the rest is
    made of. The weights are for --backbone of the other commands. A network
    such as DINO, taught on millions of images, is far better where it can be
    downloaded.

    Stopped, the same command goes on where it was.

    [bold]Examples[/bold]

      stego pretrain photos/ --out small.safetensors
      stego train photos/ --classes 8 --backbone small.safetensors
      stego pretrain photos/ --minutes 60 --set architecture.depth=4
    """
    typed = dict(locals())
    from stego_cli.config.pretrain import PretrainConfig

    read = o.settings(PretrainConfig, typed)
    from stego_cli.engine.pretrain.run import pretrain  # torch loads here, so that --help stays quick

    with terminal_report(quiet=quiet) as report:
        result = pretrain(paths, read, report)
    if json:
        print_json(result.to_json())
    else:
        show_result(result)
    if result.skipped:
        raise typer.Exit(SOME_SKIPPED)


def show_result(result: "PretrainResult") -> None:
    """Print where the weights are, how long it took, and what to do with them."""
    name = printable(result.weights)
    done = f"{result.progress.round + 1} rounds" if result.ending == "done" else f"round {result.progress.round + 1}"
    show(f"weights written to {name}: {done} on {result.images} images ({duration(result.seconds)})")
    show(f"next: stego train FOLDER --classes N --backbone {name}")
