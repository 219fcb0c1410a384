"""Output folders while somebody works in them, and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stego_cli.engine.workplace import workplace

if TYPE_CHECKING:
    from pathlib import Path


def test_folders_that_were_made_for_nothing_go_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), workplace(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_use_or_was_there_before_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with workplace(tmp_path / "mine" / "a" / "b"):
        (tmp_path / "mine" / "a" / "found").touch()
    assert (tmp_path / "mine" / "a" / "found").exists()
    assert not (tmp_path / "mine" / "a" / "b").exists()
    (tmp_path / "empty").mkdir()
    with workplace(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").is_dir()
