"""The figures of the STEGO study, from results: explained variance, scores over dimensions, classes one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stego_cli.report.ablation_published import published_curve, study
from stego_cli.report.ablation_results import mean_and_spread
from stego_cli.report.ablation_style import FAINT, dimension_axis, look_of, new_figure, save, tidy
from stego_cli.report.ablation_tables import MEASURES, title_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from stego_cli.report.ablation_results import Place, Point

PROBES = ("cluster", "linear")
_PANEL = {"cluster": "clusters, matched to classes", "linear": "linear classifier, shown labels"}
_MARKS = ((0, "o", "-"), (1, "s", "--"), (2, "^", ":"), (3, "D", "-."))


def draw_variance(variance: Mapping[str, Mapping[str, Any]], dims: Sequence[int], path: Path) -> list[Path]:
    """Draw how much of the variance the first principal axes explain (figure 3 of the study).

    Args:
        variance: By ground: `dataset`, `backbone` and the share of each axis, `ratio`.
        dims: Dimensions of the grid, marked on the curves.
        path: Where to, without a suffix.

    Raises:
        OutputError: If a figure cannot be written.
    """
    figure = new_figure(6.4, 4.2)
    axes = figure.subplots()
    most = 1
    for number, each in enumerate(variance.values()):
        together = np.minimum(np.cumsum(each["ratio"]), 1.0)
        _, marker, line = _MARKS[number % len(_MARKS)]
        shade = str(0.15 + 0.5 * number / max(len(variance) - 1, 1)) if len(variance) > 1 else "0.1"
        label = f"{each['dataset']}, {each['backbone']} ({len(together)} channels)"
        marked = [dim for dim in dims if dim <= len(together)]
        places = [dim - 1 for dim in marked]
        axes.plot(
            np.arange(1, len(together) + 1), 100 * together, line, marker=marker, markevery=places, color=shade,
            linewidth=1.5, markersize=6, label=label,
        )  # fmt: skip
        if len(variance) == 1:
            for dim in marked:
                value = 100 * together[dim - 1]
                axes.annotate(
                    f"{value:.{0 if value < 99 else 1}f} %",
                    (dim, value),
                    xytext=(6, -11),
                    textcoords="offset points",
                    fontsize="x-small",
                )
        most = max(most, len(together))
    dimension_axis(axes, [1, *(dim for dim in dims if dim <= most)])
    axes.set_xlim(0.95, most * 1.5)
    axes.set_ylim(0, 103)
    axes.set_xlabel("principal axes, the most telling first")
    axes.set_ylabel("variance explained together, %")
    axes.legend(loc="lower right", fontsize="small", frameon=False)
    tidy(axes)
    return save(figure, path)


def draw_scores(place: Place, points: Sequence[Point], measure: str, path: Path) -> list[Path]:
    """Draw a score over dimensions, a panel for each probe (figure 4 of the study, and its appendix).

    Bars are deviations over seeds; hollow markers are the same cells after the CRF; faint lines are published.

    Args:
        place: Dataset and backbone.
        points: Its points.
        measure: `miou` or `accuracy`.
        path: Where to, without a suffix.

    Raises:
        OutputError: If a figure cannot be written.
    """
    figure = new_figure(10.5, 4.8)
    panels = figure.subplots(1, 2)
    dims = sorted({point.dim for point in points if point.method != "dino" and not point.released})
    faint = 0
    for axes, probe in zip(panels, PROBES, strict=True):
        own = [point for point in points if point.head in {probe, f"{probe}_crf"} and not point.released]
        for method in dict.fromkeys(point.method for point in own):
            of_method = [point for point in own if point.method == method]
            if method == "dino":
                _draw_level(axes, method, of_method, probe, measure)
            else:
                _draw_curve(axes, method, of_method, probe, measure, beside=_beside(own, method))
            if measure == "miou" and (curve := published_curve(place, method, probe)):
                faint += 1
                look = look_of(method)
                axes.plot(
                    list(curve), [100 * value for value in curve.values()], linestyle=look.line, marker=look.marker,
                    color=look.colour, alpha=FAINT / 1.5, linewidth=1, markersize=3,
                )  # fmt: skip
                dims = sorted({*dims, *curve})
        axes.set_title(_PANEL[probe], fontsize="medium")
        axes.set_ylabel(f"{MEASURES[measure]}, %")
        tidy(axes)
    for axes in panels:
        dimension_axis(axes, dims or [point.dim for point in points])
        axes.set_ylim(bottom=0, top=min(axes.get_ylim()[1] * 1.03, 100))
    _legend(figure, points, published=bool(faint))
    figure.suptitle(f"{place.dataset}, {place.backbone}", fontsize="large")
    return save(figure, path)


def _beside(points: Sequence[Point], method: str) -> float:
    """Return the factor by which a method's marks stand beside their dimension, so that bars do not hide each other."""
    methods = [each for each in dict.fromkeys(point.method for point in points) if each != "dino"]
    return float(1.022 ** (methods.index(method) - (len(methods) - 1) / 2))


def _draw_curve(axes: Axes, method: str, points: Sequence[Point], probe: str, measure: str, *, beside: float) -> None:
    look = look_of(method)
    plain = sorted((point for point in points if point.head == probe), key=lambda point: point.dim)
    if plain:
        means, spreads = _percent(plain, measure)
        axes.errorbar(
            [beside * point.dim for point in plain], means, yerr=_within(means, spreads), linestyle=look.line,
            marker=look.marker, color=look.colour, linewidth=1.6, markersize=6, capsize=2.5, elinewidth=1,
        )  # fmt: skip
    before = {point.dim: mean for point, mean in zip(plain, _percent(plain, measure)[0], strict=True)}
    for point in points:
        if point.head == probe:
            continue
        mean = 100 * mean_and_spread(point.values(measure))[0]
        axes.plot(
            beside * point.dim, mean, marker=look.marker, color=look.colour, markerfacecolor="white", markersize=6
        )
        if point.dim in before:
            axes.plot([beside * point.dim] * 2, [before[point.dim], mean], color=look.colour, linewidth=0.7, zorder=1)


def _draw_level(axes: Axes, method: str, points: Sequence[Point], probe: str, measure: str) -> None:
    """Draw a method without dimensions as a level, with its spread as a band."""
    look = look_of(method)
    for point in points:
        mean, spread = (100 * value for value in mean_and_spread(point.values(measure)))
        crf = point.head != probe
        axes.axhline(
            mean, color=look.colour, linestyle=(0, (1, 2)) if crf else look.line, linewidth=1.1 if crf else 1.6
        )
        if spread and not crf:
            axes.axhspan(mean - spread, mean + spread, color=look.colour, alpha=0.15, linewidth=0)


def _within(means: Sequence[float], spreads: Sequence[float]) -> list[list[float]] | None:
    """Return the bars below and above each mean, in percent, within what a percentage can be; None for no spread."""
    if not any(spreads):
        return None
    pairs = list(zip(means, spreads, strict=True))
    return [[min(spread, mean) for mean, spread in pairs], [min(spread, 100 - mean) for mean, spread in pairs]]


def _percent(points: Sequence[Point], measure: str) -> tuple[list[float], list[float]]:
    found = [mean_and_spread(point.values(measure)) for point in points]
    return [100 * mean for mean, _ in found], [100 * spread for _, spread in found]


def _legend(figure: Figure, points: Sequence[Point], *, published: bool) -> None:
    """Say below the panels what each line is, and what hollow markers and faint lines are."""
    from matplotlib.lines import Line2D

    entries = []
    for method in dict.fromkeys(point.method for point in points if not point.released):
        look = look_of(method)
        marker = "" if method == "dino" else look.marker
        entries.append(
            Line2D([], [], color=look.colour, linestyle=look.line, marker=marker, linewidth=1.6, label=title_of(method))
        )
    if any(point.head.endswith("_crf") and not point.released for point in points):
        label = "hollow (dotted level): after the CRF"
        entries.append(Line2D([], [], color="#333333", linestyle="", marker="o", markerfacecolor="white", label=label))
    if published:
        label = f"faint: published, {study().source}"
        entries.append(Line2D([], [], color="#333333", linewidth=1, alpha=FAINT, label=label))
    columns = len(entries) if len(entries) <= 6 else 4  # longer rows would be cut off
    figure.legend(
        handles=entries, loc="outside lower center", ncols=columns, frameon=False, fontsize="small", handlelength=3.2
    )


def draw_classes(place: Place, points: Sequence[Point], head: str, dim: int, path: Path) -> list[Path]:
    """Draw IoU, precision and recall of every class, for every method at one dimension (appendix of the study).

    Args:
        place: Dataset and backbone.
        points: Its points.
        head: Which probe, with or without CRF.
        dim: Which dimension; a method without dimensions takes part as it is.
        path: Where to, without a suffix.

    Returns:
        The files; none if no method was measured at that dimension.

    Raises:
        OutputError: If a figure cannot be written.
    """
    shown = [
        point
        for point in points
        if point.head == head and not point.released and (point.dim == dim or point.method == "dino")
    ]
    if not shown:
        return []
    names = list(shown[0].per_class)
    figure = new_figure(10.5, 1.6 + 0.14 * len(names) * max(len(shown), 2) ** 0.75)
    panels = figure.subplots(1, 3, sharey=True)
    for axes, measure in zip(panels, ("iou", "precision", "recall"), strict=True):
        for number, point in enumerate(shown):
            _draw_class_marks(axes, point, measure, 0.62 * ((number + 0.5) / len(shown) - 0.5))
        axes.set_title({"iou": "IoU"}.get(measure, measure), fontsize="medium")
        axes.set_xlim(-2, 102)
        axes.set_xlabel("%")
        tidy(axes)
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x", alpha=0.3, linewidth=0.6)
        for row in range(0, len(names), 2):
            axes.axhspan(row - 0.5, row + 0.5, color="0.95", zorder=0, linewidth=0)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(shown), frameon=False, fontsize="small")
    head_title = {"cluster": "clusters", "linear": "linear classifier"}[head.partition("_")[0]]
    crf = " after the CRF" if head.endswith("_crf") else ""
    title = f"{place.dataset}, {place.backbone}: {head_title}{crf}, codes of {dim} dimensions"
    figure.suptitle(title, fontsize="large")
    return save(figure, path)


def _draw_class_marks(axes: Axes, point: Point, measure: str, offset: float) -> None:
    """Draw one method's value for every class; a class without one has no mark."""
    look = look_of(point.method)
    label = title_of(point.method) + (f" ({point.dim})" if point.method == "dino" else "")
    rows, means, spreads = [], [], []
    for row, each in enumerate(point.per_class.values()):
        known = [value for value in each[measure] if value is not None]
        if known:
            mean, spread = mean_and_spread(known)
            rows.append(row + offset)
            means.append(100 * mean)
            spreads.append(100 * spread)
    axes.errorbar(
        means, rows, xerr=_within(means, spreads), linestyle="", marker=look.marker, color=look.colour,
        markersize=5, capsize=0, elinewidth=1, label=label,
    )  # fmt: skip
