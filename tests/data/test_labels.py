from __future__ import annotations

import pytest

from stego_cli.data.labels import anonymous_label_space, available_label_spaces, load_label_space
from stego_cli.errors import ConfigError

SIZES = {
    "camvid": 11,
    "cityscapes": 27,
    "cocostuff15": 15,
    "cocostuff27": 27,
    "cocostuff3": 3,
    "potsdam": 3,
    "voc2012": 21,
}


def test_these_come_with_the_package() -> None:
    assert available_label_spaces() == tuple(SIZES)


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_every_label_space_is_whole_and_its_names_can_be_told_apart(name: str, size: int) -> None:
    space = load_label_space(name)
    assert space.name == name
    assert len(space) == len(space.names) == len(space.colours) == size
    assert len(set(space.names)) == size


def test_repeated_names_are_told_apart() -> None:
    assert [name for name in load_label_space("cocostuff27").names if "(" in name] == [
        "food (things)",
        "furniture (things)",
        "food (stuff)",
        "furniture (stuff)",
    ]


def test_cocostuff15_is_the_end_of_cocostuff27() -> None:
    every, stuff = load_label_space("cocostuff27"), load_label_space("cocostuff15")
    assert every.colours[12:] == stuff.colours
    assert [name.removesuffix(" (stuff)") for name in every.names[12:]] == list(stuff.names)


def test_cocostuff3_names_its_ids_by_what_they_are() -> None:
    assert load_label_space("cocostuff3").names == ("sky", "plant", "ground")


@pytest.mark.parametrize(
    ("name", "hint"), [("camvit", "did you mean `camvid`"), ("???", "use one of camvid"), ("../labels", "hint")]
)
def test_an_unknown_name_is_answered_with_the_next_step(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_label_space(name)
    assert name in str(caught.value)
    assert hint in str(caught.value)


def test_unnamed_classes_are_numbered_by_kind() -> None:
    space = anonymous_label_space(2, kind="group")
    assert space.names == ("group 0", "group 1")
    assert len(space.colours) == 2


@pytest.mark.parametrize("n", [0, 1001])
def test_a_number_of_classes_that_cannot_be_coloured_is_refused(n: int) -> None:
    with pytest.raises(ConfigError, match="from 1 to 1000"):
        anonymous_label_space(n)
