"""The confusion matrix as a drawing."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np

from stego_cli.report.confusion_figure import confusion_figure

SVG = "{http://www.w3.org/2000/svg}"


def draw(counts: list[list[float]], columns: list[str] | None = None, rows: list[str] | None = None) -> ET.Element:
    rows = rows or [f"row{place}" for place in range(len(counts))]
    return ET.fromstring(confusion_figure(np.array(counts, float), rows, columns or rows, "a <title> & more"))


def test_darkness_and_numbers_are_shares_of_a_row() -> None:
    figure = draw([[30, 10], [0, 8]])
    cells = [rect for rect in figure.iter(f"{SVG}rect") if "fill-opacity" in rect.attrib]
    assert [float(cell.attrib["fill-opacity"]) for cell in cells] == [0.66, 0.22, 0.0, 0.88]
    numbers = [text.text for text in figure.iter(f"{SVG}text") if "cell" in text.attrib.get("class", "")]
    assert numbers == ["75", "25", "100"]


def test_a_class_without_pixels_has_an_empty_row() -> None:
    figure = draw([[0, 0], [0, 8]])
    assert "row0 predicted as row1: 0.0 %" in [title.text for title in figure.iter(f"{SVG}title")]


def test_predictions_of_no_class_have_a_column_of_their_own() -> None:
    figure = draw([[1, 0, 1], [0, 2, 0]], ["a", "b", "(no class)"], ["a", "b"])
    assert "a predicted as (no class): 50.0 %" in [title.text for title in figure.iter(f"{SVG}title")]
    assert len([rect for rect in figure.iter(f"{SVG}rect") if rect.attrib.get("class") == "right"]) == 2


def test_names_are_text_whatever_they_hold_and_long_ones_are_cut() -> None:
    figure = draw([[1]], rows=["<script>&" + "x" * 40])
    names = [text.text or "" for text in figure.iter(f"{SVG}text")]
    assert any(name.startswith("<script>&") and name.endswith("…") for name in names)
    assert all(len(name) <= 22 for name in names)


def test_no_colour_is_needed_to_read_it() -> None:
    drawn = confusion_figure(np.eye(40), [str(place) for place in range(40)], [str(place) for place in range(40)], "t")
    assert set(re.findall(r'fill="([^"]+)"', drawn)) == {"currentColor"}
    assert 'class="cell' not in drawn  # too many for numbers
