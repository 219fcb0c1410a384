"""Where downloaded files lie, and what to say when one is not there."""

from __future__ import annotations

import os
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import get_args

import yaml
from pydantic import TypeAdapter

from stego_cli.catalog.entries import CatalogEntry, Kind
from stego_cli.errors import WeightsError


@cache
def catalog() -> dict[Kind, dict[str, CatalogEntry]]:
    """Return the packaged catalog by kind and name."""
    folder, reader = files("stego_cli.catalog"), TypeAdapter(dict[str, CatalogEntry])
    texts: dict[Kind, str] = {kind: folder.joinpath(f"{kind}.yaml").read_text("utf-8") for kind in get_args(Kind)}
    return {kind: reader.validate_python(yaml.safe_load(text)) for kind, text in texts.items()}


def stego_home() -> Path:
    """Return the folder for downloads and caches: `STEGO_HOME`, else the platform's cache folder."""
    if home := os.environ.get("STEGO_HOME"):
        return Path(home).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("stego", appauthor=False))


def target(kind: Kind, name: str) -> Path:
    """Return where the file of a catalog entry belongs; both the fetcher and the readers ask here."""
    return stego_home() / kind / catalog()[kind][name].path


def datasets_folder() -> Path:
    """Return the folder that the known datasets lie in unless the user names another."""
    return stego_home() / "datasets"


def find_weights(name: str) -> Path:
    """Return the weight file of a backbone on this machine.

    A file that `torch.hub` fetched under the same name is used, too.

    Raises:
        WeightsError: If it is not there; names the command that fetches it, the address and the place.
    """
    return _find("backbones", name)


def find_model(name: str) -> Path:
    """Return the file of a published model on this machine.

    Raises:
        WeightsError: If it is not there; names the command that fetches it, the address and the place.
    """
    return _find("models", name)


def models_present() -> list[tuple[str, Path]]:
    """Return the published models on this machine that commands can work with, in the catalog's order."""
    return [(name, target("models", name)) for name in readable_models() if target("models", name).is_file()]


def readable_models() -> list[str]:
    """Return the names of the published models that commands can work with, in the catalog's order."""
    return [name for name, entry in catalog()["models"].items() if entry.readable]


_FOR_PEOPLE = ", which tells the steps, as no program may fetch it"


def _find(kind: Kind, name: str) -> Path:
    entry, place = catalog()[kind][name], target(kind, name)
    hub = Path(os.environ.get("TORCH_HOME", "~/.cache/torch")).expanduser() / "hub" / "checkpoints" / entry.file
    for path in (place, hub):
        if path.is_file():
            return path
    raise WeightsError(
        f"the file of `{name}` is not on this machine\n\n"
        f"hint: run `stego download {kind} {name}`{_FOR_PEOPLE if entry.manual else ''} (licence: {entry.licence})\n"
        f"      or fetch {entry.url}\n      and put it at {place}"
        + ("\n      or use --backbone filterbank, which needs no download" if kind == "backbones" else "")
    )
