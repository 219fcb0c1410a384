"""Figures and tables of a grid, from results made by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from stego_cli.errors import StegoError
from stego_cli.progress import Silence
from stego_cli.report.ablation import common_dim, plot_results
from stego_cli.report.ablation_figures import _within
from stego_cli.report.ablation_published import published, published_curve, study
from stego_cli.report.ablation_results import Place, mean_and_spread, points_of
from stego_cli.report.ablation_style import LOOKS
from stego_cli.report.ablation_tables import summary_rows, table2

COCO = ("cocostuff27", "dino_vitb8")


def scores(miou: float) -> dict[str, Any]:
    per_class = {name: {"iou": miou, "precision": None if name == "b" else 0.5, "recall": 0.25} for name in "ab"}
    return {"miou": miou, "accuracy": miou + 0.1, "per_class": per_class}


def line(method: str, dim: int, seed: int, miou: float, *, crf: bool = False, **more: Any) -> dict[str, Any]:
    dataset, backbone = more.pop("place", COCO)
    return {
        "format": 1,
        "key": f"{dataset}/{backbone}/{method}-{dim}/{seed}/{more.get('checkpoint', '')}",
        "status": "done",
        "dataset": dataset,
        "backbone": backbone,
        "method": method,
        "dim": dim,
        "seed": seed,
        "cluster": scores(miou),
        "linear": scores(miou + 0.05),
        "cluster_crf": scores(miou + 0.02) if crf else None,
        "linear_crf": scores(miou + 0.07) if crf else None,
        **more,
    }


def write(folder: Path, *lines: dict[str, Any], torn: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(each) + "\n" for each in lines)
    (folder / "results.jsonl").write_text(text + torn)
    return folder


def grid(**more: Any) -> list[dict[str, Any]]:
    cells = [
        line(method, dim, seed, 0.1 + 0.01 * seed + 0.001 * dim, **more)
        for method in ("pca", "stego")
        for dim in (3, 90)
        for seed in (0, 1, 2)
    ]
    return [*cells, line("dino", 768, 0, 0.12, **more), line("dino", 768, 1, 0.14, **more)]


def test_points_put_seeds_together() -> None:
    points = points_of(grid())
    point = next(each for each in points if (each.method, each.dim, each.head) == ("pca", 3, "cluster"))
    assert point.seeds == (0, 1, 2)
    assert point.miou == pytest.approx((0.103, 0.113, 0.123))
    mean, spread = mean_and_spread(point.miou)
    assert (mean, spread) == (pytest.approx(0.113), pytest.approx(0.01))
    assert point.per_class["b"]["precision"] == (None, None, None)


def test_failed_cells_are_left_out(tmp_path: Path) -> None:
    failed = {**line("rp", 3, 0, 0.5), "status": "failed", "error": "x"}
    folder = write(tmp_path, *grid(), failed, torn='{"format": 1, "ke')
    plot_results([folder], None, None, Silence())
    assert "rp" not in (folder / "figures" / "ablation.csv").read_text()


def test_published_values_are_those_of_dataset_and_backbone() -> None:
    place = Place(*COCO)
    assert published_curve(place, "pca", "linear")[90] == pytest.approx(0.31)
    assert published_curve(Place("cocostuff27", "dino_vits8"), "pca", "linear") == {}
    assert published_curve(place, "hnne", "linear") == {}
    points = {(each.method, each.dim, each.head): each for each in points_of(grid(crf=True))}
    assert published(points["stego", 90, "cluster"]) == (pytest.approx(0.262), "F")
    assert published(points["dino", 768, "cluster_crf"]) == (pytest.approx(0.13), "F, about")
    assert published(points["pca", 90, "cluster_crf"]) is None
    assert published(points["stego", 90, "cluster"], "accuracy") is None


def test_every_published_curve_has_a_value_for_each_dimension() -> None:
    for curves in study().curves.values():
        for values in (*curves.linear.values(), *curves.cluster.values()):
            assert len(values) == len(curves.dims)
        assert curves.released_dim in curves.dims
    assert study().curves.keys() == study().table2.keys()


def test_released_models_are_compared_with_what_the_reference_printed() -> None:
    released = line("stego", 90, 0, 0.26, crf=True, checkpoint="cocostuff27_vit_base_5")
    points = points_of([released, *grid(crf=True)])
    own = {point.head: point for point in points if point.released}
    assert published(own["cluster_crf"]) == (pytest.approx(0.281874), "E")
    assert published(own["cluster_crf"], "accuracy") == (pytest.approx(0.569293), "E")
    assert published(own["cluster"]) == (pytest.approx(0.268), "F")
    table = table2(points)
    assert "28.2 (E)" in table
    assert "-0.2" in table  # 28.0 found, 28.1874 published
    assert table.count("| cocostuff27 ") == 2  # the released model, and features alone
    assert table2(points_of(grid())) == ""


def test_all_figures_are_written_as_png_and_pdf(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", *grid(crf=True))
    ratio = {"x": {"dataset": "cocostuff27", "backbone": "dino_vitb8", "ratio": [1 / 768] * 768}}
    (folder / "variance.json").write_text(json.dumps(ratio))
    other = write(tmp_path / "b", *grid(place=("camvid", "filterbank")))
    written = plot_results([folder, other], tmp_path / "out", None, Silence())
    names = {path.name for path in written}
    for name in ("explained_variance", "miou-cocostuff27-dino_vitb8", "classes-linear_crf-cocostuff27-dino_vitb8"):
        assert {f"{name}.png", f"{name}.pdf"} <= names
    assert "classes-linear_crf-camvid-filterbank.png" not in names
    for path in written:
        if path.suffix == ".png":
            assert min(Image.open(path).size) > 300
        elif path.suffix == ".pdf":
            assert path.read_bytes().startswith(b"%PDF")


def test_the_same_results_give_the_same_files(tmp_path: Path) -> None:
    folder = write(tmp_path, *grid())
    first = {path: path.read_bytes() for path in plot_results([folder], None, None, Silence())}
    second = {path: path.read_bytes() for path in plot_results([folder], None, None, Silence())}
    assert [path.name for path in first if first[path] != second[path]] == []


def test_csv_holds_every_number_with_its_spread(tmp_path: Path) -> None:
    folder = write(tmp_path, *grid())
    plot_results([folder], None, None, Silence())
    rows = list(csv.DictReader((folder / "figures" / "ablation.csv").open()))
    assert len(rows) == 5 * 2 * 2  # cells, heads, measures
    (row,) = [r for r in rows if (r["method"], r["dim"], r["head"], r["measure"]) == ("stego", "3", "cluster", "miou")]
    assert (row["mean"], row["deviation"], row["seeds"]) == ("11.30", "1.00", "3")
    assert (row["published"], row["source"], row["difference"]) == ("13.10", "F", "-1.80")
    assert "| STEGO   | 3 " in (folder / "figures" / "ablation.md").read_text()


def test_classes_are_compared_where_most_methods_are() -> None:
    points = points_of([*grid(), line("rp", 48, 0, 0.1), line("rp", 3, 0, 0.1)])
    assert common_dim(points, 90) == 3
    assert common_dim(points_of(grid()), 100) == 90
    assert common_dim(points_of([line("dino", 768, 0, 0.1)]), 70) == 70


def test_the_terminal_shows_what_was_measured() -> None:
    rows = summary_rows(points_of(grid()))
    assert rows[0][4:] == ("cluster mIoU %", "cluster accuracy %", "linear mIoU %", "linear accuracy %")
    assert rows[1][:5] == ("cocostuff27", "dino_vitb8", "pca", "3", "11.3 ± 1.0")


def test_bars_stay_within_a_percentage() -> None:
    assert _within([2.0, 99.0], [5.0, 5.0]) == [[2.0, 5.0], [5.0, 1.0]]
    assert _within([2.0], [0.0]) is None


def test_no_two_methods_look_alike_without_colour() -> None:
    assert len({str(look.line) for look in LOOKS.values()}) == len(LOOKS)
    assert len({look.marker for look in LOOKS.values()}) == len(LOOKS)


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    with pytest.raises(StegoError, match="stego ablate run"):
        plot_results([tmp_path], None, None, Silence())
    folder = write(tmp_path, {**line("pca", 3, 0, 0.5), "status": "failed", "error": "x"})
    with pytest.raises(StegoError, match="is finished"):
        plot_results([folder], None, None, Silence())
