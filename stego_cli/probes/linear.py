"""The linear probe: a 1x1 classifier. It uses labels, so it only measures; nothing is ever trained through it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stego_cli.errors import ShapeError, StegoError
from stego_cli.probes.upsampling import upsample


class LinearProbe(nn.Module):
    """Multinomial logistic regression at every position.

    Attributes:
        weight: Parameter of shape (n, D), one row per class.
        bias: Parameter of shape (n,).
    """

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_classes, dim))
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def logits(self, code: Tensor) -> Tensor:
        """Map code (B, D, h, w) to class scores (B, n, h, w)."""
        return torch.einsum("bdhw,nd->bnhw", code, self.weight) + self.bias[:, None, None]

    def log_probs(self, code: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Map code to log-probabilities, whose exponentials sum to 1 over the classes.

        Args:
            code: Shape (B, D, h, w).
            size: Height and width of the result, for which the code is first upsampled bilinearly; None keeps the
                code's.

        Returns:
            Shape (B, n, *size). With a size, the classes lie side by side in memory.
        """
        if size is None:
            return functional.log_softmax(self.logits(code), dim=1)
        logits = upsample(code.permute(0, 2, 3, 1) @ self.weight.T + self.bias, size)
        return functional.log_softmax(logits, dim=-1).permute(0, 3, 1, 2)  # (B, H, W, n) -> (B, n, H, W)

    def forward(self, code: Tensor) -> Tensor:
        """Return the logits; see `logits`."""
        return self.logits(code)


def fit_linear_probe(
    codes: Tensor, labels: Tensor, num_classes: int, *, weight_decay: float = 1e-5, iterations: int = 100
) -> LinearProbe:
    """Fit a linear probe to labelled points by L-BFGS, starting from zero: no random choice anywhere.

    Codes are standardised for the fit and the scaling is folded into the weights, so that channels of different
    ranges learn at the same pace. Classes keep their natural frequencies.

    Args:
        codes: Points, shape (N, D).
        labels: Class ids, shape (N,); points whose label is not in 0 .. num_classes - 1 are left out.
        num_classes: Number of classes n.
        weight_decay: Factor of the squared weights (of standardised codes) in the objective.
        iterations: Most steps of the optimiser.

    Raises:
        StegoError: If no point has a label that counts.
    """
    if codes.ndim != 2 or labels.shape != codes.shape[:1]:
        raise ShapeError(f"codes of shape {tuple(codes.shape)} need labels of shape (N,), not {tuple(labels.shape)}")
    valid = (labels >= 0) & (labels < num_classes)
    if not bool(valid.any()):
        raise StegoError(
            f"no point has a label between 0 and {num_classes - 1}, so there is nothing to fit the linear probe to"
            "\n\nhint: check the label files and the number of classes"
        )
    points, targets = codes[valid].float(), labels[valid].long()
    deviation, mean = torch.std_mean(points, dim=0, correction=0)
    deviation = torch.where(deviation > 1e-8, deviation, torch.ones_like(deviation))  # a constant channel stays
    weight, bias = _minimise((points - mean) / deviation, targets, num_classes, weight_decay, iterations)
    probe = LinearProbe(num_classes, codes.shape[1]).to(points.device)
    with torch.no_grad():
        probe.weight.copy_(weight / deviation)
        probe.bias.copy_(bias - (weight / deviation) @ mean)
    return probe


def _minimise(
    points: Tensor, targets: Tensor, num_classes: int, weight_decay: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """Return weight (n, D) and bias (n,) of least mean cross-entropy plus decay."""
    weight = points.new_zeros(num_classes, points.shape[1], requires_grad=True)
    bias = points.new_zeros(num_classes, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=iterations, history_size=20, tolerance_change=1e-7, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        optimiser.zero_grad()
        loss = functional.cross_entropy(points @ weight.T + bias, targets) + weight_decay * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimiser.step(objective)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
