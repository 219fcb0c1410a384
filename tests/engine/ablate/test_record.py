"""`results.jsonl`: what survives a kill, what is refused, and in which order lines end up."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import pytest

from stego_cli.engine.ablate.record import Results, as_text
from stego_cli.errors import OutputError, StegoError
from stego_cli.report.ablation_results import read_lines


def line(key: str, status: str = "done", **more: Any) -> dict[str, Any]:
    return {"format": 1, "key": key, "status": status, "settings": {"train": {"steps": 5}}, **more}


def written(folder: Path, *lines: dict[str, Any]) -> Results:
    results = Results(folder, overwrite=False)
    results.begin(overwrite=False)
    for each in lines:
        results.add(each)
    return results


def test_a_torn_last_line_is_passed_over_and_cut_off(tmp_path: Path) -> None:
    results = written(tmp_path, line("a"), line("b"))
    whole = results.path.read_bytes()
    for cut in (1, 5, len(as_text(line("b"))) - 1):
        results.path.write_bytes(whole[:-cut])
        again = Results(tmp_path, overwrite=False)
        assert list(again.lines) == ["a"]
        again.begin(overwrite=False)
        again.add(line("b"))
        assert results.path.read_bytes() == whole


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    results = written(tmp_path, line("a"), line("b"), line("c"))
    text = results.path.read_text().splitlines(keepends=True)
    results.path.write_text(text[0] + "{no\n" + text[2])
    with pytest.raises(StegoError, match="line 2 is damaged"):
        read_lines(results.path)


def test_no_results_say_what_makes_them(tmp_path: Path) -> None:
    with pytest.raises(StegoError, match="stego ablate run"):
        read_lines(tmp_path / "results.jsonl")


def test_a_failed_cell_is_not_done_and_its_later_line_counts(tmp_path: Path) -> None:
    results = written(tmp_path, line("a", "failed", error="x"))
    assert not Results(tmp_path, overwrite=False).is_done("a")
    results.add(line("a"))
    assert Results(tmp_path, overwrite=False).is_done("a")
    results.settle(["a"])
    assert results.path.read_text() == as_text(line("a"))


def test_lines_end_up_in_the_order_of_the_plan_with_others_behind(tmp_path: Path) -> None:
    results = written(tmp_path, line("c"), line("old"), line("a"), line("b"))
    results.settle(["a", "b", "c"])
    assert [each["key"] for each in read_lines(results.path)] == ["a", "b", "c", "old"]


def test_overwrite_begins_anew(tmp_path: Path) -> None:
    written(tmp_path, line("a"))
    results = Results(tmp_path, overwrite=True)
    assert not results.is_done("a")
    results.begin(overwrite=True)
    assert results.path.read_bytes() == b""


def test_cells_of_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    results = written(tmp_path, line("a", method_config={"kind": "pca", "code_dim": 3}))
    same = {"train": {"steps": 5}}
    results.refuse_others(same, {"a": {"method_config": {"kind": "pca", "code_dim": 3}}})
    with pytest.raises(OutputError, match=r"train.steps: 5 before, 6 now"):
        results.refuse_others({"train": {"steps": 6}}, {})
    with pytest.raises(OutputError, match=r"method_config.code_dim: 3 before, 4 now"):
        results.refuse_others(same, {"a": {"method_config": {"kind": "pca", "code_dim": 4}}})


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = written(tmp_path, line("a"))
    before = results.path.read_bytes()

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            super().write(bytes(data)[:7])
            return 7

    monkeypatch.setattr(Path, "open", lambda self, mode, buffering: Full(self, "ab"))
    with pytest.raises(OutputError, match="no space left") as caught:
        results.add(line("b"))
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    monkeypatch.undo()
    assert results.path.read_bytes() == before
