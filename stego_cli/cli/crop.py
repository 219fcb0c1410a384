"""`stego crop`: five crops of every image of a dataset, which training looks at instead of whole images."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stego_cli.cli import options as o
from stego_cli.cli.declare import DATA, RESULTS, SPEED, choice, flag, number, output, value
from stego_cli.cli.friendly import conclude
from stego_cli.cli.settings import settings, typed_options, with_options
from stego_cli.cli.terminal import duration, show, size_in_words, terminal_report
from stego_cli.errors import ConfigError
from stego_cli.files import printable

if TYPE_CHECKING:
    from stego_cli.config.crops import CropsConfig
    from stego_cli.engine.crop.run import CropResult

RULES = ("python38", "python37")

Five = Annotated[bool, flag("--five", DATA, "The four corners and the centre. (this is the default)")]
Random = Annotated[
    bool, flag("--random", DATA, "Five places that follow from the image's number, the same in every run.")
]
Ratio = Annotated[
    float | None,
    typer.Option(
        "--ratio",
        "--crop-ratio",
        metavar="FRACTION",
        help="Side of a crop as a fraction of the image's side. (default: 0.5)",
        rich_help_panel=DATA,
    ),
]
Splits = Annotated[
    list[str] | None,
    value(
        "--split",
        "NAME",
        DATA,
        "Which split; may be given several times. (default: train and val, where there are any)",
    ),
]
HashRule = Annotated[
    str | None,
    choice(
        "--hash-rule",
        RULES,
        DATA,
        "Where random crops lie: as the reference cuts them on Python 3.8 and later, or on older ones. "
        "(default: python38)",
    ),
]
Quality = Annotated[int | None, number("--quality", RESULTS, "JPEG quality, 1 to 100. (default: 75, as the reference)")]
Out = Annotated[
    str | None, output("DIR", "Folder for the crops. (default: where other commands look for them with --crop)")
]
Workers = Annotated[
    int | None, number("--workers", SPEED, "Processes that cut; 0 does without. (default: one per core)")
]
SHARED = {
    "dataset": o.Dataset,
    "dataset_option": o.DatasetName,
    "data_dir": o.DataDir,
    "label_space": o.LabelSpaceName,
    "bands": o.Bands,
    **o.RUN_OPTIONS,
}


@with_options(**SHARED)
def crop_command(  # noqa: PLR0913, PLR0917 - one parameter per option
    five: Five = False,
    random: Random = False,
    crop_ratio: Ratio = None,
    splits: Splits = None,
    hash_rule: HashRule = None,
    quality: Quality = None,
    out: Out = None,
    workers: Workers = None,
    dry_run: o.DryRun = False,
    **shared: Any,
) -> None:
    """Cut five crops out of every image, with its labels, for training to look at instead of whole images.

    Places, names and encoding are those of the STEGO reference. Stopped, it
    continues where it was; crops of images that have changed since are
    refused by name.

    [bold]Examples[/bold]

      stego crop my_images/ --five
      stego crop cityscapes --random --ratio 0.7 --split train --dry-run
    """
    typed = {**typed_options(locals()), "crop": kind_of(five=five, random=random), "splits": splits or None}
    from stego_cli.config.crops import CropsConfig

    read = settings(CropsConfig, typed)
    from stego_cli.engine.crop.run import estimate_crops, make_crops

    with terminal_report(quiet=shared["quiet"]) as report:
        result = estimate_crops(read) if dry_run else make_crops(read, report)
    shower = show_estimate if dry_run else partial(show_result, config=read)
    conclude(result, shower, as_json=shared["json"], incomplete=any(result.skipped.values()))


def kind_of(*, five: bool, random: bool) -> str | None:
    """Return which crops were asked for, if any.

    Raises:
        ConfigError: If both were.
    """
    if five and random:
        raise ConfigError("--five and --random are two kinds of crops\n\nhint: give one; run again for the other")
    return "five" if five else "random" if random else None


def show_estimate(result: "CropResult") -> None:
    """Print what a run would make, and what space it takes."""
    for name, count in result.splits.items():
        kept = f", {count.kept} are there" if count.kept else ""
        show(f"{name}: {count.images} images, {count.missing} crops to make{kept}")
    show(f"would write about {size_in_words(result.bytes_needed)} to {printable(result.out)}")
    show(f"free there: {size_in_words(result.bytes_free)}")


def show_result(result: "CropResult", config: "CropsConfig") -> None:
    """Print what was made, where it is, and how to use it."""
    for name, count in result.splits.items():
        kept = f", {count.kept} were there" if count.kept else ""
        missing = f", {count.missing} missing ({len(result.skipped[name])} images skipped)" if count.missing else ""
        show(f"{name}: {count.made} crops made{kept}{missing}")
    took = "" if result.seconds is None else f" ({duration(result.seconds)})"
    show(f"crops: {printable(result.out)}{took}")
    use = f"{config.dataset} --crop {config.crop} --crop-ratio {config.crop_ratio}"
    if config.out:
        use = printable(result.out)
    elif config.data_dir:
        use += f" --data-dir {printable(config.data_dir)}"
    show(f"next: stego knn build {use}")
