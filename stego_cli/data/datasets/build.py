"""From what the user called a dataset to its images."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from stego_cli.data.dataset import Dataset
from stego_cli.data.datasets.cropped import LABEL_ADDED, crop_origin, crop_samples, crop_splits, crops_folder, is_crops
from stego_cli.data.datasets.folder import folder_samples, folder_splits, has_split
from stego_cli.data.datasets.known import KNOWN, place_of
from stego_cli.data.label_codes import LabelCode, identity_code, load_label_code
from stego_cli.data.labels import available_label_spaces, load_label_space
from stego_cli.errors import ConfigError, StegoError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stego_cli.config.data import Bands, DataConfig
    from stego_cli.config.model import LabelSpace
    from stego_cli.data.datasets.known import Place
    from stego_cli.data.datasets.layout import Found, KnownDataset


def available_splits(config: DataConfig) -> tuple[str, ...]:
    """Return the splits that a dataset has on this machine, `train` first.

    Raises:
        StegoError: If the dataset is not there.
    """
    return _source(config).splits


def open_dataset(config: DataConfig, split: str) -> Dataset:
    """Return one split of the dataset that `config` names.

    Raises:
        StegoError: If there is no such dataset or split here, or nothing in it can be used; says what was meant, or
            which command gets it.
    """
    source = _source(config)
    if split not in source.splits and not (source.own and has_split(source.root, split)):
        raise _no_such_split(source, split)
    found = source.find(split)
    return Dataset(
        name=source.name,
        slug=source.slug,
        split=split,
        root=source.root,
        samples=found.samples,
        label_space=source.label_space,
        code=source.code,
        bands=source.bands,
        notes=(*source.notes, *found.notes),
    )


@dataclass(frozen=True)
class _Source:
    """A dataset that is there, before a split of it is chosen; the parts are those of `Dataset`."""

    name: str
    slug: str
    root: Path
    splits: tuple[str, ...]
    find: Callable[[str], Found]
    label_space: LabelSpace | None
    code: LabelCode
    bands: Bands | None = None
    notes: tuple[str, ...] = ()
    own: bool = False


def _source(config: DataConfig) -> _Source:
    """Return whichever kind of dataset is meant: crops, a known one, or a folder."""
    place = place_of(config)
    if config.crop:
        slug = f"{place.slug}_{config.crop}_crop_{config.crop_ratio}"
        return _crops(config, _crops_root(config), place.name, slug)
    root = place.root()
    if place.known:
        return _known(config, place, place.known, root)
    if is_crops(root):
        return _crops(config, root, crop_origin(root)[0], place.slug)
    space = _label_space(config, place.name)
    return _Source(
        name=place.name,
        slug=place.slug,
        root=root,
        splits=folder_splits(root),
        find=partial(folder_samples, root),
        label_space=space,
        code=identity_code(len(space) if space else None),
        bands=config.bands,
        own=True,
    )


def _known(config: DataConfig, place: Place, known: KnownDataset, root: Path) -> _Source:
    """Return a known dataset; how its label files are read is part of what it is.

    Raises:
        ConfigError: If the user names a label space with another number of classes.
    """
    own, space = load_label_space(known.label_space), load_label_space(config.label_space or known.label_space)
    if len(space) != len(own):
        raise ConfigError(
            f"{known.name} has {len(own)} classes, label space `{space.name}` has {len(space)}\n\n"
            f"hint: leave out --label-space, then `{own.name}` is used"
        )
    recognised = f"the folder is laid out as {known.name} and read as such"
    return _Source(
        name=place.name,
        slug=place.slug,
        root=root,
        splits=known.splits(root),
        find=partial(known.find, root),
        label_space=space,
        code=load_label_code(known.label_space),
        bands=config.bands,
        notes=() if place.base else (recognised,),
    )


def _crops(config: DataConfig, root: Path, name: str, slug: str) -> _Source:
    """Return crops; bands were chosen when they were cut."""
    recorded = crop_origin(root)[1]
    space = _label_space(config, recorded or (KNOWN[name].label_space if name in KNOWN else name))
    return _Source(
        name=name,
        slug=slug,
        root=root,
        splits=crop_splits(root),
        find=partial(crop_samples, root),
        label_space=space,
        code=identity_code(len(space) if space else None, LABEL_ADDED),
    )


def _label_space(config: DataConfig, name: str) -> LabelSpace | None:
    """Return the label space that the user names, else the one called after the dataset, if there is one."""
    if config.label_space:
        return load_label_space(config.label_space)
    return load_label_space(name) if name in available_label_spaces() else None


def _crops_root(config: DataConfig) -> Path:
    """Return the folder of the crops that are asked for.

    Raises:
        StegoError: If they were not made; names the command, and the crops that there are.
    """
    kind = config.crop or "five"
    root = crops_folder(config, kind, config.crop_ratio)
    if (root / "img").is_dir():
        return root
    where = f" --data-dir {printable(config.data_dir)}" if config.data_dir else ""
    command = f"stego crop {config.dataset} --{kind} --ratio {config.crop_ratio}{where}"
    prefix = root.name.removesuffix(f"{kind}_crop_{config.crop_ratio}")
    others = sorted(path.name for path in root.parent.glob("*_crop_*") if path.name.startswith(prefix))
    there = f"; there are {', '.join(others)}" if others else ""
    raise StegoError(f"no crops at `{printable(root)}`{there}\n\nhint: run `{command}` first, or leave out --crop")


def _no_such_split(source: _Source, split: str) -> StegoError:
    """Say that a split is not there, and which are."""
    there = ", ".join(f"`{name}`" for name in source.splits) or "none"
    near = difflib.get_close_matches(split, source.splits, n=1)
    near = near or [name for name in source.splits if name[:3] == split[:3]]
    if source.own:
        hint = f"put the images of this split into `imgs/{split}/`"
        hint += f", or rename `imgs/{near[0]}/`" if near and split in {"train", "val", "test"} else ""
    else:
        hint = "use one of these, or unpack what is missing"
    hint = f"did you mean `{near[0]}`? Else {hint}" if near else hint
    return StegoError(f"`{printable(source.root)}` has no split `{split}`; there are: {there}\n\nhint: {hint}")
