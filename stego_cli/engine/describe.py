"""What a file or folder is, in words: neighbour indexes and feature caches here, models through `checkpoints`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open

from stego_cli.checkpoints.describe import Description, describe_checkpoint
from stego_cli.errors import StegoError
from stego_cli.features.store import FeatureStore, has_store
from stego_cli.files import printable
from stego_cli.neighbors.index import METADATA_KEY, load_index

if TYPE_CHECKING:
    from pathlib import Path

    from stego_cli.features.fingerprint import Fingerprint
    from stego_cli.neighbors.index import NeighborIndex


def describe_path(path: Path) -> Description:
    """Say what a file or folder is, whether it is sound, and what to do next; nothing in it is executed.

    Raises:
        CheckpointError: If there is no such file or it may not be read.
    """
    try:
        if path.is_dir() and has_store(path):
            return _store(path)
        if _is_index(path):
            return _index(path, load_index(path))
    except StegoError as error:
        problem, _, hint = str(error).partition("\n\nhint: ")
        return Description(f"{printable(path.name)}: not usable", "features or neighbours", [], [problem], hint)
    return describe_checkpoint(path)


def _is_index(path: Path) -> bool:
    """Say whether a file is a safetensors file whose metadata are those of a neighbour index."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="numpy") as file:
            return METADATA_KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def _index(path: Path, index: NeighborIndex) -> Description:
    rows = [
        ("images", str(len(index))),
        ("neighbours", f"{index.columns - 1} of each image, found by {index.kind}"),
        ("size", f"{path.stat().st_size / 1e6:.1f} MB"),
    ]
    if index.recall is not None:
        rows.append(("recall", f"{100 * index.recall:.2f} % of the true neighbours"))
    if unread := int(np.count_nonzero(~index.valid)):
        rows.append(("unread", f"{unread} images could not be read; they have no neighbours"))
    rows += _made_from(index.fingerprint) if index.fingerprint else []
    return Description(
        f"{printable(path.name)}: neighbours of {len(index)} images",
        "neighbour index",
        rows,
        next_step=f"stego knn show DATASET --index-file {printable(path)} draws some images with their neighbours",
    )


def _store(path: Path) -> Description:
    store = FeatureStore.open(path, allow_partial=True)
    what = "feature maps" if store.fingerprint.kind == "maps" else "pooled features"
    done, damaged = store.count_done, store.verify()
    rows = [("images", f"{done} of {len(store)} are there"), *_made_from(store.fingerprint)]
    problems = list(damaged.values())
    again = "run the command that makes it again; it makes what is missing"
    return Description(
        f"{printable(path.name)}: {what} of {len(store)} images",
        "feature cache",
        rows,
        problems,
        f"remove the damaged files, then {again}" if problems else again if done < len(store) else "",
    )


def _made_from(made: Fingerprint) -> list[tuple[str, str]]:
    """Return what something was made from, for people."""
    shape = "x".join(map(str, made.shape))
    return [
        ("dataset", f"{made.dataset}, split {made.split}, crops {made.crop}"),
        ("backbone", f"{made.backbone} ({made.feature_type}), weights {made.weights[:12] or 'none'}"),
        ("seen at", f"{made.resolution} pixels, {made.loader_crop}, protocol {made.protocol}, {made.precision}"),
        ("records", f"{shape} {made.dtype}"),
    ]
