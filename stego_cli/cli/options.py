"""Options that several commands share, each written once. None means "not typed": another layer may decide.

Words are checked by the configs, not here, so that one message lists everything that is wrong.
"""

from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

import typer

from stego_cli.config.words import (
    BACKBONE_NAMES,
    DATASET_NAMES,
    DEVICE_NAMES,
    CropKind,
    LoaderCrop,
    Precision,
    ProbeChoice,
    Protocol,
    SaveKind,
)

if TYPE_CHECKING:
    from stego_cli.config.base import Block

    C = TypeVar("C", bound=Block)

RESULTS = "Results"
DATA = "Data"
MODEL = "Model"
QUALITY = "Quality"
SPEED = "Speed"
SETTINGS = "Settings"

MODEL_SUFFIXES = (".safetensors", ".ckpt", ".pth")


def settings(model: "type[C]", typed: Mapping[str, Any]) -> "C":
    """Build a command's config from `stego.yaml`, `--config`, what was typed, and `--set`.

    Args:
        model: The command's config.
        typed: The parameters of the command by name; those that are fields of `model` count.

    Raises:
        ConfigError: Lists every problem.
    """
    from stego_cli.config.load import load_config
    from stego_cli.config.project import find_project_file

    return load_config(
        model,
        file=typed["config"],
        project=find_project_file(Path()),
        options={name: value for name, value in typed.items() if name in model.model_fields},
        overrides=typed["overrides"] or (),
    )


def complete_model(incomplete: str) -> list[str]:
    """Suggest models by name, and model files of the current folder; paths are left to the shell."""
    from stego_cli.catalog.locate import readable_models

    here = sorted(path.name for path in Path().glob("*.*") if path.suffix in MODEL_SUFFIXES)
    return [name for name in ["embedded", *readable_models(), *here] if name.startswith(incomplete)]


def complete_from(words: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a function that suggests those of `words` that begin with what is typed."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


def with_options(**shared: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command, whose last parameter is `**shared`, the options named here before its own, off by default."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in signature(command).parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
        added = [
            Parameter(
                name,
                Parameter.KEYWORD_ONLY,
                default=False if get_args(option)[0] is bool else None,
                annotation=option,
            )
            for name, option in shared.items()
        ]
        hints = {name: hint for name, hint in command.__annotations__.items() if name in {p.name for p in own}}
        command.__annotations__ = {**shared, **hints}
        params = [p.replace(kind=Parameter.KEYWORD_ONLY) for p in (*added, *own)]
        setattr(command, "__signature__", Signature(params))  # noqa: B010  typing knows no such attribute
        return command

    return decorate


def typed_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was typed, from `locals()` at the start of a command `with_options`.

    Raises:
        ConfigError: If the argument DATASET and the option --dataset, which mean the same, differ.
    """
    typed = {**values["shared"], **{name: value for name, value in values.items() if name != "shared"}}
    argument, option = typed.get("dataset"), typed.pop("dataset_option", None)
    if argument is not None and option is not None and argument != option:
        from stego_cli.errors import ConfigError

        raise ConfigError(
            f"DATASET is `{argument}`, but --dataset is `{option}`\n\nhint: give one of the two; they mean the same"
        )
    return {**typed, "dataset": argument if option is None else option}


def complete_save(incomplete: str) -> list[str]:
    """Suggest the next word of a comma list, leaving out what it has."""
    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [before + comma + kind for kind in get_args(SaveKind) if kind.startswith(last) and kind not in taken]


Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="YAML file with settings.", rich_help_panel=SETTINGS),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one setting, such as `crf_parameters.iterations=5`; may be given several times.",
        rich_help_panel=SETTINGS,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No progress and no notes, only warnings and errors.", rich_help_panel=SETTINGS),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object to stdout.", rich_help_panel=RESULTS)
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.", rich_help_panel=SETTINGS)
]
Overwrite = Annotated[
    bool | None,
    typer.Option("--overwrite", help="Redo what is there instead of keeping it.", rich_help_panel=RESULTS),
]
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
    typer.Option(
        "--dataset",
        metavar="NAME|DIR",
        autocompletion=complete_from(DATASET_NAMES),
        help="The same as the argument DATASET.",
        rich_help_panel=DATA,
    ),
]
DataDir = Annotated[
    str | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Folder that known datasets lie in. (default: datasets/ below STEGO_HOME, where `stego download` puts "
        "them)",
        rich_help_panel=DATA,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split", metavar="NAME", help="Which split, such as train or val. (default: train)", rich_help_panel=DATA
    ),
]
Splits = Annotated[
    list[str] | None,
    typer.Option(
        "--split",
        metavar="NAME",
        help="Which split, such as train or val; may be given several times. (default: all there are)",
        rich_help_panel=DATA,
    ),
]
CropName = Annotated[
    str | None,
    typer.Option(
        "--crop",
        metavar="|".join((*get_args(CropKind), "none")),
        autocompletion=complete_from((*get_args(CropKind), "none")),
        help="Work on the crops that `stego crop` made of the dataset. (default: none)",
        rich_help_panel=DATA,
    ),
]
CropRatio = Annotated[
    float | None,
    typer.Option(
        "--crop-ratio",
        metavar="FRACTION",
        help="Which crops: their side as a fraction of the image's side. (default: 0.5)",
        rich_help_panel=DATA,
    ),
]
LabelSpaceName = Annotated[
    str | None,
    typer.Option(
        "--label-space",
        metavar="NAME",
        help="Names and colours of the classes. (default: the dataset's own, if it is a known one)",
        rich_help_panel=DATA,
    ),
]
Bands = Annotated[
    str | None,
    typer.Option(
        "--bands",
        metavar="R,G,B",
        help="Bands of multi-band images to use as red, green and blue, counted from 1. (default: 1,2,3)",
        rich_help_panel=DATA,
    ),
]
LoaderCropName = Annotated[
    str | None,
    typer.Option(
        "--loader-crop",
        metavar="|".join(get_args(LoaderCrop)),
        autocompletion=complete_from(get_args(LoaderCrop)),
        help="How an image becomes a square: center cuts its middle out, squash changes its shape. (default: center)",
        rich_help_panel=DATA,
    ),
]
Resolution = Annotated[
    int | None,
    typer.Option(
        "--res",
        "--resolution",
        metavar="PIXELS",
        help="Shorter side of the images as the backbone sees them. (default: 320)",
        rich_help_panel=MODEL,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="Weight file of the backbone. (default: the published one, if it is on this machine)",
        rich_help_panel=MODEL,
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
Backbone = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        metavar="NAME|FILE",
        autocompletion=complete_from(BACKBONE_NAMES),
        help="The frozen network below the model: `filterbank` needs no weights; dino_vits8 and others do; a file of "
        "`stego pretrain` brings its own. (default: filterbank)",
        rich_help_panel=MODEL,
    ),
]
RunBackbone = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        metavar="NAME|FILE",
        autocompletion=complete_from(BACKBONE_NAMES),
        help="The frozen network: dino_vits8 and others, any vision transformer of timm, or `filterbank`, which needs "
        "no download, or a file of `stego pretrain`. Keys instead of tokens: --set backbone.feature_type=keys. "
        "(default: dino_vits8_300ep)",
        rich_help_panel=MODEL,
    ),
]
SquareResolution = Annotated[
    int | None,
    typer.Option(
        "--res",
        "--resolution",
        metavar="PIXELS",
        help="Side of the square that the backbone sees. (default: 224)",
        rich_help_panel=DATA,
    ),
]
ViewProtocol = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        metavar="|".join(get_args(Protocol)),
        autocompletion=complete_from(get_args(Protocol)),
        help="How images are resized. paper: to the nearest pixel, as published; native: antialiased. (default: paper)",
        rich_help_panel=DATA,
    ),
]
Probe = Annotated[
    str | None,
    typer.Option(
        "--probe",
        metavar="|".join(get_args(ProbeChoice)),
        autocompletion=complete_from(get_args(ProbeChoice)),
        help="What turns the code into classes. The cluster probe groups pixels and never sees a label. The linear "
        "probe was fitted with labels, to measure how much the code knows; it never trains the code. "
        "(default: cluster)",
        rich_help_panel=MODEL,
    ),
]
ProtocolName = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        metavar="|".join(get_args(Protocol)),
        autocompletion=complete_from(get_args(Protocol)),
        help="native: the whole image, masks of its exact size. paper: resize, crop and average as in the "
        "publication, for comparison. (default: native)",
        rich_help_panel=MODEL,
    ),
]
Crf = Annotated[
    bool | None,
    typer.Option(
        "--crf/--no-crf",
        help="Sharpen the masks along the edges of the image with a dense CRF; slower. (default: no-crf)",
        rich_help_panel=QUALITY,
    ),
]
Mirror = Annotated[
    bool | None,
    typer.Option(
        "--mirror/--no-mirror",
        help="Average over the image and its mirror: a little better, half as fast. (default: mirror)",
        rich_help_panel=QUALITY,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", help="The same seed gives the same model. (default: 0)", rich_help_panel=MODEL),
]
Classes = Annotated[
    int | None,
    typer.Option(
        "--classes",
        metavar="N",
        help="How many classes to form. (default: as many as the label space of the dataset has)",
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|cuda:N|mps",
        autocompletion=complete_from(DEVICE_NAMES),
        help="Where to compute; auto takes a GPU if there is one. (default: auto)",
        rich_help_panel=SPEED,
    ),
]
PrecisionName = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="|".join(get_args(Precision)),
        autocompletion=complete_from(get_args(Precision)),
        help="Arithmetic of the backbone; auto is bf16 on CUDA cards (in predict and eval also CPUs) that have it, "
        "else fp32. (default: auto)",
        rich_help_panel=SPEED,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        help="Images that go through the network together; halved by itself when memory runs out. (default: 8)",
        rich_help_panel=SPEED,
    ),
]
RunBatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        help="Images that go through the network together; halved by itself when memory runs out. (default: 16)",
        rich_help_panel=SPEED,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        help="Threads that read and write images. (default: one per core, at most 4)",
        rich_help_panel=SPEED,
    ),
]

# Groups of options for `with_options`.
DATASET_OPTIONS: dict[str, Any] = {
    "dataset": Dataset,
    "dataset_option": DatasetName,
    "data_dir": DataDir,
    "crop": CropName,
    "crop_ratio": CropRatio,
    "bands": Bands,
}
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
