"""`stego download`: published models, backbones and datasets, onto this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stego_cli.cli import options as o
from stego_cli.cli.completion import complete_from
from stego_cli.cli.declare import RESULTS, SPEED, number, value
from stego_cli.cli.friendly import SOME_SKIPPED
from stego_cli.cli.settings import settings
from stego_cli.cli.tables import table_lines
from stego_cli.cli.terminal import print_json, show, size_in_words, terminal_report
from stego_cli.errors import StegoError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stego_cli.catalog.entries import Kind
    from stego_cli.catalog.wanted import Outcome, Wanted

LIST = "list"
KINDS: "tuple[Kind, ...]" = ("models", "backbones", "datasets")


def complete_names(incomplete: str) -> list[str]:
    """Suggest names of the catalog."""
    from stego_cli.catalog.locate import catalog

    return [name for entries in catalog().values() for name in entries if name.startswith(incomplete)]


What = Annotated[
    str,
    typer.Argument(
        metavar="|".join((*KINDS, LIST)),
        autocompletion=complete_from((*KINDS, LIST)),
        help="What to fetch; list shows what there is. (default: list)",
        show_default=False,
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME", autocompletion=complete_names, help="Which of them. (default: what most people need)"
    ),
]
Directory = Annotated[
    Path | None,
    value("--dir", "DIR", RESULTS, "Folder for the files. (default: below STEGO_HOME, where other commands look)"),
]
Jobs = Annotated[int | None, number("--jobs", SPEED, "Files that are fetched at the same time. (default: 4)")]


def download_command(  # noqa: PLR0913, PLR0917 - one parameter per option
    what: What = LIST,
    names: Names = None,
    directory: Directory = None,
    overwrite: o.Overwrite = None,
    json: o.Json = False,
    jobs: Jobs = None,
    config: o.Config = None,
    overrides: o.Overrides = None,
    dry_run: o.DryRun = False,
    quiet: o.Quiet = False,
) -> None:
    """Fetch published models, backbones and datasets: verified, and resumed where a transfer broke off.

    What needs an account is explained step by step, and verified once you
    have placed the files; a dataset that you have unpacked yourself counts, too.

    [bold]Examples[/bold]

      stego download list
      stego download backbones dino_vits8 dinov2_vits14
      stego download datasets potsdam --dry-run
    """
    typed = dict(locals())
    from stego_cli.config.download import DownloadConfig

    read = settings(DownloadConfig, typed)
    from stego_cli.catalog.download import download
    from stego_cli.catalog.fetch import Policy
    from stego_cli.catalog.wanted import choose

    wanted = choose(kinds_of(what), names or [], read.directory, everything=what == LIST)
    if what == LIST or dry_run:
        show_wanted(wanted, as_json=json, detailed=what != LIST)
        return
    policy = Policy(retries=read.retries, timeout=read.timeout)
    with terminal_report(quiet=quiet) as report:
        outcomes = download(wanted, report, overwrite=read.overwrite, jobs=read.jobs, policy=policy)
    show_outcomes(outcomes, as_json=json, elsewhere=read.directory is not None)


def kinds_of(what: str) -> "Sequence[Kind]":
    """Return the parts of the catalog that a word stands for.

    Raises:
        StegoError: If it is none; a name from the catalog gets the whole command as a hint.
    """
    if what == LIST:
        return KINDS
    if found := [kind for kind in KINDS if kind == what]:
        return found
    from stego_cli.catalog.locate import catalog

    near = [f"stego download {kind} {what}" for kind in KINDS if what in catalog()[kind]]
    hint = f"run `{near[0]}`" if near else f"use {', '.join(KINDS)} or {LIST}"
    raise StegoError(f"`{what}` is none of {', '.join((*KINDS, LIST))}\n\nhint: {hint}")


def show_wanted(wanted: "Sequence[Wanted]", *, as_json: bool, detailed: bool) -> None:
    """Print what there is, or what would be fetched, as a table or as JSON."""
    if as_json:
        print_json({"files": [item.to_json() for item in wanted]})
    elif detailed:
        for item in wanted:
            doing = "is there" if item.present else "needs you" if item.entry.manual else "would be fetched"
            doing += ", unpacked by you" if item.present and not item.path.exists() and item.by_others else ""
            size = size_in_words(item.file.size or item.file.size_about)
            show(f"{item.name}: {item.file.file} {doing} (size {size}; licence: {item.entry.licence})")
            show(
                f"  from {item.file.url}\n  to   {item.path}" + (f", unpacked in {item.folder}" if item.folder else "")
            )
            if item.entry.caution and item.file == item.entry.files[-1]:
                show(f"  mind: {item.entry.caution}")
    else:
        show_table(list({(item.kind, item.name): item for item in wanted}.values()), wanted)


def show_table(entries: "Sequence[Wanted]", files: "Sequence[Wanted]") -> None:
    """Print one row per entry of the catalog."""
    rows = [("name", "kind", "size", "here", "licence")]
    for item in entries:
        here = all(file.present for file in files if (file.kind, file.name) == (item.kind, item.name))
        shown = "yes" if here else "by hand" if item.entry.manual else "no"
        rows.append((item.name, item.kind, size_in_words(item.entry.bytes_about), shown, item.entry.licence))
    for line in table_lines(rows, words=len(rows[0])):
        show(line)


def show_outcomes(outcomes: "Sequence[Outcome]", *, as_json: bool, elsewhere: bool) -> None:
    """Print what became of each file; end with 1 if some are not there, as an error if none is.

    Args:
        outcomes: Of each file.
        as_json: As JSON.
        elsewhere: Whether the files are where other commands do not look, so that these have to be told.

    Raises:
        StegoError: If no file is there.
    """
    bad = [outcome for outcome in outcomes if outcome.status in {"failed", "missing"}]
    if as_json:
        print_json({"files": [outcome.to_json() for outcome in outcomes]})
    good = [outcome for outcome in outcomes if outcome not in bad]
    for outcome in [] if as_json else good:
        item = outcome.wanted
        show(f"{item.name}: {item.file.file} {outcome.in_words}, in {item.folder or item.path}")
    if elsewhere and not as_json:
        for name, usage in {outcome.wanted.name: outcome.wanted.usage for outcome in reversed(good)}.items():
            if usage:
                show(f"{name}: other commands look below STEGO_HOME only; tell them with {usage}")
    if not bad:
        return
    from stego_cli.catalog.wanted import complaints

    message = "\n\n".join(complaints(outcomes))
    if len(bad) == len(outcomes):
        raise StegoError(message)
    typer.echo(message, err=True)
    raise typer.Exit(SOME_SKIPPED)
