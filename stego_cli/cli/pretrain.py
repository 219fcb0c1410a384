"""`stego pretrain`: a small backbone from nothing but images."""

from typing import TYPE_CHECKING, Annotated

from stego_cli.cli import options as o
from stego_cli.cli.declare import SPEED, TRAINING, image_size, number, output
from stego_cli.cli.friendly import conclude
from stego_cli.cli.settings import settings
from stego_cli.cli.terminal import duration, show, terminal_report
from stego_cli.files import as_typed, printable

if TYPE_CHECKING:
    from stego_cli.engine.pretrain.run import PretrainResult


Out = Annotated[
    str | None,
    output(
        "FILE",
        "The weight file; what belongs to it lies beside it in a folder ending with .run. (default: a new one "
        "below runs/)",
    ),
]
Rounds = Annotated[
    int | None,
    number(
        "--rounds",
        TRAINING,
        "The first learns words of a filter bank, each later one those of the network before. (default: 1)",
    ),
]
Steps = Annotated[int | None, number("--steps", TRAINING, "Updates in each round. (default: 1000)")]
Resolution = Annotated[
    int | None,
    image_size(
        TRAINING,
        "Shorter side of the images that views are cut from; best the one that you will predict at. (default: 240)",
    ),
]
BatchSize = Annotated[int | None, number("--batch-size", SPEED, "Views of a step. (default: 16)")]
Workers = Annotated[
    int | None, number("--workers", SPEED, "Threads that make views; 0 does it in between. (default: 2)")
]


def pretrain_command(  # noqa: PLR0913, PLR0917 - one parameter per option
    paths: o.Paths,
    out: Out = None,
    overwrite: o.Overwrite = None,
    json: o.Json = False,
    rounds: Rounds = None,
    steps: Steps = None,
    resolution: Resolution = None,
    seed: o.Seed = None,
    minutes: o.Minutes = None,
    device: o.Device = None,
    batch_size: BatchSize = None,
    workers: Workers = None,
    config: o.Config = None,
    overrides: o.Overrides = None,
    quiet: o.Quiet = False,
) -> None:
    """Teach a small vision transformer from your images alone, for when no pretrained one can be had.

    It begins with the filter bank's channels, sees part of an image and
    learns to say which visual words the rest is made of. The weights are for
    --backbone of the other commands. A network such as DINO, taught on
    millions of images, is far better where it can be downloaded.

    Stopped, the same command goes on where it was.

    [bold]Examples[/bold]

      stego pretrain photos/ --out small.safetensors
      stego train photos/ --classes 8 --backbone small.safetensors
      stego pretrain photos/ --minutes 60 --set architecture.depth=6
    """
    typed = dict(locals())
    from stego_cli.config.pretrain import PretrainConfig

    read = settings(PretrainConfig, typed)
    from stego_cli.engine.pretrain.run import pretrain  # torch loads here, so that --help stays quick

    with terminal_report(quiet=quiet) as report:
        result = pretrain(paths, read, report)
    conclude(result, show_result, as_json=json, incomplete=result.skipped)


def show_result(result: "PretrainResult") -> None:
    """Print where the weights are, how long it took, and what to do with them."""
    name = printable(result.weights)
    number = result.progress.round + 1
    rounds = f"{number} round{'s' if number > 1 else ''}" if result.ending == "done" else f"in round {number}"
    show(f"weights written to {name}: {rounds} on {result.images} images ({duration(result.seconds)})")
    show(f"next: stego train FOLDER --classes N --backbone {as_typed(result.weights)}")
