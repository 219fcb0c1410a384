"""How commands end."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from stego_cli.cli.friendly import conclude, friendly, show_error, survive_odd_text
from stego_cli.cli.terminal import ReaderLeftError
from stego_cli.errors import ImageError, StegoError

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result


def run(body: Callable[[], None]) -> Result:
    """Run a command that does `body`."""
    app = typer.Typer(pretty_exceptions_enable=False)

    def command() -> None:
        body()

    app.command()(friendly(command))
    return CliRunner().invoke(app)


def raising(error: BaseException) -> Callable[[], None]:
    def body() -> None:
        raise error

    return body


def test_a_command_that_works_ends_with_0() -> None:
    result = run(lambda: typer.echo("done"))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "done\n", "")


class Made:
    """What a command made."""

    def to_json(self) -> dict[str, int]:
        return {"made": 3}


@pytest.mark.parametrize(("incomplete", "code"), [((), 0), (None, 0), (["a.jpg"], 1), (True, 1)])
@pytest.mark.parametrize(("as_json", "shown"), [(True, '{\n  "made": 3\n}\n'), (False, "three\n")])
def test_a_command_shows_its_result_and_says_whether_something_is_left_out(
    as_json: bool, shown: str, incomplete: object, code: int
) -> None:
    result = run(lambda: conclude(Made(), lambda _: typer.echo("three"), as_json=as_json, incomplete=incomplete))
    assert (result.exit_code, result.stdout, result.stderr) == (code, shown, "")


@pytest.mark.parametrize("kind", [StegoError, ImageError])
def test_what_the_user_can_fix_is_one_message_with_its_hint(kind: type[StegoError]) -> None:
    result = run(raising(kind("no model\n\nhint: fetch it")))
    assert result.exit_code == 2
    assert result.stderr == "error: no model\n\nhint: fetch it\n"
    assert result.stdout == ""


def test_ctrl_c_says_that_work_is_kept() -> None:
    result = run(raising(KeyboardInterrupt()))
    assert result.exit_code == 130
    assert result.stderr.startswith("stopped: ")
    assert "continues" in result.stderr


def test_a_reader_that_left_is_no_error() -> None:
    result = run(raising(ReaderLeftError()))
    assert (result.exit_code, result.stderr) == (141, "")


@pytest.mark.parametrize("error", [BrokenPipeError("between our own threads"), ValueError("ours"), OSError("ours")])
def test_everything_else_is_a_bug_and_escapes(error: Exception) -> None:
    assert run(raising(error)).exception is not None
    with pytest.raises(type(error)):
        friendly(raising(error))()


def test_exit_codes_of_commands_pass_through() -> None:
    assert run(raising(typer.Exit(1))).exit_code == 1


def test_messages_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show_error("cannot read `\x1b[2Jx\udce9`")
    assert capsys.readouterr().err == "error: cannot read `\\x1b[2Jx\\udce9`\n"


def test_streams_print_what_they_cannot_encode_as_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # has no `reconfigure`, as in notebooks
    survive_odd_text()
    print("café\udce9", file=stream, flush=True)
    assert stream.buffer.getvalue() == b"caf\\xe9\\udce9\n"  # type: ignore[attr-defined]
