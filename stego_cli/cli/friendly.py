"""How a command ends: with its result, or with one message; the exit code says which. Our bugs keep their traceback."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

import typer

from stego_cli.cli.terminal import ReaderLeftError, colours_wanted, plain, print_json
from stego_cli.errors import StegoError

P = ParamSpec("P")


class Printable(Protocol):
    """The result of a command."""

    def to_json(self) -> Any:
        """Return what `--json` prints."""


R = TypeVar("R", bound=Printable)

SOME_SKIPPED = 1
USER_CAN_FIX = 2
OUR_BUG = 70  # EX_SOFTWARE of sysexits.h; Python's own 1 would read as "some inputs were skipped"
STOPPED = 130  # 128 + SIGINT
NO_READER = 141  # 128 + SIGPIPE


def friendly(command: Callable[P, None]) -> Callable[P, None]:
    """Show a StegoError as one message on stderr and exit with 2; end quietly on Ctrl-C and `| head`."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except StegoError as error:
            show_error(str(error))
            raise typer.Exit(USER_CAN_FIX) from error
        except KeyboardInterrupt as error:
            typer.echo("stopped: what is written stays, and the same command continues with it", err=True)
            raise typer.Exit(STOPPED) from error
        except ReaderLeftError as error:
            raise typer.Exit(NO_READER) from error

    return run


def conclude(result: R, show_result: Callable[[R], None], *, as_json: bool, incomplete: object = None) -> None:
    """Print what a command made, and end with 1 if something is left out.

    Args:
        result: What it made.
        show_result: Prints it for people.
        as_json: Print it for machines instead.
        incomplete: What was left out; the command ends with 0 if this is nothing.

    Raises:
        Exit: With the code, if something is left out.
    """
    if as_json:
        print_json(result.to_json())
    else:
        show_result(result)
    if incomplete:
        raise typer.Exit(SOME_SKIPPED)


def show_error(message: str) -> None:
    """Write `error: message` to stderr; the word is red where colours are wanted."""
    label = typer.style("error:", fg="red", bold=True) if colours_wanted(sys.stderr) else "error:"
    typer.echo(f"{label} {plain(message)}", err=True)


def open_standard_streams() -> None:
    """Put the null device where stdin, stdout or stderr was closed, as by `2>&-`.

    Otherwise the next file that is opened takes its number, and what is meant for a person is written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the system gives the lowest free number, which is this one
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))


def survive_odd_text() -> None:
    """Let file names that are not text be printed as escapes instead of ending the run."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # replaced by a test or a notebook, or closed
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
