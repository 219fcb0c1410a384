"""The record of a prediction folder survives kills and never mixes settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stego_cli.engine.ledger import JOURNAL_NAME, RESULT_NAME, Ledger
from stego_cli.errors import OutputError
from stego_cli.progress import Silence
from support import Heard


def record(name: str, status: str = "done") -> dict[str, Any]:
    facts = {} if status == "failed" else {"height": 1, "width": 1, "source": {}, "shares": {}, "notes": []}
    return {"input": f"/{name}.jpg", "name": name, "status": status, **facts}


def opened(out: Path, report: Silence | None = None, **fingerprint: Any) -> Ledger:
    return Ledger(out, fingerprint or {"model": "m"}, overwrite=False, report=report or Silence())


def content(*records: dict[str, Any]) -> dict[str, Any]:
    return {"format": 1, "images": list(records)}


def test_a_finished_run_is_remembered_without_its_failures(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.add("/a.jpg", record("a"))
        ledger.finish(content(record("a"), record("b", "failed")))
    assert opened(tmp_path).names() == {"/a.jpg": "a"}
    assert not (tmp_path / JOURNAL_NAME).exists()


def test_a_killed_run_is_remembered_from_its_journal(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.add("/a.jpg", record("a"))
        ledger.add("/b.jpg", record("b"))
    with (tmp_path / JOURNAL_NAME).open("a") as file:
        file.write('{"key": "/c.jpg", "reco')  # the kill came in the middle of a line
    assert opened(tmp_path).names() == {"/a.jpg": "a", "/b.jpg": "b"}


def test_a_second_kill_loses_nothing_of_the_first_run(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.add("/a.jpg", record("a"))
    with opened(tmp_path) as ledger:
        ledger.add("/b.jpg", record("b"))
    assert set(opened(tmp_path).records) == {"/a.jpg", "/b.jpg"}


@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_are_refused_by_name(tmp_path: Path, *, finished: bool) -> None:
    with opened(tmp_path, model="m", crf=False) as ledger:
        ledger.add("/a.jpg", record("a"))
        if finished:
            ledger.finish(content(record("a")))
    with pytest.raises(OutputError, match="crf: no there, yes now") as caught:
        opened(tmp_path, model="m", crf=True)
    assert "model" not in str(caught.value).split("hint")[0].split("settings:")[1]
    assert "--overwrite" in str(caught.value)


def test_overwrite_forgets(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.finish(content(record("a")))
    assert not Ledger(tmp_path, {"model": "other"}, overwrite=True, report=Silence()).records


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 1}', "\x00\xff"])
def test_a_damaged_record_is_said_and_set_aside(tmp_path: Path, text: str) -> None:
    (tmp_path / RESULT_NAME).write_text(text)
    heard = Heard()
    assert not opened(tmp_path, heard).records
    assert "cannot be read" in heard.warnings[0]


def test_a_record_of_a_later_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / RESULT_NAME).write_text(json.dumps({"format": 99, "images": []}))
    with pytest.raises(OutputError, match="format 99"):
        opened(tmp_path)


@pytest.mark.parametrize("line", ["5", "[]", '{"foo": 1}', '{"key": "/b.jpg", "record": {"status": "done"}}'])
def test_a_strange_line_of_the_journal_is_passed_over(tmp_path: Path, line: str) -> None:
    with opened(tmp_path) as ledger:
        ledger.add("/a.jpg", record("a"))
    with (tmp_path / JOURNAL_NAME).open("a") as file:
        file.write(line + "\n")
    assert opened(tmp_path).names() == {"/a.jpg": "a"}


def test_a_run_that_overwrites_and_is_cut_off_can_go_on(tmp_path: Path) -> None:
    with opened(tmp_path, model="old") as ledger:
        ledger.finish(content(record("a")))
    with Ledger(tmp_path, {"model": "new"}, overwrite=True, report=Silence()) as ledger:
        ledger.add("/b.jpg", record("b"))
    assert opened(tmp_path, model="new").names() == {"/b.jpg": "b"}
