"""`stego knn build` and `stego knn show` from end to end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, PngImagePlugin

from stego_cli.catalog.locate import stego_home
from stego_cli.data.datasets.build import open_dataset
from stego_cli.engine.backbone_run import build_store, derived_name, fingerprint, open_run, store_place
from stego_cli.engine.extract import rank_and_world
from stego_cli.errors import ImageError, OutputError, StaleError, StegoError
from stego_cli.features.fingerprint import image_list_hash
from stego_cli.files import atomic_write, printable
from stego_cli.neighbors.index import NeighborIndex, find_name, load_index, save_index
from stego_cli.neighbors.reference import load_reference, reference_name, save_reference
from stego_cli.neighbors.search import search
from stego_cli.report.neighbor_picture import Shown, neighbor_picture, stack_pictures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stego_cli.config.features import KnnConfig, KnnShowConfig
    from stego_cli.data.dataset import Dataset
    from stego_cli.engine.backbone_run import BackboneRun
    from stego_cli.features.fingerprint import Fingerprint
    from stego_cli.progress import Report

_SPREAD = 4  # images that `knn show` draws when none is named
_OURS = ("Software", "stego")  # marks pictures of ours, which the next run may replace


@dataclass(frozen=True)
class BuiltIndex:
    """What `stego knn build` made.

    Attributes:
        path: The index file.
        index: What is in it.
        reference: The file in the reference's layout, if one was asked for.
        skipped: Names of images that could not be read; they have no neighbours and are nobody's.
        seconds: Wall time.
    """

    path: Path
    index: NeighborIndex
    reference: Path | None
    skipped: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "index": printable(self.path),
            "reference": printable(self.reference) if self.reference else None,
            "images": len(self.index),
            "columns": self.index.columns,
            "kind": self.index.kind,
            "recall": self.index.recall,
            "skipped": [printable(name) for name in self.skipped],
            "seconds": round(self.seconds, 3),
            "fingerprint": self.index.fingerprint.model_dump(mode="json") if self.index.fingerprint else None,
        }


@dataclass(frozen=True)
class Row:
    """One image and its neighbours, nearest first, each with its similarity (None if the index keeps none)."""

    name: str
    neighbors: tuple[tuple[str, float | None], ...]


@dataclass(frozen=True)
class ShownNeighbors:
    """What `stego knn show` drew."""

    picture: Path
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        rows = [
            {
                "image": printable(row.name),
                "neighbors": [
                    {"image": printable(name), "similarity": similarity} for name, similarity in row.neighbors
                ],
            }
            for row in self.rows
        ]
        return {"picture": printable(self.picture), "images": rows}


def index_place(config: KnnConfig, dataset: Dataset) -> Path:
    """Return where the index of a run is, for its writer and its readers."""
    return config.index_file or stego_home() / "neighbors" / f"{derived_name(config, dataset)}.safetensors"


def build_index(config: KnnConfig, report: Report) -> BuiltIndex:
    """Find the nearest neighbours of every image of a split, and save them.

    Raises:
        StegoError: If the dataset, the weights or the settings do not allow it; `StaleError` if the index that is there
            was made from something else.
    """
    started = time.perf_counter()
    run = open_run(config, report)
    wanted, path = fingerprint(run, "pooled", "float32"), index_place(config, run.dataset)
    index = _present(path, wanted, config)
    if index is not None:
        report.note(f"the index is there and fits: {printable(path)}")
    else:
        index = _search(run, config, wanted, report)
        if rank_and_world()[0] == 0:
            save_index(index, path)
    reference = _save_reference(config, run.dataset, index) if config.reference else None
    skipped = tuple(run.dataset.samples[image].name for image in np.flatnonzero(~index.valid))
    return BuiltIndex(path, index, reference, skipped, time.perf_counter() - started)


def _present(path: Path, wanted: Fingerprint, config: KnnConfig) -> NeighborIndex | None:
    """Return the index that is there if it is what would be built; refuse one that was made from something else."""
    if config.overwrite or not path.is_file():
        return None
    index = load_index(path, wanted)
    usable = int(index.valid.sum())
    same = index.kind == config.index and index.columns == min(config.neighbors, usable)
    return index if same and index.valid.all() else None  # images that could not be read are tried again


def _search(run: BackboneRun, config: KnnConfig, wanted: Fingerprint, report: Report) -> NeighborIndex:
    """Compute or read the pooled features, and search them."""
    store = build_store(run, "pooled", "float32", str(store_place(config, run.dataset, "pooled")), report)
    vectors = store.read(np.arange(len(run.dataset)))
    found = search(vectors, config.neighbors, config.index, report=report, seed=config.seed)
    valid = np.isfinite(found.similarities[:, 0])
    names = tuple(sample.name for sample in run.dataset.samples)
    return NeighborIndex(found.neighbors, found.similarities, valid, names, config.index, found.recall, wanted)


def _save_reference(config: KnnConfig, dataset: Dataset, index: NeighborIndex) -> Path:
    """Write the neighbours in the reference's layout under the reference's name."""
    if config.reference is None:
        raise AssertionError("called only where a folder is given")
    backbone = config.backbone.name
    sizes = {"vits": "vit_small", "vitb": "vit_base"}
    model = next((word for part, word in sizes.items() if part in backbone), backbone)
    name = reference_name(model, dataset.name, dataset.split, config.crop, config.resolution)
    save_reference(index, config.reference / name)
    return config.reference / name


def show_neighbors(config: KnnShowConfig, report: Report) -> ShownNeighbors:
    """Draw some images with their neighbours.

    Raises:
        StegoError: If there is no index, it is of another dataset, or an image is not in it.
    """
    dataset = open_dataset(config, config.split)
    index = _index_of(config, dataset, report)
    chosen = [_chosen(name, dataset) for name in config.images] or _spread(len(dataset))
    _refuse_to_replace(config.picture, overwrite=config.overwrite)
    rows, sheets = [], []
    for image in report.track(chosen, "Drawing", total=len(chosen)):
        others = [int(other) for other in index.others(image)[: config.shown]]
        similarities = [_similarity(index, image, place) for place in range(len(others))]
        rows.append(Row(dataset.samples[image].name, tuple(zip(_names(dataset, others), similarities, strict=True))))
        shown = [_shown(dataset, other, value) for other, value in zip(others, similarities, strict=True)]
        sheets.append(neighbor_picture(_shown(dataset, image, None), shown))
    _save_picture(stack_pictures(sheets), config.picture)
    return ShownNeighbors(config.picture, tuple(rows))


def _index_of(config: KnnShowConfig, dataset: Dataset, report: Report) -> NeighborIndex:
    """Return the index of a dataset, ours or the reference's."""
    path = index_place(config, dataset)
    if path.suffix == ".npz":
        report.note("a file of the reference does not say what it was made from, so that nobody can check it")
        return load_reference(path, len(dataset))
    if not path.is_file():
        raise StegoError(
            f"no neighbour index at `{printable(path)}`\n\n"
            "hint: run `stego knn build` with the same dataset, split, crop, backbone and resolution first"
        )
    index = load_index(path)
    made = index.fingerprint
    if len(index) != len(dataset) or (made is not None and made.images != image_list_hash(dataset)):
        raise StaleError(
            f"the index `{printable(path)}` is of {len(index)} images that are not those of {dataset.name}, "
            f"{dataset.split} ({len(dataset)} images)\n\n"
            "hint: images were added, removed or changed, or it is another dataset; run `stego knn build --overwrite`"
        )
    return index


def _chosen(wanted: str, dataset: Dataset) -> int:
    """Return the number of the image that somebody means: its name, path or number."""
    names = tuple(sample.name for sample in dataset.samples)
    if wanted.isdigit() and wanted not in names and int(wanted) < len(names):
        return int(wanted)
    return find_name(names, wanted)


def _spread(count: int) -> list[int]:
    """Return a few places spread evenly over so many.

    Example:
        >>> _spread(100), _spread(2)
        ([12, 37, 62, 87], [0, 1])
    """
    shown = min(_SPREAD, count)
    return [(2 * place + 1) * count // (2 * shown) for place in range(shown)]


def _names(dataset: Dataset, images: Sequence[int]) -> list[str]:
    return [dataset.samples[image].name for image in images]


def _similarity(index: NeighborIndex, image: int, place: int) -> float | None:
    """Return how alike an image and its neighbour at a place are; None if the index does not keep it."""
    return None if index.similarities is None else float(index.similarities[image, place + 1])


def _shown(dataset: Dataset, image: int, similarity: float | None) -> Shown:
    """Read one image for the picture."""
    name = dataset.samples[image].name
    try:
        return Shown(dataset.image(image), name, similarity)
    except ImageError:
        return Shown(None, name, similarity)


def _refuse_to_replace(path: Path, *, overwrite: bool) -> None:
    """Refuse to write over a file that is not a picture of ours.

    Raises:
        OutputError: Names it.
    """
    if overwrite or not path.exists():
        return
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.info.get(_OURS[0]) == _OURS[1]:
                return
    except (OSError, SyntaxError, ValueError):
        pass
    raise OutputError(
        f"`{printable(path)}` is there and was not made by this command\n\n"
        "hint: choose another file with --out, or replace it with --overwrite"
    )


def _save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG, marked as ours."""
    mark = PngImagePlugin.PngInfo()
    mark.add_text(*_OURS)
    with atomic_write(path) as file:
        picture.save(file, "PNG", pnginfo=mark)
