"""`stego ablate run` and `stego ablate plot`: how much of a result is the head, and how much the backbone."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from stego_cli.cli import options as o
from stego_cli.cli.friendly import SOME_SKIPPED, friendly, show_error
from stego_cli.cli.terminal import duration, print_json, show, terminal_report
from stego_cli.cli.tidy import TidyCommand, TidyGroup
from stego_cli.config.words import BACKBONE_NAMES, DATASET_NAMES, Protocol
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stego_cli.config.ablate import AblateConfig
    from stego_cli.engine.ablate.plan import AblationPlan
    from stego_cli.engine.ablate.run import AblationResult

METHOD_NAMES = ("dino", "pca", "rp", "hnne", "umap", "stego")  # as in the config, which is not loaded for --help
TRAINING = "Training"
GRID = "Grid"

ablate_app = typer.Typer(
    name="ablate",
    cls=TidyGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Compare methods over dimensions of the code, datasets, backbones and seeds; draw the comparison.",
)

Configs = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FILE", help="More YAML files like that of --config, each a grid of its own."),
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--methods",
        metavar="A,B,...",
        autocompletion=o.complete_from(METHOD_NAMES),
        help=f"Which of {', '.join(METHOD_NAMES)}. (default: dino,pca,rp,stego)",
        rich_help_panel=GRID,
    ),
]
Dims = Annotated[
    str | None,
    typer.Option(
        "--dims",
        metavar="N,N,...",
        help="Dimensions of the code; those above the backbone's channels are left out. (default: those of the study, "
        "3 to 768)",
        rich_help_panel=GRID,
    ),
]
Datasets = Annotated[
    str | None,
    typer.Option(
        "--datasets",
        "--dataset",
        metavar="NAME|DIR,...",
        autocompletion=o.complete_from(DATASET_NAMES),
        help="Known datasets, or folders with images in `imgs/train` and `imgs/val` and label maps in `labels/`. "
        "(default: cocostuff27)",
        rich_help_panel=GRID,
    ),
]
Backbones = Annotated[
    str | None,
    typer.Option(
        "--backbones",
        "--backbone",
        metavar="NAME,...",
        autocompletion=o.complete_from(BACKBONE_NAMES),
        help="Frozen networks: dino_vitb8, dinov2_vits14 and others, any vision transformer of timm, or `filterbank`, "
        "which needs no download. (default: dino_vits8_300ep)",
        rich_help_panel=GRID,
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option(
        "--seeds", metavar="N", help="Cells for every method and dimension. (default: 3)", rich_help_panel=GRID
    ),
]
Seed = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="The first seed. (default: 0)", rich_help_panel=GRID)
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", metavar="N", help="Updates in every cell. (default: 5000)", rich_help_panel=TRAINING),
]
TrainBatch = Annotated[
    int | None,
    typer.Option(
        "--batch-size", metavar="N", help="Images of a training step. (default: 16)", rich_help_panel=TRAINING
    ),
]
Resolution = Annotated[
    int | None,
    typer.Option(
        "--res",
        "--resolution",
        metavar="PIXELS",
        help="Side of the square that the backbone sees in training. (default: 224)",
        rich_help_panel=TRAINING,
    ),
]
ProtocolName = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        metavar="|".join(get_args(Protocol)),
        autocompletion=o.complete_from(get_args(Protocol)),
        help="paper: resize, crop and average as published. native: antialiased, whole images, at their own size. "
        "(default: paper)",
        rich_help_panel=o.QUALITY,
    ),
]
Crf = Annotated[
    bool | None,
    typer.Option(
        "--crf/--no-crf",
        help="Measure with a dense CRF, too; most of the time goes there then. (default: no-crf)",
        rich_help_panel=o.QUALITY,
    ),
]
Devices = Annotated[
    int | None,
    typer.Option(
        "--devices", metavar="N", help="GPUs, a cell on each at a time. (default: all)", rich_help_panel=o.SPEED
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        metavar="N",
        help="Cells at a time on the CPU, each in a process of its own; 1 does without. (default: one per core)",
        rich_help_panel=o.SPEED,
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Folder of the results. (default: a new one below runs/)",
        rich_help_panel=o.RESULTS,
    ),
]
Resume = Annotated[
    bool | None,
    typer.Option(
        "--resume",
        help="Insist that there are results to go on with. A run goes on by itself when its command is given again, "
        "also with a larger grid.",
        rich_help_panel=o.RESULTS,
    ),
]
KeepModels = Annotated[
    bool | None,
    typer.Option("--keep-models", help="Save the model of every cell, too.", rich_help_panel=o.RESULTS),
]
RUN_OPTIONS: dict[str, Any] = {
    **{name: option for name, option in o.DATASET_OPTIONS.items() if not name.startswith("dataset")},
    "label_space": o.LabelSpaceName,
    "classes": o.Classes,
    "mirror": o.Mirror,
    "device": o.Device,
    "precision": o.PrecisionName,
    "workers": o.Workers,
    **o.RUN_OPTIONS,
    "dry_run": o.DryRun,
}


@o.with_options(**RUN_OPTIONS)
def run_command(  # noqa: PLR0913, PLR0917 - one parameter per option
    configs: Configs = None,
    methods: Methods = None,
    dims: Dims = None,
    datasets: Datasets = None,
    backbones: Backbones = None,
    seed: Seed = None,
    seeds: Seeds = None,
    steps: Steps = None,
    batch_size: TrainBatch = None,
    resolution: Resolution = None,
    protocol: ProtocolName = None,
    crf: Crf = None,
    devices: Devices = None,
    jobs: Jobs = None,
    out: Out = None,
    resume: Resume = None,
    keep_models: KeepModels = None,
    **shared: Any,
) -> None:
    """Train and measure every method at every dimension, with every seed.

    The backbone sees each image once for the whole grid; cells are done at
    the same time, as many as there are devices or cores. Each finished cell
    is a line of results.jsonl. Stopped, the same command goes on.

    [bold]Examples[/bold]

      stego ablate run --config configs/ablate/camvid.yaml
      stego ablate run --datasets camvid/ --backbones filterbank --methods dino,pca,stego --dims 3,12,48
      stego ablate run --config configs/ablate/table2.yaml
    """
    typed = o.typed_options(locals())
    nested = {"steps": steps, "batch_size": batch_size, "resolution": resolution}
    changes = [f"train.{name}={value}" for name, value in nested.items() if value is not None]
    typed = {name: value for name, value in typed.items() if name not in nested}
    typed |= {"overrides": [*changes, *(typed["overrides"] or ())]}
    from stego_cli.config.ablate import AblateConfig

    files = [*([typed["config"]] if typed["config"] else []), *(configs or ())] or [None]
    # All are read before the first is begun, so that a mistake in the last one does not come after hours.
    read = [o.settings(AblateConfig, {**typed, "config": file}) for file in files]
    trouble = run_grids(read, dry_run=shared["dry_run"], json=shared["json"], quiet=shared["quiet"])
    if trouble:
        raise typer.Exit(SOME_SKIPPED)


def run_grids(configs: "Sequence[AblateConfig]", *, dry_run: bool, json: bool, quiet: bool) -> bool:
    """Do one grid after the other, and print what came of them; say whether something is missing.

    Raises:
        StegoError: If the only grid cannot be done; of several, the others go on.
    """
    from stego_cli.errors import StegoError

    found: list[dict[str, Any]] = []
    trouble = False
    for config in configs:
        try:
            content, incomplete = run_grid(config, dry_run=dry_run, json=json, quiet=quiet)
        except StegoError as error:
            if len(configs) == 1:
                raise
            show_error(str(error))
            trouble = True
        else:
            found.append(content)
            trouble = trouble or incomplete
    if json:
        print_json(found[0] if len(configs) == 1 else {"grids": found})
    return trouble


def run_grid(config: "AblateConfig", *, dry_run: bool, json: bool, quiet: bool) -> tuple[dict[str, Any], bool]:
    """Do one grid; return what `--json` prints, and whether something is missing."""
    with terminal_report(quiet=quiet) as report:
        if dry_run:
            from stego_cli.engine.ablate.plan import make_ablation_plan

            plan = make_ablation_plan(config, report)
            if not json:
                show_plan(plan)
            return plan.to_json(), False
        from stego_cli.engine.ablate.run import run_ablation  # torch loads here, so that --help stays quick

        result = run_ablation(config, report)
    if not json:
        show_result(result)
    return result.to_json(), bool(result.failed or result.skipped)


def show_plan(plan: "AblationPlan") -> None:
    """Print what would be done."""
    for line in plan_lines(plan):
        show(line)
    show("nothing was written")


def plan_lines(plan: "AblationPlan") -> "Iterable[str]":
    """Return the plan as a table, with what is left out, and the time."""
    left = set(plan.left)
    rows = [("dataset", "backbone", "method", "dimensions", "seeds", "cells", "done")]
    notes = []
    for each in plan.grounds:
        dataset, backbone = printable(each.plan.run.dataset.name), each.ground.backbone.name
        for method in dict.fromkeys(cell.method for cell in each.grid.cells):
            cells = [cell for cell in each.grid.cells if cell.method == method]
            dims = ",".join(str(dim) for dim in dict.fromkeys(cell.dim for cell in cells))
            done = sum(cell.key not in left for cell in cells)
            rows.append((dataset, backbone, method, dims, str(plan.config.seeds), str(len(cells)), str(done)))
        if each.grid.left_out:
            dims = ", ".join(map(str, each.grid.left_out))
            channels = each.plan.run.backbone.channels
            notes.append(f"left out: {dims}, as {backbone} has {channels} channels")
        if sum(each.to_see):
            notes.append(f"the backbone {backbone} has {sum(each.to_see)} images of {dataset} to see")
    from stego_cli.engine.ablate.checkpoints import key_of

    for row in plan.rows:
        done_now = str(int(key_of(row) not in left))
        rows.append((printable(row.dataset), "", f"{row.method} (finished)", printable(row.model), "", "1", done_now))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    yield from ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    yield from notes
    slow = f", and what {' and '.join(plan.slow)} take to embed" if plan.slow else ""
    rows_apart = ", finished models apart" if plan.rows else ""
    yield f"{len(left)} of {len(plan.keys)} cells to do, {len(plan.places)} at a time"
    if plan.grounds:
        yield f"estimated time: {duration(plan.seconds)}{slow}{rows_apart} (timed on a few made-up steps)"
    yield f"results: {printable(plan.out)}"


def show_result(result: "AblationResult") -> None:
    """Print the table of means over seeds, the cells that failed, and what to do next."""
    from stego_cli.report.ablation_results import points_of
    from stego_cli.report.ablation_tables import summary_rows

    points = points_of(result.lines)
    rows = summary_rows(points) if points else []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    for row in rows:
        cells = (
            cell.ljust(width) if column < 4 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        show("  ".join(cells).rstrip())
    done = f"{result.done} cells in {duration(result.seconds)}" if result.done else "all cells were done"
    show(f"{done}; results: {printable(result.folder / 'results.jsonl')}")
    for line in result.failed:
        show(f"failed: {line['key']}: {line['error']}")
    if len(result.failed) < len(result.lines):
        show(f"next: stego ablate plot {printable(result.folder)}")


Folders = Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of results, which are drawn together.")]
PlotOut = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Folder of the figures. (default: `figures` in the first folder of results)",
        rich_help_panel=o.RESULTS,
    ),
]
PlotDim = Annotated[
    int | None,
    typer.Option(
        "--dim",
        metavar="N",
        help="Dimension at which classes are compared. (default: the one that all methods have which is nearest to the "
        "published)",
        rich_help_panel=o.RESULTS,
    ),
]


@o.with_options(json=o.Json, quiet=o.Quiet)
def plot_command(folders: Folders, out: PlotOut = None, dim: PlotDim = None, **shared: Any) -> None:
    """Draw what `stego ablate run` found: figures as PNG and PDF, and tables.

    Explained variance and scores over dimensions with the published curves
    where there are some, classes one by one, and all numbers with their
    spread over seeds as CSV and Markdown.

    [bold]Examples[/bold]

      stego ablate plot runs/ablate-camvid
      stego ablate plot runs/ablate-* --out figures
    """
    from stego_cli.report.ablation import plot_results  # matplotlib loads when it draws

    with terminal_report(quiet=shared["quiet"]) as report:
        written = plot_results(folders, Path(out) if out else None, dim, report)
    if shared["json"]:
        print_json({"written": [printable(path) for path in written]})
        return
    for path in written:
        show(printable(path))


ablate_app.command("run", cls=TidyCommand)(friendly(run_command))
ablate_app.command("plot", cls=TidyCommand)(friendly(plot_command))
