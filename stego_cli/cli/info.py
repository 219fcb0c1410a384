"""`stego info`: what is installed here, what a file is, or what is in a dataset, in words."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stego_cli.cli import options as o
from stego_cli.cli.friendly import USER_CAN_FIX, friendly
from stego_cli.cli.info_dataset import info_dataset_command
from stego_cli.cli.terminal import print_json, show, show_facts
from stego_cli.cli.tidy import TidyGroup, add_command
from stego_cli.config.words import BACKBONE_NAMES
from stego_cli.files import printable

if TYPE_CHECKING:
    from stego_cli.checkpoints.describe import Description

Files = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FILE", help="What to describe: models, neighbour indexes, folders of features. (default: this machine)"
    ),
]

# Extra (as in `pip install "stego-cli[name]"`), the module that it brings, and what that is for.
EXTRAS = (("crf-reference", "pydensecrf", "the reference's dense CRF, to compare ours with"),)


_TO_COMMAND = "stego_cli.info.to_command"


class FilesOrCommand(TidyGroup):
    """A group that takes file names, unless the first word is the name of one of its commands."""

    allow_interspersed_args = True  # options may follow the files

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read a line of files and options, or leave it to the command that it names.

        Options before the name of the command are meant for it.
        """
        place = next((place for place, word in enumerate(args) if not word.startswith("-") or word == "--"), None)
        if place is not None and args[place] in self.commands:
            args = [args[place], *args[:place], *args[place + 1 :]]
            ctx.allow_interspersed_args = False
            ctx.meta[_TO_COMMAND] = True
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options, and the files as long as the line is not a command's."""
        params = super().get_params(ctx)
        return [param for param in params if param.name != "files"] if ctx.meta.get(_TO_COMMAND) else params


info_app = typer.Typer(name="info", cls=FilesOrCommand, rich_markup_mode="rich", subcommand_metavar="")
add_command(info_app, "dataset", info_dataset_command)


@info_app.callback(invoke_without_command=True)
@friendly
def info_command(ctx: typer.Context, files: Files = None, json: o.Json = False) -> None:
    """Say what is installed here, what a file is and whether it is sound, or what is in a dataset.

    Files are models, neighbour indexes and folders of features.

    Nothing in a file is executed.

    [bold]Examples[/bold]

      stego info
      stego info model.safetensors other.ckpt --json
      stego info dataset my_images/
    """
    if ctx.invoked_subcommand:
        return
    if not files:
        show_environment(environment(), as_json=json)
        return
    from stego_cli.engine.describe import describe_path

    found = [(printable(path), describe_path(path)) for path in files]
    if json:
        print_json({"files": [{"file": name, **description.as_dict()} for name, description in found]})
    else:
        for name, description in found:
            show_description(name, description)
    if any(description.problems for _, description in found):
        raise typer.Exit(USER_CAN_FIX)


def show_description(name: str, description: "Description") -> None:
    """Print what one file is, what is wrong with it, and what to do next."""
    show_facts(description.title, [("file", name), ("kind", description.kind), *description.rows])
    for problem in description.problems:
        show(f"problem: {problem}")
    if description.next_step:
        show(f"next: {description.next_step}")
    show()


def environment() -> dict[str, Any]:
    """Return what decides how commands run here: versions, devices, folders, models, optional parts."""
    import platform
    from importlib.metadata import version
    from importlib.util import find_spec

    from stego_cli import __version__
    from stego_cli.catalog.locate import models_present, stego_home
    from stego_cli.catalog.models import EMBEDDED, embedded_path
    from stego_cli.engine.device import devices_present

    return {
        "stego": __version__,
        "python": platform.python_version(),
        "torch": version("torch"),
        "timm": version("timm"),
        "devices": devices_present(),
        "home": str(stego_home()),
        "backbones": list(BACKBONE_NAMES),
        "models": [*([EMBEDDED] if embedded_path().is_file() else []), *(name for name, _ in models_present())],
        "extras": {name: find_spec(module) is not None for name, module, _ in EXTRAS},
    }


def show_environment(facts: dict[str, Any], *, as_json: bool) -> None:
    """Print the environment as JSON or as a table."""
    if as_json:
        print_json(facts)
        return
    rows = [(name, facts[name]) for name in ("stego", "python", "torch", "timm")]
    rows += [("devices", ", ".join(facts["devices"])), ("STEGO_HOME", facts["home"])]
    rows.append(("backbones", f"{', '.join(facts['backbones'])}, or any vit_* of timm"))
    rows.append(("models present", ", ".join(facts["models"]) or "none"))
    for name, _, purpose in EXTRAS:
        missing = f'missing; pip install "stego-cli[{name}]"'
        rows.append((f"extra {name}", f"{'present' if facts['extras'][name] else missing} ({purpose})"))
    show_facts("this machine", rows)
