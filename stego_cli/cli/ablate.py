"""`stego ablate run`: how much of a result is the head, and how much the backbone."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from stego_cli.cli import options as o
from stego_cli.cli.ablate_plot import plot_command
from stego_cli.cli.completion import complete_from
from stego_cli.cli.declare import QUALITY, RESULTS, SPEED, TRAINING, choice, flag, image_size, number, output, value
from stego_cli.cli.friendly import SOME_SKIPPED, show_error
from stego_cli.cli.settings import settings, typed_options, with_options
from stego_cli.cli.tables import table_lines
from stego_cli.cli.terminal import duration, print_json, show, terminal_report
from stego_cli.cli.tidy import add_command, group
from stego_cli.config.words import BACKBONE_NAMES, DATASET_NAMES, METHOD_NAMES, Protocol
from stego_cli.files import as_typed, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stego_cli.config.ablate import AblateConfig
    from stego_cli.engine.ablate.plan import AblationPlan
    from stego_cli.engine.ablate.run import AblationResult

GRID = "Grid"

ablate_app = group(
    "ablate", "Compare methods over dimensions of the code, datasets, backbones and seeds; draw the comparison."
)

Configs = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FILE", help="More YAML files like that of --config, each a grid of its own."),
]
Methods = Annotated[
    str | None,
    value(
        "--methods",
        "A,B,...",
        GRID,
        f"Which of {', '.join(METHOD_NAMES)}. (default: dino,pca,rp,stego)",
        METHOD_NAMES,
    ),
]
Dims = Annotated[
    str | None,
    value(
        "--dims",
        "N,N,...",
        GRID,
        "Dimensions of the code; those above the backbone's channels are left out. (default: those of the study, "
        "3 to 768)",
    ),
]
Datasets = Annotated[
    str | None,
    typer.Option(
        "--datasets",
        "--dataset",
        metavar="NAME|DIR,...",
        autocompletion=complete_from(DATASET_NAMES),
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
        autocompletion=complete_from(BACKBONE_NAMES),
        help="Frozen networks: dino_vitb8, dinov2_vits14 and others, any vision transformer of timm, or `filterbank`, "
        "which needs no download. (default: dino_vits8_300ep)",
        rich_help_panel=GRID,
    ),
]
Seeds = Annotated[int | None, number("--seeds", GRID, "Cells for every method and dimension. (default: 3)")]
Seed = Annotated[int | None, number("--seed", GRID, "The first seed. (default: 0)")]
Steps = Annotated[int | None, number("--steps", TRAINING, "Updates in every cell. (default: 5000)")]
TrainBatch = Annotated[int | None, number("--batch-size", TRAINING, "Images of a training step. (default: 16)")]
Resolution = Annotated[
    int | None, image_size(TRAINING, "Side of the square that the backbone sees in training. (default: 224)")
]
ProtocolName = Annotated[
    str | None,
    choice(
        "--protocol",
        get_args(Protocol),
        QUALITY,
        "paper: resize, crop and average as published. native: antialiased, whole images, at their own size. "
        "(default: paper)",
    ),
]
Crf = Annotated[
    bool | None,
    flag(
        "--crf/--no-crf", QUALITY, "Measure with a dense CRF, too; most of the time goes there then. (default: no-crf)"
    ),
]
Devices = Annotated[int | None, number("--devices", SPEED, "GPUs, a cell on each at a time. (default: all)")]
Jobs = Annotated[
    int | None,
    number(
        "--jobs",
        SPEED,
        "Cells at a time on the CPU, each in a process of its own; 1 does without. (default: one per core)",
    ),
]
Out = Annotated[str | None, output("DIR", "Folder of the results. (default: a new one below runs/)")]
Resume = Annotated[
    bool | None,
    flag(
        "--resume",
        RESULTS,
        "Insist that there are results to go on with. A run goes on by itself when its command is given again, "
        "also with a larger grid.",
    ),
]
KeepModels = Annotated[bool | None, flag("--keep-models", RESULTS, "Save the model of every cell, too.")]
RUN_OPTIONS: dict[str, Any] = {
    **o.PART_OPTIONS,
    "label_space": o.LabelSpaceName,
    "classes": o.Classes,
    "mirror": o.Mirror,
    "device": o.Device,
    "precision": o.PrecisionName,
    "workers": o.Workers,
    **o.RUN_OPTIONS,
    "dry_run": o.DryRun,
}


@with_options(**RUN_OPTIONS)
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
    typed = typed_options(locals())
    nested = {"steps": steps, "batch_size": batch_size, "resolution": resolution}
    changes = [f"train.{name}={value}" for name, value in nested.items() if value is not None]
    typed = {name: value for name, value in typed.items() if name not in nested}
    typed |= {"overrides": [*changes, *(typed["overrides"] or ())]}
    from stego_cli.config.ablate import AblateConfig

    files = [*([typed["config"]] if typed["config"] else []), *(configs or ())] or [None]
    # All are read before the first is begun, so that a mistake in the last one does not come after hours.
    read = [settings(AblateConfig, {**typed, "config": file}) for file in files]
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
    yield from table_lines(rows, words=len(rows[0]))
    yield from notes
    takes = "take" if len(plan.slow) > 1 else "takes"
    slow = f", and what {' and '.join(plan.slow)} {takes} to embed" if plan.slow else ""
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
    for line in table_lines(summary_rows(points) if points else (), words=4):
        show(line)
    done = f"{result.done} cells in {duration(result.seconds)}" if result.done else "all cells were done"
    show(f"{done}; results: {printable(result.folder / 'results.jsonl')}")
    for failed in result.failed:
        show(f"failed: {failed['key']}: {failed['error']}")
    if len(result.failed) < len(result.lines):
        show(f"next: stego ablate plot {as_typed(result.folder)}")


add_command(ablate_app, "run", run_command)
add_command(ablate_app, "plot", plot_command)
