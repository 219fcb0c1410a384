"""How options are declared: the panels that help sorts them into, and the kinds of options that there are.

Words are checked by the configs, not here, so that one message lists everything that is wrong.
"""

from collections.abc import Iterable
from typing import Any

import typer

from stego_cli.cli.completion import complete_from

RESULTS = "Results"
DATA = "Data"
MODEL = "Model"
TRAINING = "Training"
QUALITY = "Quality"
SPEED = "Speed"
SETTINGS = "Settings"


def flag(name: str, panel: str, text: str) -> Any:
    """Declare an option without a value, or a pair of them such as `--crf/--no-crf`; `text` is its help."""
    return typer.Option(name, help=text, rich_help_panel=panel)


def value(name: str, metavar: str, panel: str, text: str, known: Iterable[str] = ()) -> Any:
    """Declare an option with a value, which help calls `metavar`; shells complete the `known` ones."""
    complete = complete_from(known) if known else None
    return typer.Option(name, metavar=metavar, autocompletion=complete, help=text, rich_help_panel=panel)


def number(name: str, panel: str, text: str) -> Any:
    """Declare an option that takes a number N."""
    return value(name, "N", panel, text)


def choice(name: str, words: Iterable[str], panel: str, text: str) -> Any:
    """Declare an option that takes one of some words, which shells complete."""
    words = tuple(words)
    return value(name, "|".join(words), panel, text, words)


def output(metavar: str, text: str) -> Any:
    """Declare the option that says where results go. It is no Path, of which an empty one is the current folder."""
    return typer.Option("--out", "-o", metavar=metavar, help=text, rich_help_panel=RESULTS)


def image_size(panel: str, text: str) -> Any:
    """Declare the option that says how large the backbone sees images."""
    return typer.Option("--res", "--resolution", metavar="PIXELS", help=text, rich_help_panel=panel)
