"""The loss of the linear probe, at the resolution of the labels, without the scores of a whole batch in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from stego_cli.probes.linear import LinearProbe

# Scores that are in memory at once. What fits the cache is four times as fast on a CPU; a GPU wants few large pieces.
CPU_PIECE = 2**20
GPU_PIECE = 2**26


def linear_loss(probe: LinearProbe, code: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy over labelled pixels of the probe's scores, upsampled bilinearly to the labels.

    Args:
        probe: Its parameters get the gradient.
        code: Shape (B, K, h, w); gets a gradient too, so detach it.
        labels: Any integer type, shape (B, H, W); pixels whose label is no class of the probe are left out.

    Returns:
        A scalar; 0 with zero gradient when no pixel counts.
    """
    loss: Tensor = _PixelCrossEntropy.apply(probe.logits(code), labels)
    return loss


class _PixelCrossEntropy(torch.autograd.Function):
    """Cross-entropy of upsampled scores; the gradient is worked out along the way, piece by piece.

    Upsampling is a product with two fixed matrices, and its gradient one with their transposes: exact, and unlike the
    library's own in the same order on every run.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        batch, classes, height, width = logits.shape
        vertical = upsampling(height, labels.shape[1], logits.device)
        horizontal = upsampling(width, labels.shape[2], logits.device)
        counted = (labels >= 0) & (labels < classes)
        budget = CPU_PIECE if logits.device.type == "cpu" else GPU_PIECE
        at_once = max(budget // (classes * labels[0].numel()), 1)
        total, gradient = logits.new_zeros(()), torch.empty_like(logits)
        for begin in range(0, batch, at_once):
            piece = slice(begin, begin + at_once)
            scores = vertical @ logits[piece] @ horizontal.T
            total += _cross_entropy_and_gradient(scores, labels[piece], counted[piece])
            gradient[piece] = vertical.T @ scores @ horizontal
        share = 1 / counted.sum().clamp(min=1)
        ctx.save_for_backward(gradient * share)
        return total * share

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None


def _cross_entropy_and_gradient(scores: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
    """Return the summed cross-entropy of scores (b, n, H, W), and turn them into their gradient in place."""
    target = torch.where(counted, labels, 0).long()[:, None]
    log_probs = torch.log_softmax(scores, dim=1)
    total = -(log_probs.gather(1, target)[:, 0] * counted).sum()
    torch.exp(log_probs, out=scores)
    scores.scatter_add_(1, target, scores.new_full((1,), -1.0).expand_as(target))
    scores *= counted[:, None]
    return total


def upsampling(cells: int, pixels: int, device: torch.device) -> Tensor:
    """Return the matrix (pixels, cells) of bilinear resizing with half-pixel centres, as `interpolate` does it."""
    place = ((torch.arange(pixels, device=device) + 0.5) * (cells / pixels) - 0.5).clamp(0, cells - 1)
    distance = (place[:, None] - torch.arange(cells, device=device)).abs()
    return (1 - distance).clamp(min=0)
