"""The page of `stego eval`, made from results alone."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stego_cli.report.eval_report import NO_CLASS, confusion_of, embedded, eval_page, page_context


def scores(miou: float) -> dict[str, Any]:
    values = {"iou": miou, "precision": None, "recall": 0.5}
    return {"miou": miou, "accuracy": 0.75, "per_class": {"oak": values, "ash": values}}


def entry(folder: Path, **changes: Any) -> dict[str, Any]:
    place = folder / "one"
    place.mkdir(exist_ok=True)
    Image.new("RGB", (4, 4)).save(place / "0.png")
    (place / "images.csv").write_text("image,pixels\na.png,16\n")
    head = {"cluster": scores(0.5), "linear": None, "cluster_crf": None, "linear_crf": None}
    return {
        **head,
        "checkpoint": "mine",
        "dataset": "wood",
        "split": "val",
        "protocol": "paper",
        "images": 1,
        "clusters": 3,
        "classes": 2,
        "extra": "errors",
        "notes": ["linear is not scored"],
        "skipped": [],
        "seconds": 1.5,
        "versions": {"stego": "0"},
        "weights": {"fingerprint": "abc", "backbone_sha256": "", "seed": None},
        "model": {"title": "t", "trained_on": "", "backbone": "b", "method": "m", "licence": "l"},
        "config": {"protocol": "paper", "crf_parameters": {}, "out": None, "splits": ["val"]},
        "label_space": {"name": "trees", "names": ["oak", "ash"], "colours": [[1, 2, 3], [4, 5, 6]]},
        "cluster_to_class": {"cluster": [1, 0, -1]},
        "confusion": {"cluster": [[0, 5], [7, 1], [2, 0]]},
        "folder": "one",
        "examples": [
            {
                "name": "a.png",
                "why": "best",
                "accuracy": {"cluster": 0.75},
                "pictures": {"image": "0.png", "cluster": "0.png"},
            }
        ],
        **changes,
    }


def test_confusions_are_of_classes_with_what_is_left_over_last(tmp_path: Path) -> None:
    counts, names = confusion_of(entry(tmp_path), "cluster")
    assert names == ["oak", "ash", NO_CLASS]
    assert counts.tolist() == [[7, 0, 2], [1, 5, 0]]
    dropped, names = confusion_of(entry(tmp_path, extra="reference"), "cluster")
    assert names == ["oak", "ash"]
    assert dropped.tolist() == [[7, 0], [1, 5]]


def test_rows_of_the_linear_probe_are_classes_already(tmp_path: Path) -> None:
    counts, names = confusion_of(entry(tmp_path, confusion={"linear": [[3, 1], [0, 4]]}), "linear")
    assert names == ["oak", "ash"]
    assert np.array_equal(counts, [[3, 0], [1, 4]])  # rows are labels here, predictions in the counts


def test_the_page_holds_everything_itself(tmp_path: Path) -> None:
    page = eval_page(tmp_path, [entry(tmp_path)])
    picture = base64.b64encode((tmp_path / "one/0.png").read_bytes()).decode()
    assert page.count(f"data:image/png;base64,{picture}") == 2
    assert "data:text/csv;base64," in page
    assert "75.0 % right" in page
    assert "linear is not scored" in page
    assert "50.0" in page


def test_names_are_text_whatever_they_hold(tmp_path: Path) -> None:
    space = {"name": "x", "names": ["<i>", "ash"], "colours": [[1, 2, 3], [4, 5, 6]]}
    values = scores(0.5)["per_class"]["oak"]
    odd = {**scores(0.5), "per_class": {"<i>": values, "ash": values}}
    page = eval_page(
        tmp_path, [entry(tmp_path, checkpoint="<script>", label_space=space, cluster=odd, skipped=["<u>"])]
    )
    for raw in ("<script>", "<u>", "</i><i>", "<i> predicted"):
        assert raw not in page
    assert "&lt;script&gt;" in page


def test_the_best_of_several_is_marked_and_a_single_one_is_not(tmp_path: Path) -> None:
    better = entry(tmp_path, cluster=scores(0.6))
    assert page_context(tmp_path, [entry(tmp_path), better])["best"] == {"cluster": 0.6}
    assert "60.0 ★" in eval_page(tmp_path, [entry(tmp_path), better])
    assert "★" not in eval_page(tmp_path, [better])


def test_many_to_one_says_that_it_cannot_be_compared(tmp_path: Path) -> None:
    page = eval_page(tmp_path, [entry(tmp_path, cluster_many_to_one=scores(0.9))])
    assert "uses labels, not comparable" in page
    assert "uses labels, not comparable" not in eval_page(tmp_path, [entry(tmp_path)])


def test_a_score_that_does_not_exist_is_a_dash(tmp_path: Path) -> None:
    nothing = {**scores(0.5), "miou": None}
    assert ">-</td>" in eval_page(tmp_path, [entry(tmp_path, cluster=nothing)])


def test_only_known_kinds_of_files_are_embedded(tmp_path: Path) -> None:
    path = tmp_path / "x.exe"
    path.write_bytes(b"")
    with pytest.raises(KeyError):
        embedded(path)
