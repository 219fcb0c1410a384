"""The packages that embed landmarks: found or named, called with what makes them repeatable, their errors in words."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch

from stego_cli.errors import MissingDependencyError, StegoError

if TYPE_CHECKING:
    from torch import Tensor

    from stego_cli.config.model import HnneConfig, UmapConfig


def check_installed(config: HnneConfig | UmapConfig) -> None:
    """Look for the package that embeds.

    Raises:
        MissingDependencyError: If it is not installed.
    """
    _hnne() if config.kind == "hnne" else _umap()


def embed(vectors: Tensor, config: HnneConfig | UmapConfig, seed: int) -> Tensor:
    """Return places (n, K) of vectors (n, C), the same for the same seed.

    Raises:
        MissingDependencyError: If the package is not installed.
        StegoError: If it cannot embed them; with its own words.
    """
    if config.kind == "hnne":
        # Neighbours are searched exactly: the approximate search is neither quicker at this size nor quite repeatable.
        exact = len(vectors) + 1
        chosen = _hnne()(config.code_dim, metric=config.metric, random_state=seed, ann_threshold=exact)
        return _embedded(chosen, vectors, "h-NNE")
    chosen = _umap()(
        n_components=config.code_dim,
        n_neighbors=min(config.neighbors, len(vectors) - 1),
        min_dist=config.min_dist,
        metric=config.metric,
        random_state=seed,
        n_jobs=1,  # what a fixed seed needs anyway
    )
    return _embedded(chosen, vectors, "UMAP")


def _embedded(embedding: Any, vectors: Tensor, name: str) -> Tensor:
    """Let a library embed vectors, quietly."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its own dependencies, and choices that it makes for few points
            found = torch.from_numpy(embedding.fit_transform(vectors.numpy()))
    except Exception as error:  # whatever the packages below it raise on points that they cannot use
        raise StegoError(
            f"{name} could not embed {len(vectors)} positions: {error}\n\n"
            "hint: use a smaller --dim, or more images, or more positions of them with --set method.landmarks=N"
        ) from error
    if not bool(torch.isfinite(found).all()):
        raise StegoError(
            f"{name} put some of {len(vectors)} positions nowhere\n\n"
            "hint: use another --seed, or another number of them with --set method.landmarks=N"
        )
    return found


def _hnne() -> Any:
    try:
        from hnne import HNNE
    except ImportError as error:
        raise _missing("hnne", "hnne") from error
    return HNNE


def _umap() -> Any:
    try:
        from umap import UMAP
    except ImportError as error:
        raise _missing("umap", "umap-learn") from error
    return UMAP


def _missing(method: str, package: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"method {method} needs the package `{package}`, which is not installed\n\n"
        "hint: pip install 'stego-cli[dimred]'"
    )
