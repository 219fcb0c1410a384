"""Reading of settings files: the right types, and every broken text named with its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stego_cli.config.yaml_text import YamlProblem, parse_yaml, read_settings_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-4", 0.0005),
        ("1E3", 1000.0),
        ("-.5", -0.5),
        ("010", 10),
        ("1_000", 1000),
        ("0x1F", 31),
        ("+7", 7),
        ("true", True),
        ("False", False),
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("'5'", "5"),
        ("~", None),
        ("", None),
        ("# only a comment", None),
        ("[a, 2]", ["a", 2]),
    ],
)
def test_values_have_the_type_that_people_expect(text: str, value: Any) -> None:
    read = parse_yaml(text)
    assert read == value
    assert type(read) is type(value)


def test_anchors_and_merges_work_and_own_keys_win() -> None:
    assert parse_yaml("base: &b {x: 1, y: 1}\nother: {<<: *b, y: 2}")["other"] == {"x": 1, "y": 2}


def test_keys_stay_as_written() -> None:
    assert parse_yaml("1: a\nnull: b\n010: c") == {"1": "a", "null": "b", "010": "c"}


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: [1", "line 1, column 6", "expected"),
        ("a: 1\nb: 2\na: 3", "line 3, column 1", "`a` is written twice, first on line 1"),
        ("{x: {k: 1, k: 2}}", "line 1, column 12", "written twice"),
        ("a:\n\tb: 1", "line 2, column 1", "tab"),
        ("a: b: c", "line 1, column 5", "mapping values"),
        ("a: 1\n---\nb: 2", "line 2, column 1", "single document"),
        ("*nobody", "line 1, column 1", "nobody"),
        ("a: &x {b: *x}", "line 1, column 4", "contains itself"),
        ("a: &x [*x]", "line 1, column 4", "contains itself"),
        ("? [a]\n: b", "line 1, column 3", "plain word"),
        ("!!int many", "line 1, column 1", "'many'"),
        ("!!python/object/apply:os.system [ls]", "line 1, column 1", "python/object"),
        ("a: " + "9" * 5000, "line 1, column 4", "99999"),
        ("\x07", "", "character"),
        ("[" * 5000, "", "nested too deeply"),
    ],
)
def test_broken_texts_are_named_with_their_place(text: str, place: str, words: str) -> None:
    with pytest.raises(YamlProblem, match=words) as caught:
        parse_yaml(text)
    assert caught.value.place == place


def test_many_aliases_of_aliases_are_read_without_unfolding_them(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(lines))
    assert len(read_settings_file(path)) == 60


@pytest.mark.parametrize("content", [b"", b"\n# nothing here\n", b"---\n", b"\xef\xbb\xbf", b"~"])
def test_an_empty_file_holds_no_settings(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "empty.yaml"
    path.write_bytes(content)
    assert read_settings_file(path) == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"- a\n- b\n", "got a list"),
        (b"hello", "got a single value"),
        (b"name: caf\xe9", "UTF-8"),
        ("name: café".encode("utf-16"), "UTF-8"),
    ],
)
def test_files_that_hold_no_settings_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    with pytest.raises(YamlProblem, match=words):
        read_settings_file(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(YamlProblem, match="no such file"):
        read_settings_file(tmp_path / "absent.yaml")
    with pytest.raises(YamlProblem, match="directory"):
        read_settings_file(tmp_path)
