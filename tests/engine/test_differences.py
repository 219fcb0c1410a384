"""What differs between settings, in words."""

from __future__ import annotations

from stego_cli.engine.differences import differences


def test_differences_are_in_words() -> None:
    assert differences({"crf": False, "x": 1}, {"crf": True, "y": None}) == [
        "crf: no before, yes now",
        "x: 1 before, none now",
    ]


def test_blocks_are_looked_into_and_named() -> None:
    before = {"train": {"steps": 5, "loss": {"a": 0.5, "b": 1}}, "same": [1, 2]}
    now = {"train": {"steps": 5, "loss": {"a": 0.25, "b": 1}}, "same": [1, 2]}
    assert differences(before, now) == ["train.loss.a: 0.5 before, 0.25 now"]
    assert differences({"train": None}, {"train": {"steps": 1}}) == ["train: none before, {'steps': 1} now"]


def test_equal_settings_have_none() -> None:
    assert differences({"a": {"b": True}}, {"a": {"b": True}}) == []
