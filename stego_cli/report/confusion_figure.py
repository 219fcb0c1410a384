"""The confusion matrix as a drawing: one hue, so that darkness alone says how much, in print and in greyscale too."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_MOST_NUMBERS = 30  # columns up to which cells carry numbers
_SHOWN_FROM = 0.005
_DARK_FROM = 0.6  # share from which the number in a cell is light
_LONGEST_NAME = 22
_LETTER = 6.4  # mean width of a letter at 12 pixels
_STYLE = (
    "svg.confusion{font:12px system-ui,-apple-system,'Segoe UI','Liberation Sans',sans-serif;color:#111}"
    "svg.confusion text{fill:currentColor}svg.confusion .cell{font-size:10px;text-anchor:middle}"
    "svg.confusion .over{fill:var(--confusion-paper,#fff)}svg.confusion .frame{fill:none;stroke:currentColor;"
    "stroke-opacity:.25}svg.confusion .right{fill:none;stroke:currentColor;stroke-width:1.5}"
    "svg.confusion .axis{font-weight:600}"
)


def confusion_figure(counts: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str], title: str) -> str:
    """Draw a confusion matrix as SVG.

    Darkness is the share of a row, so that a row sums to 1 and the diagonal shows the recall; the outlined cells of
    the diagonal are right. It takes the text colour of the page around it, and is dark on white as a file of its own.

    Args:
        counts: Shape (classes, predictions): pixels of each true class by predicted class; the diagonal is right.
        rows: Names of the true classes.
        columns: Names of the predicted classes; more of them than rows if some predictions are of no class.
        title: What is shown, for readers who cannot see it.

    Returns:
        An `<svg>` element.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 32 if len(columns) <= 14 else 24 if len(columns) <= _MOST_NUMBERS else 13
    left = _LETTER * min(max(map(len, rows)), _LONGEST_NAME) + 34
    top = _LETTER * min(max(map(len, columns)), _LONGEST_NAME) * 0.85 + 40
    width, height = left + side * len(columns) + 70, top + side * len(rows) + 8
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="confusion" role="img" aria-label="{escape(title)}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
        f'<text class="axis" x="{left:.0f}" y="14">predicted</text>'
        f'<text class="axis" transform="translate(13 {top + side * len(rows) / 2:.0f}) rotate(-90)" '
        'text-anchor="middle">labelled</text>'
    )
    cells = [
        _cell(float(share), rows[row], columns[column], (left + column * side, top + row * side, side))
        for (row, column), share in np.ndenumerate(shares)
    ]
    right = [
        f'<rect class="right" x="{left + place * side:.1f}" y="{top + place * side:.1f}" width="{side}" '
        f'height="{side}"/>'
        for place in range(len(rows))
    ]
    return "".join([head, *_names(rows, columns, side, (left, top)), *cells, *right, "</svg>"])


def _names(rows: Sequence[str], columns: Sequence[str], side: int, corner: tuple[float, float]) -> list[str]:
    left, top = corner
    size = f' font-size="{min(12, side - 1)}"'
    across = [
        f'<text{size} transform="translate({left + (place + 0.62) * side:.1f} {top - 6:.1f}) rotate(-55)">'
        f"{escape(_short(name))}</text>"
        for place, name in enumerate(columns)
    ]
    down = [
        f'<text{size} x="{left - 7:.1f}" y="{top + (place + 0.5) * side + 4:.1f}" text-anchor="end">'
        f"{escape(_short(name))}</text>"
        for place, name in enumerate(rows)
    ]
    return across + down


def _cell(share: float, row: str, column: str, place: tuple[float, float, int]) -> str:
    """Draw one cell; what it says is also there on hovering."""
    x, y, side = place
    tip = f"<title>{escape(row)} predicted as {escape(column)}: {100 * share:.1f} %</title>"
    rect = (
        f'<g>{tip}<rect x="{x:.1f}" y="{y:.1f}" width="{side}" height="{side}" fill="currentColor" '
        f'fill-opacity="{0.88 * share:.3f}"/><rect class="frame" x="{x:.1f}" y="{y:.1f}" width="{side}" '
        f'height="{side}"/>'
    )
    if side < 20 or share < _SHOWN_FROM:
        return rect + "</g>"
    kind = "cell over" if share > _DARK_FROM else "cell"
    middle = f'x="{x + side / 2:.1f}" y="{y + side / 2 + 3.5:.1f}"'
    return f'{rect}<text class="{kind}" {middle}>{100 * share:.0f}</text></g>'


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
