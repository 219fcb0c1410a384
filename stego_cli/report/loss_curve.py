"""The loss terms of a training run as a picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stego_cli.errors import MissingDependencyError
from stego_cli.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

STEP = "step"
# One picture each: losses, and how alike codes are.
_GROUPS = (("loss", lambda name: not name.endswith("_corr")), ("cosine of codes", lambda name: name.endswith("_corr")))


def draw_loss_curve(history: Sequence[Mapping[str, float]], path: Path, title: str = "") -> None:
    """Draw every term of a training run over its steps, as PNG.

    Args:
        history: Rows with `step` and terms by name; a row may lack some.
        path: Where to.
        title: What to write above.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
        OutputError: If the picture cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "the loss curve needs matplotlib, which is not installed\n\nhint: pip install matplotlib"
        ) from error
    names = list(dict.fromkeys(name for row in history for name in row if name != STEP))
    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    groups = [(label, belongs) for label, belongs in _GROUPS if any(map(belongs, names))]
    panels = figure.subplots(max(len(groups), 1), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (label, belongs) in zip(panels, groups, strict=False):
        for name in filter(belongs, names):
            rows = [row for row in history if name in row]
            steps, values = [row[STEP] for row in rows], [_finite(row[name]) for row in rows]
            axes.plot(steps, values, label=name, marker="o" if len(rows) == 1 else "")  # one point makes no line
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        if axes.lines:
            # Above the panel: within it, it would hide a curve.
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), fontsize="small", ncols=8, frameon=False)
    figure.axes[-1].set_xlabel("steps")
    figure.suptitle(title)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan
