"""Options that several commands share, each written once. None means "not typed": another layer may decide."""

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from stego_cli.cli.completion import complete_from, complete_model
from stego_cli.cli.declare import (
    DATA,
    MODEL,
    QUALITY,
    RESULTS,
    SETTINGS,
    SPEED,
    TRAINING,
    choice,
    flag,
    image_size,
    number,
    value,
)
from stego_cli.config.words import (
    BACKBONE_NAMES,
    DATASET_NAMES,
    DEVICE_NAMES,
    CropKind,
    LoaderCrop,
    NameRule,
    Precision,
    ProbeChoice,
    Protocol,
)

Paths = Annotated[
    list[str],
    typer.Argument(metavar="PATHS", help="Image files, folders (with all folders inside) and globs, in any mix."),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="YAML file with settings.", rich_help_panel=SETTINGS),
]
Overrides = Annotated[
    list[str] | None,
    value(
        "--set",
        "KEY=VALUE",
        SETTINGS,
        "Change one setting, `name=value` or `block.name=value` as in a settings file; may be given several times.",
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No progress and no notes, only warnings and errors.", rich_help_panel=SETTINGS),
]
Json = Annotated[bool, flag("--json", RESULTS, "Print the result as one JSON object to stdout.")]
DryRun = Annotated[bool, flag("--dry-run", SETTINGS, "Say what would be done, and do nothing.")]
Overwrite = Annotated[bool | None, flag("--overwrite", RESULTS, "Redo what is there instead of keeping it.")]
Dataset = Annotated[
    str | None,
    typer.Argument(
        metavar="DATASET",
        autocompletion=complete_from(DATASET_NAMES),
        help=f"A known dataset ({', '.join(DATASET_NAMES)}) or a folder: images in `imgs/train` and `imgs/val` with "
        "label maps of the same names in `labels/`, or simply images. `dataset` in stego.yaml stands for it. "
        "(default: cocostuff27)",
    ),
]
DatasetName = Annotated[
    str | None,
    value("--dataset", "NAME|DIR", DATA, "The same as the argument DATASET.", DATASET_NAMES),
]
DataDir = Annotated[
    str | None,
    value(
        "--data-dir",
        "DIR",
        DATA,
        "Folder that known datasets lie in. (default: datasets/ below STEGO_HOME, where `stego download` puts them)",
    ),
]
Split = Annotated[str | None, value("--split", "NAME", DATA, "Which split, such as train or val. (default: train)")]
Splits = Annotated[
    list[str] | None,
    value(
        "--split",
        "NAME",
        DATA,
        "Which split, such as train or val; may be given several times. (default: all there are)",
    ),
]
CropName = Annotated[
    str | None,
    choice(
        "--crop",
        (*get_args(CropKind), "none"),
        DATA,
        "Work on the crops that `stego crop` made of the dataset. (default: none)",
    ),
]
CropRatio = Annotated[
    float | None,
    value(
        "--crop-ratio", "FRACTION", DATA, "Which crops: their side as a fraction of the image's side. (default: 0.5)"
    ),
]
LabelSpaceName = Annotated[
    str | None,
    value(
        "--label-space",
        "NAME",
        DATA,
        "Names and colours of the classes. (default: the dataset's own, if it is a known one)",
    ),
]
Bands = Annotated[
    str | None,
    value(
        "--bands",
        "R,G,B",
        DATA,
        "Bands of multi-band images to use as red, green and blue, counted from 1. (default: 1,2,3)",
    ),
]
LoaderCropName = Annotated[
    str | None,
    choice(
        "--loader-crop",
        get_args(LoaderCrop),
        DATA,
        "How an image becomes a square: center cuts its middle out, squash changes its shape. (default: center)",
    ),
]
Resolution = Annotated[
    int | None, image_size(MODEL, "Shorter side of the images as the backbone sees them. (default: 320)")
]
SquareResolution = Annotated[int | None, image_size(DATA, "Side of the square that the backbone sees. (default: 224)")]
Weights = Annotated[
    str | None,
    value(
        "--weights",
        "FILE",
        MODEL,
        "Weight file of the backbone. (default: the published one, if it is on this machine)",
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE",
        autocompletion=complete_model,
        help="`embedded` (comes with this tool), the name of a published model, or a checkpoint file. (default: the "
        "best one present: the last one made here, else a published one, else embedded)",
        rich_help_panel=MODEL,
    ),
]


def _backbone(text: str) -> Any:
    """Declare the option that names the frozen network; `text` is its help."""
    return value("--backbone", "NAME|FILE", MODEL, text, BACKBONE_NAMES)


Backbone = Annotated[
    str | None,
    _backbone(
        "The frozen network below the model: `filterbank` needs no weights; dino_vits8 and others do; a file of "
        "`stego pretrain` brings its own. (default: filterbank)"
    ),
]
RunBackbone = Annotated[
    str | None,
    _backbone(
        "The frozen network: dino_vits8 and others, any vision transformer of timm, or `filterbank`, which needs "
        "no download, or a file of `stego pretrain`. Keys instead of tokens: --set backbone.feature_type=keys. "
        "(default: dino_vits8_300ep)"
    ),
]
ViewProtocol = Annotated[
    str | None,
    choice(
        "--protocol",
        get_args(Protocol),
        DATA,
        "How images are resized. paper: to the nearest pixel, as published; native: antialiased. (default: paper)",
    ),
]
Probe = Annotated[
    str | None,
    choice(
        "--probe",
        get_args(ProbeChoice),
        MODEL,
        "What turns the code into classes. The cluster probe groups pixels and never sees a label. The linear probe "
        "was fitted with labels, to measure how much the code knows; it never trains the code. (default: cluster)",
    ),
]
ProtocolName = Annotated[
    str | None,
    choice(
        "--protocol",
        get_args(Protocol),
        MODEL,
        "native: the whole image, masks of its exact size. paper: resize, crop and average as in the publication, for "
        "comparison. (default: native)",
    ),
]
Crf = Annotated[
    bool | None,
    flag(
        "--crf/--no-crf",
        QUALITY,
        "Sharpen the masks along the edges of the image with a dense CRF; slower. (default: no-crf)",
    ),
]
Mirror = Annotated[
    bool | None,
    flag(
        "--mirror/--no-mirror",
        QUALITY,
        "Average over the image and its mirror: a little better, half as fast. (default: mirror)",
    ),
]
Seed = Annotated[int | None, number("--seed", MODEL, "The same seed gives the same model. (default: 0)")]
Names = Annotated[
    str | None,
    choice(
        "--names",
        get_args(NameRule),
        MODEL,
        "What labels call the clusters: matched gives each class one cluster, as published scores do; majority calls "
        "each what most of it is, so that several may share a name. (default: matched)",
    ),
]
Classes = Annotated[
    int | None,
    number("--classes", MODEL, "How many classes to form. (default: as many as the label space of the dataset has)"),
]
Minutes = Annotated[float | None, number("--minutes", TRAINING, "Stop in good order after so many minutes.")]
Device = Annotated[
    str | None,
    value(
        "--device",
        "auto|cpu|cuda|cuda:N|mps",
        SPEED,
        "Where to compute; auto takes a GPU if there is one. (default: auto)",
        DEVICE_NAMES,
    ),
]
PrecisionName = Annotated[
    str | None,
    choice(
        "--precision",
        get_args(Precision),
        SPEED,
        "Arithmetic of the backbone; auto is bf16 on CUDA cards (in predict and eval also CPUs) that have it, else "
        "fp32. (default: auto)",
    ),
]
_TOGETHER = "Images that go through the network together; halved by itself when memory runs out."
BatchSize = Annotated[int | None, number("--batch-size", SPEED, f"{_TOGETHER} (default: 8)")]
RunBatchSize = Annotated[int | None, number("--batch-size", SPEED, f"{_TOGETHER} (default: 16)")]
Workers = Annotated[
    int | None, number("--workers", SPEED, "Threads that read and write images. (default: one per core, at most 4)")
]

# Groups of options for `with_options`.
PART_OPTIONS: dict[str, Any] = {"data_dir": DataDir, "crop": CropName, "crop_ratio": CropRatio, "bands": Bands}
DATASET_OPTIONS: dict[str, Any] = {"dataset": Dataset, "dataset_option": DatasetName, **PART_OPTIONS}
RUN_OPTIONS: dict[str, Any] = {
    "overwrite": Overwrite,
    "json": Json,
    "config": Config,
    "overrides": Overrides,
    "quiet": Quiet,
}
# What decides what a backbone sees; `stego knn show` finds by it what `stego knn build` made.
VIEW_OPTIONS: dict[str, Any] = {
    "split": Split,
    "backbone": RunBackbone,
    "resolution": SquareResolution,
    "loader_crop": LoaderCropName,
    "protocol": ViewProtocol,
}
COMPUTE_OPTIONS: dict[str, Any] = {
    "weights": Weights,
    "device": Device,
    "precision": PrecisionName,
    "batch_size": RunBatchSize,
    "workers": Workers,
}
