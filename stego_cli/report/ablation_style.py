"""How figures of a grid look: each method told apart by line and marker, so that colour is never needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stego_cli.errors import MissingDependencyError
from stego_cli.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAINT = 0.45
LEAST_APART = 1.13  # ratio of neighbouring dimensions that both get a number on the axis


@dataclass(frozen=True)
class Look:
    """How a method is drawn.

    Attributes:
        colour: Dark enough for print; no two of a figure are equally light.
        line: Line style.
        marker: Marker.
    """

    colour: str
    line: Any
    marker: str


LOOKS = {
    "stego": Look("#111111", "-", "o"),
    "pca": Look("#1666ad", "--", "s"),
    "rp": Look("#d07a1d", ":", "^"),
    "hnne": Look("#2f8f57", "-.", "D"),
    "umap": Look("#9a6cc2", (0, (5, 1.5, 1, 1.5, 1, 1.5)), "v"),
    "dino": Look("#6f6f6f", (0, (8, 3)), "X"),
}
_OTHER = Look("#8c5a4a", (0, (3, 1)), "P")


def look_of(method: str) -> Look:
    """Return how a method is drawn."""
    return LOOKS.get(method, _OTHER)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "figures need matplotlib, which is not installed\n\nhint: pip install matplotlib"
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG and PDF, without the time, so that the same results give the same files.

    Raises:
        OutputError: If one cannot be written.
    """
    written = []
    for suffix, options in ((".png", {"dpi": 160}), (".pdf", {"metadata": {"CreationDate": None}})):
        target = path.with_name(path.name + suffix)
        with atomic_write(target) as file:
            figure.savefig(file, format=suffix[1:], **options)
        written.append(target)
    return written


def dimension_axis(axes: Axes, dims: Sequence[int]) -> None:
    """Make the horizontal axis logarithmic, with the dimensions that there are as its marks.

    Dimensions that lie too close together all get a mark, but not all a number.
    """
    from matplotlib.ticker import FixedLocator, NullFormatter

    known = sorted(set(dims))
    axes.set_xscale("log")
    axes.set_xlabel("dimensions of the code")
    numbered: list[int] = []
    for dim in known:
        if not numbered or dim / numbered[-1] >= LEAST_APART:
            numbered.append(dim)
    axes.set_xticks(numbered, [str(dim) for dim in numbered])
    axes.xaxis.set_minor_locator(FixedLocator([float(dim) for dim in known if dim not in numbered]))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if known:
        axes.set_xlim(known[0] / 1.2, known[-1] * 1.2)


def tidy(axes: Axes) -> None:
    """Take away what tells nothing, and put a faint grid behind the rest."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(visible=True, axis="y", alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
