"""All known datasets, and where the one that a user means lies on this machine."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stego_cli.catalog.locate import catalog, datasets_folder, stego_home
from stego_cli.data.datasets.cityscapes import CITYSCAPES
from stego_cli.data.datasets.coco import COCOSTUFF3, COCOSTUFF15, COCOSTUFF27
from stego_cli.data.datasets.layout import names_in
from stego_cli.data.datasets.potsdam import POTSDAM, POTSDAMRAW
from stego_cli.data.datasets.voc import VOC2012
from stego_cli.errors import StegoError
from stego_cli.files import printable

if TYPE_CHECKING:
    from stego_cli.config.data import DataConfig
    from stego_cli.data.datasets.layout import KnownDataset

# One row each, and its name in config/words.py, which loads without this. A folder that fits several is the first.
KNOWN: dict[str, KnownDataset] = {
    known.name: known for known in (COCOSTUFF27, COCOSTUFF15, COCOSTUFF3, CITYSCAPES, POTSDAM, POTSDAMRAW, VOC2012)
}

_LONGEST_SLUG = 40


@dataclass(frozen=True)
class Place:
    """What dataset is meant, and where it would be.

    Attributes:
        name: A known name, or the name of the folder.
        slug: Like `name`, but unlike that of any other dataset on this machine.
        known: The known dataset that it is, if it is one.
        folders: Where to look for it, in this order; a single one for a folder that the user named.
        crops: Where its crops lie; `_five_crop_0.5` and the like are added to the last part.
        base: The folder that datasets lie in, where a known name was looked up; else None.
    """

    name: str
    slug: str
    known: KnownDataset | None
    folders: tuple[Path, ...]
    crops: Path
    base: Path | None = None

    def root(self) -> Path:
        """Return the folder of the dataset.

        Raises:
            StegoError: If it is not there or lacks a part; says where it was looked for, and how to get it.
        """
        if self.known is None or self.base is None:
            return self.folders[0]
        for folder in self.folders:
            if not self.known.lacks(folder):
                return folder
        raise self._missing(self.known, self.base)

    def _missing(self, known: KnownDataset, base: Path) -> StegoError:
        """Say what is missing: the whole dataset, or parts of it."""
        directory = "" if base == datasets_folder() else f" --dir {printable(base)}"
        command = f"`stego download datasets {known.archive}{directory}`"
        if catalog()["datasets"][known.archive].manual:
            command += " (it needs an account: the command tells the steps)"
        begun = [folder for folder in self.folders if len(known.lacks(folder)) < len(known.parts)]
        begun = begun or [folder for folder in self.folders if folder != base and folder.is_dir()]
        if begun:
            lacking = " and ".join(f"`{part}`" for part in known.lacks(begun[0]))
            return StegoError(
                f"`{printable(begun[0])}` is not the whole of {self.name}: it has no {lacking}\n\n"
                f"hint: run {command} to fetch or unpack what is missing"
            )
        looked = ", ".join(f"`{folder}`" for folder in known.folders)
        hint = f"run {command}, or name the folder that it lies in with --data-dir"
        if Path(self.name).is_dir():
            hint += f"; for your own folder of that name write `./{self.name}`"
        return StegoError(
            f"{self.name} is not on this machine; looked in `{printable(base)}` for {looked}\n\nhint: {hint}"
        )


def place_of(config: DataConfig) -> Place:
    """Return what dataset a config means: a known name, or a folder, which may be laid out as a known one.

    Raises:
        StegoError: If it is neither; says what may have been meant.
    """
    if known := KNOWN.get(config.dataset):
        base = config.data_dir or datasets_folder()
        if not base.is_dir() and config.data_dir:
            raise StegoError(f"no folder `{printable(base)}`\n\nhint: {_near(base, ()) or 'check --data-dir'}")
        usual = os.path.realpath(base) == os.path.realpath(datasets_folder())
        slug = known.name if usual else _slug(known.name, base)
        return Place(known.name, slug, known, tuple(known.places(base)), base / "cropped" / known.name, base)
    root = _own_folder(config)
    recognised = next((known for known in KNOWN.values() if not known.lacks(root)), None)
    name = recognised.name if recognised else root.name
    slug = _slug(name, root)
    return Place(name, slug, recognised, (root,), stego_home() / "cropped" / slug)


def _own_folder(config: DataConfig) -> Path:
    """Return the folder that a dataset's name stands for, on its own or below `--data-dir`."""
    typed = Path(config.dataset).expanduser()
    for folder in (typed, config.data_dir / typed if config.data_dir else typed):
        if folder.is_dir():
            return folder.resolve()
    if typed.exists():
        raise StegoError(f"`{printable(typed)}` is a file, not a dataset\n\nhint: give the folder that it lies in")
    hint = _near(typed, tuple(KNOWN)) or f"give a folder of images, or one of {', '.join(KNOWN)}"
    raise StegoError(f"no folder `{printable(typed)}`, and no dataset of that name is known\n\nhint: {hint}")


def _near(typed: Path, names: tuple[str, ...]) -> str:
    """Return `did you mean`, with the name or the folder beside a misspelt one that is most like it, or nothing."""
    candidates = {name.casefold(): name for name in names}
    above = typed.parent
    while not above.is_dir() and above != above.parent:
        typed, above = above, above.parent
    for name in names_in(above) if above.is_dir() else ():
        if (above / name).is_dir():
            candidates.setdefault(name.casefold(), printable(above / name))
    close = difflib.get_close_matches(typed.name.casefold(), candidates, n=1)
    return f"did you mean `{candidates[close[0]]}`?" if close else ""


def _slug(name: str, folder: Path) -> str:
    """Return a name for files: the dataset's, and a digest of where it lies."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:8]
    plain = re.sub(r"[^\w.-]+", "_", name)[:_LONGEST_SLUG].lstrip(".-")
    return f"{plain or 'images'}-{digest}"
