"""`stego eval`: how good models are on labelled images."""

from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from stego_cli.cli import options as o
from stego_cli.cli.completion import complete_model
from stego_cli.cli.declare import DATA, QUALITY, RESULTS, choice, flag, image_size, number, output, value
from stego_cli.cli.friendly import conclude
from stego_cli.cli.settings import settings, typed_options, with_options
from stego_cli.cli.tables import table_lines
from stego_cli.cli.terminal import duration, show, terminal_report
from stego_cli.config.words import DATASET_NAMES, ExtraChoice, NameRule, ProbeChoice, Protocol
from stego_cli.files import as_typed, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stego_cli.engine.evaluate.run import EvalResult

Checkpoints = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CHECKPOINT",
        autocompletion=complete_model,
        help="Model files (ours or released .ckpt), `embedded`, or names of published models. (default: the best one "
        "present: the last one made here, else a published one, else embedded)",
    ),
]
Dataset = Annotated[
    str | None,
    value(
        "--dataset",
        "NAME|DIR",
        DATA,
        f"A known dataset ({', '.join(DATASET_NAMES)}) or a folder with images in `imgs/val` and label maps of "
        "the same names in `labels/val`. (default: cocostuff27)",
        DATASET_NAMES,
    ),
]
Splits = Annotated[
    list[str] | None, value("--split", "NAME", DATA, "Which split; may be given several times. (default: val)")
]
Classes = Annotated[
    int | None,
    number("--classes", DATA, "How many classes label maps without a label space have. (default: found out)"),
]
ProtocolName = Annotated[
    str | None,
    choice(
        "--protocol",
        get_args(Protocol),
        QUALITY,
        "paper: resize, crop and average exactly as published. native: the whole image at its own size, as "
        "`stego predict` does. (default: paper)",
    ),
]
Probe = Annotated[
    str | None,
    choice(
        "--probe",
        get_args(ProbeChoice),
        QUALITY,
        "Measure the groups that were formed without labels, the classifier that was shown labels, or both. "
        "(default: both)",
    ),
]
Crf = Annotated[
    bool | None, flag("--crf/--no-crf", QUALITY, "Measure with a dense CRF, too, in the same pass. (default: no-crf)")
]
Extra = Annotated[
    str | None,
    choice(
        "--extra",
        get_args(ExtraChoice),
        QUALITY,
        "Pixels in clusters beyond the number of classes: reference drops them, as the published code does, which "
        "flatters; errors counts those that are left over. (default: reference under protocol paper for a model of as "
        "many classes as the dataset has, else errors)",
    ),
]
Overcluster = Annotated[
    bool | None,
    flag(
        "--overcluster",
        QUALITY,
        "Also give every cluster the class that it overlaps best. Uses labels; not comparable with the rest.",
    ),
]
Resolution = Annotated[
    int | None,
    image_size(
        QUALITY, "Shorter side of the image as the network sees it. (default: 320 under paper, else the model's own)"
    ),
]
ReportFolder = Annotated[
    str | None,
    value(
        "--report",
        "DIR",
        RESULTS,
        "Write a page with all scores, confusions and examples, and scores.json; what is finished there is not "
        "measured again.",
    ),
]
SaveNames = Annotated[
    bool | None,
    flag(
        "--save-names",
        RESULTS,
        "Write the class of each cluster, found here, into a copy of the model, so that `stego predict` shows names.",
    ),
]
Names = Annotated[
    str | None,
    choice(
        "--names",
        get_args(NameRule),
        RESULTS,
        "Which classes --save-names writes: matched, one cluster for each; majority, those of --overcluster, where "
        "several clusters may share a name. (default: matched)",
    ),
]
Out = Annotated[
    str | None, output("FILE", "The copy that --save-names writes. (default: the model itself, with --overwrite)")
]
OPTIONS: dict[str, Any] = {
    "dataset_option": Dataset,
    **o.PART_OPTIONS,
    "label_space": o.LabelSpaceName,
    "mirror": o.Mirror,
    "device": o.Device,
    "precision": o.PrecisionName,
    "batch_size": o.BatchSize,
    "workers": o.Workers,
    **o.RUN_OPTIONS,
    "dry_run": o.DryRun,
}


@with_options(**OPTIONS)
def eval_command(  # noqa: PLR0913, PLR0917 - one parameter per option
    checkpoints: Checkpoints = None,
    splits: Splits = None,
    classes: Classes = None,
    protocol: ProtocolName = None,
    probe: Probe = None,
    crf: Crf = None,
    extra: Extra = None,
    overcluster: Overcluster = None,
    resolution: Resolution = None,
    report_folder: ReportFolder = None,
    save_names: SaveNames = None,
    names: Names = None,
    out: Out = None,
    **shared: Any,
) -> None:
    """Measure models on labelled images: mIoU and accuracy, per class and per image.

    Clusters are matched to the classes of the dataset once, over the whole
    split; labels train nothing. Several models make one table.

    [bold]Examples[/bold]

      stego eval embedded --dataset camvid/ --protocol native
      stego eval a.safetensors cocostuff27_vit_base_5 --crf --report scores
      stego eval mine.safetensors --dataset my/ --save-names --out named.safetensors
    """
    typed = typed_options(locals())
    typed = {**typed, "checkpoints": checkpoints or None, "splits": splits or None, "report": report_folder}
    from stego_cli.config.evaluate import EvalConfig

    read = settings(EvalConfig, typed)
    from stego_cli.engine.evaluate.run import evaluate_models  # torch loads here, so that --help stays quick

    with terminal_report(quiet=shared["quiet"]) as report:
        result = evaluate_models(read, report, dry_run=shared["dry_run"])
    if not result.is_first:  # the first of several processes speaks for all
        return
    conclude(result, show_result, as_json=shared["json"], incomplete=result.skipped)


def show_result(result: "EvalResult") -> None:
    """Print the table of all models, the classes of a single one, and where more is to be found."""
    if result.planned is not None:
        for line in (*result.planned, "nothing was written"):
            show(line)
        return
    entries = result.entries
    for line in table_lines([("", "", "mIoU %", "accuracy %"), *_summary(entries)], words=2):
        show(line)
    if len(entries) == 1:
        heads = [head for head in _titles() if entries[0].get(head) and not head.endswith("many_to_one")]
        titles = ("IoU %", *(_titles()[head] for head in heads))
        found, absent = _classes(entries[0], heads)
        for line in ("", *table_lines([titles, *found], words=1)):
            show(line)
        if absent:
            show(f"and {absent} class{'' if absent == 1 else 'es'} that neither labels nor predictions have")
    for line in dict.fromkeys(line for entry in entries for line in entry["skipped"]):
        show(f"skipped: {line}")
    if result.named is not None:
        show(f"model with the names of its clusters: {printable(result.named)}")
        show(f"next: stego predict imgs/ --model {as_typed(result.named)}")
    if result.page is not None:
        show(f"open {printable(result.page)} in a browser to look at classes, confusions and examples")


def _summary(entries: "Sequence[Mapping[str, Any]]") -> "Iterator[tuple[str, ...]]":
    """Yield a line for each way that each model was measured."""
    for entry in entries:
        images = f"{entry['images']} image{'' if entry['images'] == 1 else 's'}"
        where = f"{entry['dataset']}, {entry['split']}, {images}, {entry['protocol']}, {duration(entry['seconds'])}"
        yield (f"{entry['checkpoint']} on {where}",)
        for head, title in _titles().items():
            if scores := entry.get(head):
                remark = "  (uses labels; not comparable)" if head.endswith("many_to_one") else ""
                yield ("  ", title, _percent(scores["miou"]), _percent(scores["accuracy"]) + remark)
            elif head == "linear" and entry["notes"] and entry["config"]["probe"] != "cluster":
                yield ("  ", title, "-", "-")


def _classes(entry: "Mapping[str, Any]", heads: "Sequence[str]") -> tuple[list[tuple[str, ...]], int]:
    """Return a line for each class that has a number, and how many have none."""
    names = list(entry[heads[0]]["per_class"])
    values = {name: [entry[head]["per_class"][name]["iou"] for head in heads] for name in names}
    lines = [(name, *map(_percent, each)) for name, each in values.items() if any(iou is not None for iou in each)]
    return lines, len(names) - len(lines)


def _titles() -> "Mapping[str, str]":
    from stego_cli.report.eval_report import HEADS

    return HEADS


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
