"""From what people call a model to its file."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from stego_cli.catalog.locate import catalog, find_model, models_present, readable_models
from stego_cli.errors import StegoError
from stego_cli.files import printable

EMBEDDED = "embedded"
# Commands that make models put each into a folder of its own below this one, in the current folder.
RUNS = Path("runs")


@dataclass(frozen=True)
class ModelChoice:
    """A model file, the name it goes by, and why it was taken."""

    name: str
    path: Path
    why: str


def embedded_path() -> Path:
    """Return the small model that comes with the package."""
    return Path(str(files("stego_cli.assets").joinpath("embedded.safetensors")))


def choose_model(name: str | None = None, runs: Path = RUNS) -> ModelChoice:
    """Find a model by `embedded`, a catalog name or a path; without a name take the best one present.

    Best means: the last one made here (below `runs`), else the first published one that was downloaded, else the
    embedded one.

    Raises:
        StegoError: If there is no such model; names near ones.
        WeightsError: If a published model is not on this machine; says where to get it.
    """
    if name is None:
        return _best(runs)
    if name == EMBEDDED:
        return ModelChoice(EMBEDDED, embedded_path(), "asked for")
    path = Path(name).expanduser()
    if path.exists():
        return ModelChoice(printable(path), path, "asked for")
    if name in readable_models():
        return ModelChoice(name, find_model(name), "asked for")
    known = [EMBEDDED, *readable_models()]
    if name in catalog()["models"]:
        raise StegoError(
            f"`{name}` can be downloaded, but no command of this version can work with it\n\n"
            f"hint: use a file, or one of {', '.join(known)}"
        )
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"use a file, or one of {', '.join(known)}"
    raise StegoError(f"no model called `{printable(name)}`, and no such file\n\nhint: {hint}")


def _best(runs: Path) -> ModelChoice:
    made = sorted(runs.glob("*/*.safetensors"), key=lambda path: path.stat().st_mtime) if runs.is_dir() else []
    if made:
        return ModelChoice(printable(made[-1]), made[-1], f"the last one made here, in `{runs}`")
    for name, path in models_present():
        return ModelChoice(name, path, "a published model that is on this machine")
    return ModelChoice(EMBEDDED, embedded_path(), "no other model is here; it is small and knows street scenes best")
