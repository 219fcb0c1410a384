"""Class counts, names and colours are those that the reference publishes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from stego_cli.data.labels import load_label_space

if TYPE_CHECKING:
    from pathlib import Path


def published_names(name: str) -> list[str]:
    """Return the names without what was added to tell repeated ones apart."""
    return [re.sub(r" \((things|stuff)\)$", "", own) for own in load_label_space(name).names]


@pytest.fixture(scope="module")
def facts(golden: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((golden / "stego" / "labels" / "facts.json").read_text())
    return loaded


@pytest.mark.parametrize("name", ["cocostuff27", "cocostuff15", "cocostuff3", "potsdam", "cityscapes"])
def test_number_of_classes(facts: dict[str, Any], name: str) -> None:
    assert len(load_label_space(name)) == facts["n_classes"][name]


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("cocostuff27", "cocostuff27"), ("potsdam", "potsdam"), ("cityscapes", "cityscapes"), ("voc2012", "voc")],
)
def test_names(facts: dict[str, Any], name: str, theirs: str) -> None:
    assert published_names(name) == facts["class_names"][theirs]


def test_cocostuff15_holds_the_stuff_classes_in_order(facts: dict[str, Any]) -> None:
    first = facts["cocostuff_first_stuff_index"]
    assert published_names("cocostuff15") == facts["class_names"]["cocostuff27"][first:]


def test_cocostuff3_holds_the_coarse_classes_in_the_order_of_their_ids(facts: dict[str, Any]) -> None:
    coarse = facts["class_names"]["cocostuff27"]
    expected = [coarse[index] for index in facts["cocostuff3"]["coarse_ids_in_order"]]
    assert published_names("cocostuff3") == expected


@pytest.mark.parametrize("name", ["cocostuff27", "voc2012"])
def test_colours_of_the_pascal_map(facts: dict[str, Any], name: str) -> None:
    space = load_label_space(name)
    assert [list(colour) for colour in space.colours] == facts["pascal_colormap"][: len(space)]


def test_colours_of_the_cityscapes_map(facts: dict[str, Any]) -> None:
    space = load_label_space("cityscapes")
    assert [list(colour) for colour in space.colours] == facts["cityscapes_colormap"][: len(space)]
