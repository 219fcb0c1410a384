"""`stego ablate plot`: figures and tables of what `stego ablate run` found."""

from pathlib import Path
from typing import Annotated, Any

import typer

from stego_cli.cli import options as o
from stego_cli.cli.declare import RESULTS, number, output
from stego_cli.cli.settings import with_options
from stego_cli.cli.terminal import print_json, show, terminal_report
from stego_cli.files import printable

Folders = Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of results, which are drawn together.")]
PlotOut = Annotated[
    str | None, output("DIR", "Folder of the figures. (default: `figures` in the first folder of results)")
]
PlotDim = Annotated[
    int | None,
    number(
        "--dim",
        RESULTS,
        "Dimension at which classes are compared. (default: the one that all methods have which is nearest to the "
        "published)",
    ),
]


@with_options(json=o.Json, quiet=o.Quiet)
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
