"""The numbers of a grid as tables: for the terminal, CSV, Markdown, and table 2 of the study."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from stego_cli.report.ablation_published import published, study
from stego_cli.report.ablation_results import HEADS, mean_and_spread, places_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from stego_cli.report.ablation_results import Place, Point

METHOD_TITLES = {
    "dino": "no head",
    "pca": "PCA",
    "rp": "random projection",
    "hnne": "h-NNE",
    "umap": "UMAP",
    "stego": "STEGO",
}
HEAD_TITLES = {"cluster": "cluster", "cluster_crf": "cluster + CRF", "linear": "linear", "linear_crf": "linear + CRF"}
MEASURES = {"miou": "mIoU", "accuracy": "accuracy"}

Key = tuple["Place", str, int, str]


def title_of(method: str) -> str:
    """Return what a method is called in figures and tables."""
    return METHOD_TITLES.get(method, method)


def with_spread(values: Sequence[float]) -> str:
    """Return a mean in percent with its spread.

    Example:
        >>> with_spread([0.25, 0.75]), with_spread([0.25])
        ('50.0 ± 35.4', '25.0')
    """
    mean, spread = mean_and_spread(values)
    return f"{100 * mean:.1f} ± {100 * spread:.1f}" if len(values) > 1 else f"{100 * mean:.1f}"


def summary_rows(points: Sequence[Point]) -> list[tuple[str, ...]]:
    """Return a table for the terminal, its titles first: a row for each method and dimension."""
    heads = [head for head in HEADS if any(point.head == head for point in points)]
    titles = [f"{HEAD_TITLES[head]} {MEASURES[measure]} %" for head in heads for measure in MEASURES]
    rows = [("dataset", "backbone", "method", "dim", *titles)]
    for (place, method, dim, _), cells in _by_cell(points).items():
        found = [
            with_spread(cells[head].values(measure)) if head in cells else "-" for head in heads for measure in MEASURES
        ]
        rows.append((place.dataset, place.backbone, method, str(dim), *found))
    return rows


def _by_cell(points: Iterable[Point]) -> dict[Key, dict[str, Point]]:
    """Put the heads of each method and dimension together."""
    together: dict[Key, dict[str, Point]] = {}
    for point in points:
        together.setdefault((point.place, point.method, point.dim, point.name), {})[point.head] = point
    return together


def csv_table(points: Sequence[Point]) -> str:
    """Return all numbers, one in a line: percent, with spread, seeds, and the published value where there is one."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "dataset",
            "backbone",
            "method",
            "checkpoint",
            "dim",
            "head",
            "measure",
            "mean",
            "deviation",
            "seeds",
            "published",
            "source",
            "difference",
        ]
    )
    for point in points:
        for measure in MEASURES:
            mean, spread = mean_and_spread(point.values(measure))
            known = published(point, measure)
            compared = ("", "", "") if known is None else (_two(known[0]), known[1], _two(mean - known[0]))
            writer.writerow(
                (
                    point.place.dataset,
                    point.place.backbone,
                    point.method,
                    point.name,
                    point.dim,
                    point.head,
                    measure,
                    _two(mean),
                    _two(spread) if len(point.seeds) > 1 else "",
                    len(point.seeds),
                    *compared,
                )
            )
    return text.getvalue()


def _two(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


def markdown_tables(points: Sequence[Point]) -> str:
    """Return a table for each dataset and backbone, and table 2 where there are finished models."""
    parts = [_markdown_of(place, [point for point in points if point.place == place]) for place in places_of(points)]
    if table := table2(points):
        parts.append(table)
    return "\n".join(parts)


def _markdown_of(place: Place, points: Sequence[Point]) -> str:
    heads = [head for head in HEADS if any(point.head == head for point in points)]
    known = {head: any(point.head == head and published(point) for point in points) for head in heads}
    titles = ["method", "dim", "seeds"]
    for head in heads:
        titles += [f"{HEAD_TITLES[head]} mIoU", f"{HEAD_TITLES[head]} accuracy"]
        titles += ["published mIoU", "difference"] if known[head] else []
    rows = []
    for (_, method, dim, name), cells in _by_cell(points).items():
        seeds = len(next(iter(cells.values())).seeds)
        row = [title_of(method) + (f" (`{name}`)" if name else ""), str(dim), str(seeds)]
        for head in heads:
            row += [with_spread(cells[head].values(measure)) if head in cells else "-" for measure in MEASURES]
            row += list(_compared(cells.get(head))) if known[head] else []
        rows.append(row)
    return f"## {place.dataset}, {place.backbone}\n\nPercent; means ± deviation over seeds.\n\n" + _markdown(
        titles, rows
    )


def _compared(point: Point | None) -> Iterator[str]:
    """Yield the published value with its source mark, and the difference from it."""
    known = published(point) if point else None
    if point is None or known is None:
        yield from ("", "")
        return
    mean, _ = mean_and_spread(point.miou)
    yield f"{100 * known[0]:.1f} ({known[1]})"
    yield f"{100 * (mean - known[0]):+.1f}"


def table2(points: Sequence[Point]) -> str:
    """Return table 2 of the study: finished models with and without CRF beside the published numbers; empty for none.

    Features alone, trained in the grid, take part where dataset and backbone are those of the study.
    """
    shown = [point for point in points if point.released or (point.method == "dino" and published(point))]
    if not any(point.released for point in shown):
        return ""
    titles = ["dataset", "method", "backbone", "dim"]
    for head in HEADS:
        titles += [HEAD_TITLES[head], "published", "difference"]
    rows = []
    for (place, method, dim, _), cells in _by_cell(shown).items():
        row = [place.dataset, title_of(method), place.backbone, str(dim)]
        for head in HEADS:
            row += [with_spread(cells[head].miou) if head in cells else "-", *_compared(cells.get(head))]
        rows.append(row)
    note = f"mIoU in percent. Published: {study().source}; F is read off a figure, about ±0.3, E was printed by the "
    note += "reference's script, L is of a leaderboard.\n\n"
    return "## Released models and features alone (table 2 of the study)\n\n" + note + _markdown(titles, rows)


def _markdown(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown, padded so that it can be read as it is."""
    lines = [list(titles), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    padded.insert(1, ["-" * width for width in widths])
    return "".join(f"| {' | '.join(line)} |\n" for line in padded)
