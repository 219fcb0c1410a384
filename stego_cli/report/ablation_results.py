"""`results.jsonl`: a line for every finished cell, and what the lines say together."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stego_cli.errors import StegoError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

RESULTS_NAME = "results.jsonl"
VARIANCE_NAME = "variance.json"
FORMAT = 1
HEADS = ("cluster", "cluster_crf", "linear", "linear_crf")
DONE, FAILED = "done", "failed"

Line = dict[str, Any]


def read_lines(path: Path) -> list[Line]:
    """Return the lines of a results file, the last one of each cell; a last line that was cut off is passed over.

    Raises:
        StegoError: If there is no such file, or another line than the last is no result.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise StegoError(
            f"no results at `{printable(path)}`: {error.strerror}\n\nhint: `stego ablate run` makes them"
        ) from error
    except UnicodeDecodeError as error:
        raise _no_results(path, "it is no text") from error
    lines: dict[str, Line] = {}
    whole, _, _ = text.rpartition("\n")
    for number, content in enumerate(whole.split("\n") if whole else [], start=1):
        line = _parsed(content)
        if line is None:
            raise _no_results(path, f"line {number} is damaged")
        lines[line["key"]] = line
    return list(lines.values())


def read_variance(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the share of the variance along every principal axis, by ground; nothing where nobody computed it."""
    try:
        found = json.loads((folder / VARIANCE_NAME).read_text("utf-8"))
        return {name: each for name, each in found.items() if {"dataset", "backbone", "ratio"} <= each.keys()}
    except (OSError, ValueError, AttributeError):
        return {}


def _parsed(text: str) -> Line | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and {"key", "status", "format"} <= line.keys() else None


def _no_results(path: Path, why: str) -> StegoError:
    return StegoError(
        f"`{printable(path)}` cannot be read as results: {why}\n\n"
        "hint: remove that line, or start anew with --overwrite"
    )


@dataclass(frozen=True)
class Place:
    """What results are compared within.

    Attributes:
        dataset: Its name.
        backbone: Its name.
    """

    dataset: str
    backbone: str

    @property
    def slug(self) -> str:
        """Name for files."""
        return "-".join(part.replace("/", "_").replace(" ", "_") for part in (self.dataset, self.backbone))


@dataclass(frozen=True)
class Point:
    """One method at one dimension, over all seeds.

    Attributes:
        place: Dataset and backbone.
        method: Name of the method.
        dim: Channels of its code.
        head: Probe, with or without the CRF.
        seeds: The seeds, in order.
        miou: Of each seed; a fraction.
        accuracy: Of each seed; a fraction.
        per_class: By class: `iou`, `precision` and `recall` of each seed; None where nothing could be measured.
        released: Whether it is a finished model that was measured, and not a cell of the grid.
        name: Of such a model.
    """

    place: Place
    method: str
    dim: int
    head: str
    seeds: tuple[int, ...]
    miou: tuple[float, ...]
    accuracy: tuple[float, ...]
    per_class: dict[str, dict[str, tuple[float | None, ...]]]
    released: bool = False
    name: str = ""

    def values(self, measure: str) -> tuple[float, ...]:
        """Return `miou` or `accuracy` of each seed."""
        found: tuple[float, ...] = getattr(self, measure)
        return found


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the deviation of the sample, 0 for a single value.

    Example:
        >>> mean_and_spread([0.25, 0.75])
        (0.5, 0.3535533905932738)
    """
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def points_of(lines: Iterable[Line]) -> list[Point]:
    """Put the finished cells of each method and dimension together."""
    together: dict[tuple[Any, ...], list[Line]] = defaultdict(list)
    for line in lines:
        if line["status"] == DONE:
            released = line.get("checkpoint") or ""
            together[line["dataset"], line["backbone"], line["method"], line["dim"], released].append(line)
    points = []
    for (dataset, backbone, method, dim, released), cells in together.items():
        cells.sort(key=lambda line: line["seed"] or 0)
        for head in HEADS:
            measured = [line for line in cells if line.get(head) and line[head]["miou"] is not None]
            if measured:
                points.append(
                    Point(
                        Place(dataset, backbone),
                        method,
                        dim,
                        head,
                        tuple(line["seed"] or 0 for line in measured),
                        tuple(line[head]["miou"] for line in measured),
                        tuple(line[head]["accuracy"] for line in measured),
                        _per_class([line[head]["per_class"] for line in measured]),
                        bool(released),
                        released,
                    )
                )
    return points


def _per_class(cells: list[dict[str, dict[str, float | None]]]) -> dict[str, dict[str, tuple[float | None, ...]]]:
    return {
        name: {
            measure: tuple(cell[name][measure] for cell in cells if name in cell)
            for measure in ("iou", "precision", "recall")
        }
        for name in cells[0]
    }


def places_of(points: Iterable[Point]) -> list[Place]:
    """Return what there are results of, in their order."""
    return list(dict.fromkeys(point.place for point in points))
