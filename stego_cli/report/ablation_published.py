"""The numbers of the study that results are compared with."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import yaml
from pydantic import Field

from stego_cli.config.base import Block

if TYPE_CHECKING:
    from stego_cli.report.ablation_results import Place, Point

Values = tuple[float, ...]


class Curves(Block):
    """Scores over dimensions, percent, without CRF."""

    backbone: str
    mark: str
    released_dim: int
    dims: tuple[int, ...]
    linear: dict[str, Values]
    cluster: dict[str, Values]


class Row(Block):
    """One row of table 2: mIoU in percent."""

    linear: float
    linear_crf: float
    cluster: float
    cluster_crf: float
    mark: str
    about: tuple[str, ...] = ()


class Printed(Block):
    """What the reference's script printed, percent."""

    accuracy: float
    miou: float
    mark: str


class Study(Block):
    """All published numbers; see `catalog/study.yaml` for what their marks mean."""

    source: str
    curves: dict[str, Curves]
    table2: dict[str, dict[str, Row]]
    golden: dict[str, dict[str, Printed]] = Field(description="By checkpoint and head.")


@cache
def study() -> Study:
    """Return the published numbers."""
    text = files("stego_cli.catalog").joinpath("study.yaml").read_text("utf-8")
    return Study.model_validate(yaml.safe_load(text))


def published_curve(place: Place, method: str, head: str) -> dict[int, float]:
    """Return the published mIoU over dimensions, fractions; nothing where none is of this dataset and backbone."""
    curves = study().curves.get(place.dataset)
    if curves is None or curves.backbone != place.backbone or head not in {"linear", "cluster"}:
        return {}
    values = (curves.linear if head == "linear" else curves.cluster).get(method, ())
    return {dim: value / 100 for dim, value in zip(curves.dims, values, strict=False)}


def published(point: Point, measure: str = "miou") -> tuple[float, str] | None:
    """Return the published value that a point is compared with, a fraction, and its source mark; None for none."""
    if point.released and (printed := study().golden.get(point.name, {}).get(point.head)):
        return (printed.miou if measure == "miou" else printed.accuracy) / 100, printed.mark
    if measure != "miou":
        return None
    curves = study().curves.get(point.place.dataset)
    if curves is None or curves.backbone != point.place.backbone:
        return None
    if point.released or point.method == "dino":
        row = study().table2[point.place.dataset].get(point.method)
        if row is None:
            return None
        return getattr(row, point.head) / 100, row.mark + (", about" if point.head in row.about else "")
    value = published_curve(point.place, point.method, point.head).get(point.dim)
    return None if value is None else (value, curves.mark)


def published_dim(dataset: str) -> int:
    """Return the dimension of the published model of a dataset, or that of most of them."""
    curves = study().curves.get(dataset)
    return curves.released_dim if curves else 90
