"""Progress and notes on stderr, results on stdout."""

from __future__ import annotations

import io
import json
import os
import sys
from typing import TYPE_CHECKING

import pytest

from stego_cli.cli import terminal
from stego_cli.cli.terminal import (
    Bars,
    Lines,
    ReaderLeftError,
    colours_wanted,
    duration,
    plain,
    print_json,
    show,
    show_facts,
    show_shares,
    terminal_report,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def watched(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Put a terminal in the place of stderr; called in the test itself, as pytest's own capture starts before it."""
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return screen


def slowly(clock: Clock, count: int, seconds: float) -> Iterator[int]:
    for index in range(count):
        yield index
        clock.now += seconds


def test_items_pass_through_unchanged() -> None:
    assert list(Lines().track(["a", "b"], "Reading", total=5)) == ["a", "b"]


def test_short_steps_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    list(Lines(clock=clock).track(slowly(clock, 10, 0.1), "Reading", total=10))
    assert capsys.readouterr().err == ""


def test_long_steps_say_how_far_they_are_and_how_they_went(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    list(Lines(clock=clock).track(slowly(clock, 30, 1.0), "Reading", total=40))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Reading: 11 of 40 (1.1/s, about ")
    assert lines[-1] == "Reading: 30 in 30.0 s (1/s)"
    assert 3 <= len(lines) <= 4


def test_more_items_than_announced_are_no_problem(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    list(Lines(clock=clock).track(slowly(clock, 20, 2.0), "Reading", total=1))
    assert "Reading: 6 of 6" in capsys.readouterr().err


def test_quiet_keeps_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with terminal_report(quiet=True) as report:
        report.note("a choice")
        report.warn("a skipped file")
    list(Lines(quiet=True, clock=clock).track(slowly(clock, 30, 1.0), "Reading", total=30))
    assert capsys.readouterr().err == "warning: a skipped file\n"


def test_nothing_said_on_the_way_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal_report() as report:
        report.note("note")
        report.warn("warning")
        list(report.track([1], "Reading", total=1))
    assert capsys.readouterr().out == ""


def test_without_a_terminal_there_are_lines_and_no_control_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal_report() as report:
        assert type(report) is Lines
        report.warn("x")
    assert "\x1b" not in capsys.readouterr().err


def test_a_terminal_gets_bars_and_notes_whole_above_them(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = watched(monkeypatch)
    monkeypatch.setattr(terminal, "PATIENCE", 0.0)
    with terminal_report() as report:
        assert isinstance(report, Bars)
        for item in report.track(range(3), "Reading [red]", total=3):
            report.note(f"note {item} [bold]kept[/bold] " + "x" * 200)
            report.progress.refresh()
    text = screen.getvalue()
    assert "Reading [red]" in text
    assert "2/3" in text
    assert "note 1 [bold]kept[/bold] " + "x" * 200 in text


def test_bars_of_short_steps_never_show(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = watched(monkeypatch)
    monkeypatch.setattr(terminal, "PATIENCE", 60.0)
    with terminal_report() as report:
        assert isinstance(report, Bars)
        for _ in report.track(range(3), "Reading", total=3):
            report.progress.refresh()
    assert "Reading" not in screen.getvalue()


def test_a_bar_goes_away_when_the_work_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    watched(monkeypatch)
    with terminal_report() as report:
        assert isinstance(report, Bars)
        for _ in report.track(range(3), "Reading", total=3):
            break
        assert report.progress.tasks == []


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colour_can_be_turned_off(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    screen = watched(monkeypatch)
    assert colours_wanted(screen)
    monkeypatch.setenv(name, value)
    assert not colours_wanted(screen)
    Lines().warn("careful")
    assert screen.getvalue() == "warning: careful\n"


def test_colour_marks_the_word_that_says_it_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = watched(monkeypatch)
    Lines().warn("careful")
    assert "\x1b[" in screen.getvalue()
    assert "warning:" in screen.getvalue()


def test_control_codes_in_names_are_shown_not_obeyed() -> None:
    assert plain("a\x1b[2J\x07\r\x9b\udce9b\tc\nd") == "a\\x1b[2J\\x07\\x0d\\x9b\\udce9b\tc\nd"


def test_durations_read_as_people_say_them() -> None:
    assert [duration(s) for s in (0.04, 59.94, 59.99, 60, 3599, 3600, 86400)] == [
        "0.0 s",
        "59.9 s",
        "1 min 0 s",
        "1 min 0 s",
        "59 min 59 s",
        "1 h 0 min",
        "24 h 0 min",
    ]


def test_shares_are_a_table_in_percent_in_the_order_given(capsys: pytest.CaptureFixture[str]) -> None:
    show_shares("classes", {"sky [blue]": 0.25, "road": 0.75})
    out = capsys.readouterr().out
    assert out.index("classes") < out.index("sky [blue]") < out.index("road")
    assert "25.0" in out
    assert "75.0" in out


def test_facts_are_aligned_also_over_several_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show_facts("this", [("a", "1"), ("long", "2\n3")])
    assert capsys.readouterr().out == "this\n  a     1\n  long  2\n        3\n"


def test_json_is_one_object_that_every_reader_takes(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "caf\udce9 é", "share": 0.5})
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {"name": "caf\udce9 é", "share": 0.5}


def test_json_never_holds_what_json_does_not_know() -> None:
    with pytest.raises(ValueError, match="JSON"):
        print_json({"share": float("nan")})


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end in another way there")
def test_a_pipe_that_nobody_reads_is_told_apart_from_other_broken_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    raw = os.fdopen(write_end, "wb", buffering=0)
    stream = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(ReaderLeftError):
        show("anything")
    raw.close()
