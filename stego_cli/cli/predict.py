"""`stego predict`: images in, masks out."""

from typing import TYPE_CHECKING, Annotated, get_args

import typer

from stego_cli.cli import options as o
from stego_cli.cli.completion import complete_save
from stego_cli.cli.declare import QUALITY, RESULTS, SPEED, choice, image_size, number, output, value
from stego_cli.cli.friendly import conclude
from stego_cli.cli.loading import heavy_imports
from stego_cli.cli.settings import settings
from stego_cli.cli.terminal import duration, show, show_shares, terminal_report
from stego_cli.config.words import CompileChoice

if TYPE_CHECKING:
    from stego_cli.engine.predict import PredictResult

Out = Annotated[str | None, output("DIR", "Folder for everything that is written. (default: predictions)")]
Save = Annotated[
    str | None,
    typer.Option(
        "--save",
        metavar="KINDS",
        autocompletion=complete_save,
        help="What to write, as a comma list: labels (label maps, PNG), overlay (the image in the colours of its "
        "classes, JPEG), probs (class probabilities, NPZ), html (one page with all pictures and the legend). "
        "(default: labels,overlay,html)",
        rich_help_panel=RESULTS,
    ),
]
Resolution = Annotated[
    int | None,
    image_size(
        QUALITY,
        "Shorter side of the image as the network sees it: larger shows finer things and takes longer. "
        "(default: the model's own)",
    ),
]
Tile = Annotated[
    int | None,
    value(
        "--tile",
        "PIXELS",
        QUALITY,
        "See images larger than this, as the network sees them (--res), in overlapping windows of this side: "
        "bounds memory and time at high resolutions. (default: whole images, as long as memory lasts)",
    ),
]
Compile = Annotated[
    str | None,
    choice(
        "--compile",
        get_args(CompileChoice),
        SPEED,
        "Compile the network first: half a minute per size of image, which can pay in long runs on a CUDA card; "
        "auto does without. (default: auto)",
    ),
]
Bands = Annotated[
    str | None,
    value(
        "--bands",
        "R,G,B",
        QUALITY,
        "Which bands of a multi-band image are red, green and blue, counted from 1, such as 4,3,2. "
        "(default: the first three)",
    ),
]
Workers = Annotated[
    int | None,
    number(
        "--workers",
        SPEED,
        "Threads that read images ahead; 0 reads in between. Everything after that takes an image per core, on as many "
        "cores as OMP_NUM_THREADS says. (default: one per core, at most 4)",
    ),
]


def predict_command(  # noqa: PLR0913, PLR0917 - one parameter per option
    paths: o.Paths,
    out: Out = None,
    save: Save = None,
    crf: o.Crf = None,
    overwrite: o.Overwrite = None,
    json: o.Json = False,
    model: o.ModelName = None,
    probe: o.Probe = None,
    protocol: o.ProtocolName = None,
    mirror: o.Mirror = None,
    resolution: Resolution = None,
    tile: Tile = None,
    bands: Bands = None,
    device: o.Device = None,
    precision: o.PrecisionName = None,
    compile: Compile = None,  # noqa: A002 - the name of the setting
    batch_size: o.BatchSize = None,
    workers: Workers = None,
    config: o.Config = None,
    overrides: o.Overrides = None,
    dry_run: o.DryRun = False,
    quiet: o.Quiet = False,
) -> None:
    """Put every pixel of your images into a class. No labels are needed.

    Masks have exactly the size of their image. A second run skips what is
    done and sound. Labels only ever measure how good a model is; they never
    train the code that classes are made from.

    [bold]Examples[/bold]

      stego predict imgs/
      stego predict imgs/ --crf --out masks
      stego predict "scans/**/*.tif" --bands 4,3,2 --save labels --json
    """
    typed = dict(locals())
    from stego_cli.config.predict import PredictConfig

    read = settings(PredictConfig, typed)
    with heavy_imports():
        from stego_cli.engine.predict import predict_folder  # torch loads here, so that --help stays quick

    with terminal_report(quiet=quiet) as report:
        result = predict_folder(read, paths, report, dry_run=dry_run)
        for name, reason in result.failed:
            # An image's error names it already; others, such as an unreadable folder's, do not.
            said = f"skipped {reason}" if name in reason else f"skipped {name}: {reason}"
            report.warn(said.replace("\n\nhint: ", "; "))  # a line per image, for grep
    conclude(result, show_result, as_json=json, incomplete=result.failed)


def show_result(result: "PredictResult") -> None:
    """Print what was done, where it lies, and how much of all pixels each class has."""
    if result.planned is not None:
        for name in result.planned:
            show(f"would segment {name}")
        show(f"{len(result.planned)} images to segment, {result.skipped} done before; nothing was written")
        return
    before = f", {result.skipped} done before" if result.skipped else ""
    failed = f", {len(result.failed)} skipped" if result.failed else ""
    show(f"{result.done} images segmented in {duration(result.seconds)}{before}{failed}")
    show(f"results in {result.out}")
    if result.gallery is not None:
        show(f"open {result.gallery} in a browser to look at them")
    for probe, shares in result.to_json()["summary"]["shares"].items():
        present = {name: share for name, share in shares.items() if share > 0}
        if present:
            show_shares(f"{probe} probe: share of each class in all pixels", present)
