"""From one vector per image to the neighbours of every image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from stego_cli.errors import ConfigError, ShapeError, StegoError
from stego_cli.neighbors import exact, kernels
from stego_cli.progress import Silence

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stego_cli.config.words import IndexKind
    from stego_cli.neighbors.exact import Lists
    from stego_cli.progress import Report

COLUMNS = 30
"""As many as the files of the STEGO reference have."""


@dataclass(frozen=True)
class Found:
    """The neighbours of N images, one row each.

    Attributes:
        neighbors: Image numbers, shape (N, columns) int64. Column 0 is the image itself; the others follow in
            decreasing similarity, equal ones in the order of their numbers. The row of an image without a usable
            vector is itself and then -1.
        similarities: Inner products beside them, float32; NaN throughout the row of an image without a usable vector.
        recall: For an approximate search, the share of the true neighbours that it finds, measured on a sample; None
            for the exact one.
    """

    neighbors: NDArray[np.int64]
    similarities: NDArray[np.float32]
    recall: float | None = None


def search(
    vectors: NDArray[np.floating],
    columns: int = COLUMNS,
    kind: IndexKind = "flat",
    *,
    report: Report | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> Found:
    """Find the nearest neighbours of every image among all others.

    `columns` counts the image itself, as `--neighbors` does and the files of the reference do: 30 gives 30 columns,
    which are the image and its 29 nearest others. Where fewer images are usable there are only as many columns.

    Args:
        vectors: Shape (N, C), finite rows of unit length as `pool` makes them, compared by inner product. A row with
            a value that is not finite marks an image that could not be read: it is nobody's neighbour and has none.
        columns: At least 2.
        kind: `flat` compares all pairs. `ivf` and `hnsw` look at likely ones only: not complete, and faster only for
            hundreds of thousands of images and more.
        report: Told about progress and about fewer columns than asked for.
        seed: For what is drawn at random in `ivf` and `hnsw`, and for the sample that their recall is measured on.
        threads: How many to use; by default as many as PyTorch does.

    Returns:
        The neighbours. Those of `flat` do not depend on `threads`, bit by bit. Those of `ivf` and `hnsw` can differ a
        little between numbers of threads, as FAISS adds up and links in the order in which threads come; with one
        thread they are the same in every run.

    Raises:
        ConfigError: If there are fewer than 2 columns.
        ShapeError: If `vectors` is not a table.
        StegoError: If fewer than two images are usable.
    """
    report, threads = report or Silence(), threads or torch.get_num_threads()
    table = _checked(vectors, columns)
    with np.errstate(invalid="ignore"):  # infinities of both signs
        usable = np.flatnonzero(np.isfinite(table.sum(axis=1, dtype=np.float64)))
    _check_enough(len(table), len(usable))
    if len(usable) < columns:
        report.note(f"{len(usable)} usable images: the list of each has {len(usable)}, itself included, not {columns}")
    dense = table if len(usable) == len(table) else table[usable]
    count, recall = min(columns, len(dense)) - 1, None
    if kind == "flat":
        lists = exact.nearest(dense, count, report, threads)
    else:
        from stego_cli.neighbors.approximate import nearly_nearest

        lists, recall = nearly_nearest(dense, count, kind, report, seed, threads)
    return _laid_out(lists, dense, usable, len(table), recall)


def _checked(vectors: NDArray[np.floating], columns: int) -> NDArray[np.float32]:
    """Return the vectors as one writable piece, which PyTorch and the compiled loops ask for."""
    if columns < 2:
        raise ConfigError(
            f"{columns} neighbours: the first is the image itself, so there must be at least 2\n\n"
            f"hint: use --neighbors {COLUMNS}, as the reference does"
        )
    if vectors.ndim != 2 or (len(vectors) and not vectors.shape[1]):
        raise ShapeError(
            f"vectors have the shape {vectors.shape}, expected (images, channels)\n\nhint: give one vector per image"
        )
    return np.require(vectors, np.float32, ["C", "W", "A", "E"])


def _check_enough(total: int, usable: int) -> None:
    """Refuse to look for the neighbours of nobody."""
    if not total:
        raise StegoError(
            "no images, so there are no neighbours\n\nhint: check that the dataset and its split hold images"
        )
    if usable < 2:
        who = "the only image" if total == 1 else f"{usable or 'none'} of {total} images"
        what = "has no neighbour but itself" if total == 1 else "could be read, and neighbours need two"
        raise StegoError(f"{who} {what}\n\nhint: give a folder or a split with more images that can be read")


def _laid_out(
    lists: Lists, dense: NDArray[np.float32], usable: NDArray[np.int64], total: int, recall: float | None
) -> Found:
    """Put every image before its others and give rows to the images that were left out."""
    columns = lists.ids.shape[1] + 1
    neighbors = np.full((total, columns), -1, np.int64)
    neighbors[:, 0] = np.arange(total)
    neighbors[usable, 1:] = usable[lists.ids]
    similarities = np.full((total, columns), np.nan, np.float32)
    own = np.empty(len(dense), np.float32)
    kernels.similarities_to_self(dense, own)
    similarities[usable, 0] = own
    similarities[usable, 1:] = lists.values
    return Found(neighbors, similarities, recall)
