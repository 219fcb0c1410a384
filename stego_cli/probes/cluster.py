"""The cluster probe: cosine similarity to a few centroids, found and used without any label."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stego_cli.probes.upsampling import upsample, upsampled_norm

MIN_NORM = 1e-12


class ClusterProbe(nn.Module):
    """Assigns each position to the centroid that points in the most similar direction.

    STEGO (Hamilton et al., ICLR 2022, section 3.3) clusters codes by cosine distance. Only the direction of a
    centroid matters, never its length.

    Attributes:
        centroids: Parameter of shape (K, D), one row per cluster.
    """

    def __init__(self, num_clusters: int, dim: int) -> None:
        super().__init__()
        self.centroids = nn.Parameter(torch.randn(num_clusters, dim))

    @property
    def num_clusters(self) -> int:
        """How many clusters there are."""
        return self.centroids.shape[0]

    def inner_products(self, code: Tensor) -> Tensor:
        """Return the cosine of the angle between each position's code and each centroid.

        Args:
            code: Shape (B, D, h, w).

        Returns:
            Shape (B, K, h, w), in [-1, 1]; all zero where the code is zero.
        """
        directions = functional.normalize(code, dim=1, eps=MIN_NORM)
        centroids = functional.normalize(self.centroids, dim=1, eps=MIN_NORM)
        return torch.einsum("bdhw,kd->bkhw", directions, centroids)

    def log_probs(self, code: Tensor, alpha: float, size: tuple[int, int] | None = None) -> Tensor:
        """Return `log_softmax(alpha * cosine)` over the clusters.

        Args:
            code: Shape (B, D, h, w).
            alpha: The sharpness.
            size: Height and width of the result, for which the code is first upsampled bilinearly; None keeps the
                code's.

        Returns:
            Shape (B, K, *size). With a size, the clusters lie side by side in memory.
        """
        if size is None:
            return functional.log_softmax(alpha * self.inner_products(code), dim=1)
        centroids = functional.normalize(self.centroids, dim=1, eps=MIN_NORM)
        products = upsample(code.permute(0, 2, 3, 1) @ centroids.T, size)
        products *= (alpha / upsampled_norm(code, size).clamp_(min=MIN_NORM))[..., None]
        return functional.log_softmax(products, dim=-1).permute(0, 3, 1, 2)  # (B, H, W, K) -> (B, K, H, W)

    def probs(self, code: Tensor, alpha: float | None = None) -> Tensor:
        """Return how much each position belongs to each cluster, shape (B, K, h, w), summing to 1 over K.

        Args:
            code: Shape (B, D, h, w).
            alpha: Sharpness of a soft assignment; None gives all weight to the best cluster (the first of equals).
        """
        return _assign(self.inner_products(code), alpha)

    def loss(self, code: Tensor, alpha: float | None = None) -> Tensor:
        """Return the negative mean similarity of positions to the clusters they are assigned to, a scalar.

        With a hard assignment this is the spherical k-means objective, and the assignment itself gets no gradient;
        a soft one is differentiated through.
        """
        products = self.inner_products(code)
        return -(_assign(products, alpha) * products).sum(dim=1).mean()

    def forward(self, code: Tensor) -> Tensor:
        """Return the inner products; see `inner_products`."""
        return self.inner_products(code)


def _assign(products: Tensor, alpha: float | None) -> Tensor:
    """Turn inner products (B, K, h, w) into assignment weights of the same shape."""
    if alpha is not None:
        return functional.softmax(alpha * products, dim=1)
    best = products.argmax(dim=1)
    return functional.one_hot(best, products.shape[1]).movedim(-1, 1).to(products.dtype)
