"""`stego ablate plot`: all figures and tables of one or more folders of results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stego_cli.errors import StegoError
from stego_cli.files import printable, write_text
from stego_cli.report.ablation_figures import draw_classes, draw_scores, draw_variance
from stego_cli.report.ablation_published import published_dim
from stego_cli.report.ablation_results import (
    FAILED,
    HEADS,
    RESULTS_NAME,
    places_of,
    points_of,
    read_lines,
    read_variance,
)
from stego_cli.report.ablation_tables import csv_table, markdown_tables, table2

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stego_cli.progress import Report
    from stego_cli.report.ablation_results import Place, Point

FIGURES = "figures"


def plot_results(folders: Sequence[Path], out: Path | None, dim: int | None, report: Report) -> list[Path]:
    """Draw everything that results say, and write the tables.

    Args:
        folders: Folders of results, drawn together; a cell that several have is that of the last.
        out: Where to; None means `figures` in the first folder.
        dim: Dimension at which classes are compared; None means the one that all methods have which is nearest to the
            published one.
        report: Told about cells that failed.

    Returns:
        The files that were written.

    Raises:
        StegoError: If there are no results to draw.
    """
    lines = {line["key"]: line for folder in folders for line in read_lines(folder / RESULTS_NAME)}
    failed = [line for line in lines.values() if line["status"] == FAILED]
    if failed:
        report.note(f"{len(failed)} cells failed and are left out: {', '.join(line['key'] for line in failed)}")
    points = points_of(lines.values())
    if not points:
        where = ", ".join(f"`{printable(folder)}`" for folder in folders)
        raise StegoError(f"no cell in {where} is finished\n\nhint: `stego ablate run` finishes them")
    place = out or folders[0] / FIGURES
    variance = {name: each for folder in folders for name, each in read_variance(folder).items()}
    dims = sorted({point.dim for point in points if point.method != "dino" and not point.released})
    written = draw_variance(variance, dims, place / "explained_variance") if variance and dims else []
    for each in places_of(points):
        written += _figures_of(each, [point for point in points if point.place == each], dim, place)
    for name, text in (("ablation.csv", csv_table(points)), ("ablation.md", markdown_tables(points))):
        write_text(place / name, text)
        written.append(place / name)
    if text := table2(points):
        write_text(place / "table2.md", text)
        written.append(place / "table2.md")
    return written


def _figures_of(place: Place, points: Sequence[Point], dim: int | None, out: Path) -> list[Path]:
    """Draw one dataset with one backbone."""
    grid = [point for point in points if not point.released]
    if not grid:
        return []
    written: list[Path] = []
    for measure in ("miou", "accuracy"):
        written += draw_scores(place, grid, measure, out / f"{measure}-{place.slug}")
    chosen = dim or common_dim(grid, published_dim(place.dataset))
    for head in HEADS:
        written += draw_classes(place, grid, head, chosen, out / f"classes-{head}-{place.slug}")
    return written


def common_dim(points: Sequence[Point], wanted: int) -> int:
    """Return the dimension that most methods have; of several, the one nearest to the one wanted by ratio."""
    methods: dict[int, set[str]] = {}
    for point in points:
        if point.method != "dino":
            methods.setdefault(point.dim, set()).add(point.method)
    if not methods:
        return wanted
    most = max(len(each) for each in methods.values())
    return min(
        (dim for dim, each in methods.items() if len(each) == most), key=lambda dim: max(dim, wanted) / min(dim, wanted)
    )
