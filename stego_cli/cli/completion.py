"""What shells suggest for the values of options."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import get_args

from stego_cli.config.words import SaveKind

MODEL_SUFFIXES = (".safetensors", ".ckpt", ".pth")


def complete_from(words: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a function that suggests those of `words` that begin with what is typed."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


def complete_model(incomplete: str) -> list[str]:
    """Suggest models by name, and model files of the current folder; paths are left to the shell."""
    from stego_cli.catalog.locate import readable_models

    here = sorted(path.name for path in Path().glob("*.*") if path.suffix in MODEL_SUFFIXES)
    return [name for name in ["embedded", *readable_models(), *here] if name.startswith(incomplete)]


def complete_save(incomplete: str) -> list[str]:
    """Suggest the next word of a comma list, leaving out what it has."""
    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [before + comma + kind for kind in get_args(SaveKind) if kind.startswith(last) and kind not in taken]
