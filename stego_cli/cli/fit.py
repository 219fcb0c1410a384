"""`stego fit`: a model from a folder of images, by clustering what a backbone sees."""

from typing import TYPE_CHECKING, Annotated

from stego_cli.cli import options as o
from stego_cli.cli.declare import MODEL, number, output
from stego_cli.cli.friendly import conclude
from stego_cli.cli.settings import settings
from stego_cli.cli.terminal import show, show_shares, terminal_report
from stego_cli.files import as_typed, printable

if TYPE_CHECKING:
    from stego_cli.engine.fit_model import FittedModel

Out = Annotated[
    str | None,  # not a Path, of which an empty one is the current folder
    output("FILE", "The model file to write. (default: a new one below runs/)"),
]
Restarts = Annotated[
    int | None,
    number("--restarts", MODEL, "Times the clustering starts anew; the tightest result is kept. (default: 5)"),
]


def fit_command(  # noqa: PLR0913, PLR0917 - one parameter per option
    dataset: o.Dataset = None,
    out: Out = None,
    overwrite: o.Overwrite = None,
    json: o.Json = False,
    data_dir: o.DataDir = None,
    crop: o.CropName = None,
    crop_ratio: o.CropRatio = None,
    label_space: o.LabelSpaceName = None,
    bands: o.Bands = None,
    classes: o.Classes = None,
    backbone: o.Backbone = None,
    weights: o.Weights = None,
    resolution: o.Resolution = None,
    names: o.Names = None,
    restarts: Restarts = None,
    seed: o.Seed = None,
    device: o.Device = None,
    batch_size: o.BatchSize = None,
    workers: o.Workers = None,
    config: o.Config = None,
    overrides: o.Overrides = None,
    quiet: o.Quiet = False,
) -> None:
    """Make a model for your own images: group what the backbone sees into classes. Nothing is trained.

    The groups are found without labels. Where the dataset has labels, they
    name the groups, fit the linear probe and measure how good the model is;
    they never change the groups.

    [bold]Examples[/bold]

      stego fit photos/ --classes 8 --out mine.safetensors
      stego fit cocostuff27 --crop five --backbone dino_vits8
      stego fit camvid/ --backbone dino_vits8 --label-space camvid
    """
    typed = dict(locals())
    from stego_cli.config.fit import FitConfig

    read = settings(FitConfig, typed)
    from stego_cli.engine.fit_model import fit_model  # torch loads here, so that --help stays quick

    with terminal_report(quiet=quiet) as report:
        result = fit_model(read, report)
    conclude(result, show_result, as_json=json, incomplete=result.skipped)


def show_result(result: "FittedModel") -> None:
    """Print where the model is, how good it is, and what to do with it."""
    name = printable(result.checkpoint_path)
    show(f"model written to {name}")
    if result.scores:
        show_shares("scores", result.scores)
    show(f"next: stego predict imgs/ --model {as_typed(result.checkpoint_path)}")
