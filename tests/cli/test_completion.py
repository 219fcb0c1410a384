"""What shells suggest."""

from __future__ import annotations

from pathlib import Path

import pytest

from stego_cli.cli.completion import complete_from, complete_model, complete_save


def test_words_are_completed_by_their_beginning() -> None:
    assert complete_from(["a1", "a2", "b"])("a") == ["a1", "a2"]
    assert complete_from(["a1", "a2", "b"])("c") == []


def test_comma_lists_are_completed_word_by_word() -> None:
    assert complete_save("") == ["labels", "overlay", "probs", "html"]
    assert complete_save("labels,") == ["labels,overlay", "labels,probs", "labels,html"]
    assert complete_save("labels,x") == []


def test_models_are_completed_by_name_and_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "emma.safetensors").touch()
    (tmp_path / "emma.txt").touch()
    assert complete_model("em") == ["embedded", "emma.safetensors"]
