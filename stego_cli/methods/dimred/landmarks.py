"""Embeddings of some positions, the landmarks, and where every other position lies among them.

h-NNE and UMAP embed a set of points as a whole; they have no formula for a new one that a checkpoint could hold. So a
sample of positions is embedded once, and a new position is placed between its nearest landmarks. Landmarks and their
places are tensors, so that a model needs neither library, and runs on any device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from stego_cli.errors import StegoError
from stego_cli.methods.dimred.libraries import check_installed, embed
from stego_cli.methods.dimred.positions import positions_of, spread_positions
from stego_cli.methods.dimred.projection import Projection, refuse_more
from stego_cli.methods.dimred.standard import moments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stego_cli.config.model import HnneConfig, UmapConfig
    from stego_cli.methods.base import FeatureSource

LANDMARKS, PLACES = "landmarks", "places"
TILE = 2**22  # distances that are in memory at once: 16 MiB, a block that the system need not clear for every use
CLOSEST = 1e-6  # a distance below it counts as this, so that a landmark has its own place


class LandmarkProjection(Projection):
    """Places positions among landmarks that a library embedded: h-NNE and UMAP.

    Attributes:
        landmarks: Standardised features, shape (L, C); unit vectors where directions are compared.
        places: Their code, centred around 0, shape (L, K).
    """

    landmarks: Tensor
    places: Tensor

    def __init__(self, config: HnneConfig | UmapConfig, feature_dim: int) -> None:
        refuse_more(config.kind, config.code_dim, feature_dim)
        super().__init__(config, feature_dim)
        self.config = config
        self.register_buffer(LANDMARKS, torch.zeros(config.landmarks, feature_dim))
        self.register_buffer(PLACES, torch.zeros(config.landmarks, config.code_dim))

    def project(self, features: Tensor) -> Tensor:
        """Map standardised features (B, C, h, w) to code (B, K, h, w)."""
        batch, _, height, width = features.shape
        vectors = self._comparable(positions_of(features))
        places = place(vectors, self.landmarks, self.places, self.config.nearest)
        return places.reshape(batch, height, width, -1).movedim(-1, 1).contiguous()

    def check_ready(self) -> None:
        """Look for the library."""
        check_installed(self.config)

    def recipe(self, seed: int) -> dict[str, Any]:
        """Return what the fit depends on."""
        settings = self.config.model_dump(mode="json", exclude={"nearest", "standardise"})
        return {**settings, "seed": seed}

    def fit(self, source: FeatureSource, seed: int) -> dict[str, Tensor]:
        """Sample the landmarks and embed them.

        Raises:
            StegoError: If there are too few positions, or the library cannot embed them.
        """
        config = self.config
        vectors = torch.cat(list(spread_positions(source, config.fit_images, config.landmarks)))
        found = moments([vectors], pairs=False).to_standardise()
        standard = (vectors - found["mean"]) / found["deviation"]
        if len(standard) <= config.code_dim + 1:
            raise StegoError(
                f"{config.kind} cannot place {len(standard)} positions in {config.code_dim} dimensions\n\n"
                "hint: use a smaller --dim, or more or larger images"
            )
        places = embed(standard, config, seed).float()
        return {**found, LANDMARKS: self._comparable(standard).contiguous(), PLACES: places - places.mean(0)}

    def adopt(self, fitted: Mapping[str, Tensor], seed: int) -> None:  # noqa: ARG002 - the fit followed it already
        """Take landmarks and places; there may be fewer than were asked for."""
        self.adopt_standard(fitted)
        self.landmarks, self.places = fitted[LANDMARKS].clone(), fitted[PLACES].clone()

    def as_fitted(self) -> HnneConfig | UmapConfig:
        """Return the config with the number of landmarks that there are."""
        return self.config.model_copy(update={"landmarks": len(self.landmarks)})

    def _comparable(self, vectors: Tensor) -> Tensor:
        """Return vectors (n, C) whose Euclidean distances order them as the metric does."""
        return functional.normalize(vectors) if self.config.metric == "cosine" else vectors


def place(vectors: Tensor, landmarks: Tensor, places: Tensor, nearest: int) -> Tensor:
    """Return the mean place of the nearest landmarks of every vector, weighted by the inverse of their distance.

    Args:
        vectors: Shape (n, C), float32.
        landmarks: Shape (L, C).
        places: Shape (L, K).
        nearest: How many landmarks count; all of them where there are fewer.

    Returns:
        Shape (n, K). Memory beyond it does not grow with n.
    """
    count = min(nearest, len(landmarks))
    step = max(TILE // max(len(landmarks), count * landmarks.shape[1]), 1)
    lengths = landmarks.square().sum(1)
    found = places.new_empty(len(vectors), places.shape[1])
    for start in range(0, len(vectors), step):
        some = vectors[start : start + step]
        # Squared distances but for what is the same for all landmarks; near ones lose digits, so they are done again.
        apart = torch.addmm(lengths, some, landmarks.T, alpha=-2)
        closest = apart.topk(count, largest=False, sorted=False).indices
        distances = torch.linalg.vector_norm(some[:, None] - landmarks[closest], dim=2)
        weights = 1 / distances.clamp(min=CLOSEST)
        weights /= weights.sum(1, keepdim=True)
        found[start : start + step] = torch.einsum("nk,nkd->nd", weights, places[closest])
    return found
