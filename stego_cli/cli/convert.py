"""`stego convert`: a published checkpoint into one file of ours, which loads without running any code."""

from pathlib import Path
from typing import Annotated

import typer

from stego_cli.cli.terminal import show
from stego_cli.errors import OutputError
from stego_cli.files import as_typed, printable

Source = Annotated[Path, typer.Argument(metavar="SOURCE", help="A checkpoint, such as a published STEGO `.ckpt` file.")]
Target = Annotated[Path, typer.Argument(metavar="TARGET", help="The file to write; ends with .safetensors.")]
Heads = Annotated[
    int | None,
    typer.Option(
        "--heads",
        metavar="N",
        help="Attention heads of the backbone, for one of unusual size: the file does not say it. "
        "(default: what its width is known to have)",
    ),
]
Half = Annotated[bool, typer.Option("--half", help="Store 16-bit numbers: half the size, masks almost the same.")]
Replace = Annotated[bool, typer.Option("--overwrite", help="Replace TARGET if it is there.")]


def convert_command(
    source: Source, target: Target, heads: Heads = None, half: Half = False, overwrite: Replace = False
) -> None:
    """Turn a published checkpoint into a file of ours. Nothing inside it is ever executed.

    [bold]Examples[/bold]

      stego convert cocostuff27_vit_base_5.ckpt stego.safetensors
      stego convert potsdam_test.ckpt potsdam.safetensors --half
    """
    _check_target(source, target, overwrite)
    import torch  # slow to load, so not before the checks

    from stego_cli.checkpoints.describe import load_any
    from stego_cli.checkpoints.native import save_checkpoint

    save_checkpoint(load_any(source, heads=heads), target, dtype=torch.float16 if half else None)
    show(f"wrote {printable(target)} ({target.stat().st_size / 1e6:.1f} MB)")
    show(f"next: stego predict imgs/ --model {as_typed(target)}")


def _check_target(source: Path, target: Path, overwrite: bool) -> None:
    """Refuse a target that would cost the user a file.

    Raises:
        OutputError: If it is the source, exists, or has a suffix that readers would misunderstand.
    """
    name = printable(target)
    if target.suffix != ".safetensors":
        raise OutputError(
            f"`{name}` does not end with .safetensors\n\nhint: name it {printable(target.stem)}.safetensors"
        )
    if target.exists() and source.exists() and target.samefile(source):
        raise OutputError(f"`{name}` is the file to read\n\nhint: choose another TARGET")
    if target.is_dir():
        raise OutputError(f"`{name}` is a folder\n\nhint: choose another TARGET")
    if target.exists() and not overwrite:
        raise OutputError(f"`{name}` is there already\n\nhint: add --overwrite to replace it")
