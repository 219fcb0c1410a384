"""What one training step of STEGO is given."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from stego_cli.errors import ShapeError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from stego_cli.methods.stego.draws import StepDraws


@dataclass(frozen=True)
class StepInput:
    """A batch of what the frozen backbone saw; only features and draws are always needed.

    Attributes:
        features: Features of the images, shape (B, C, h, w), any floating type.
        draws: The random choices of this step.
        neighbor_features: Features of one neighbour of each image; needed by the correspondence loss.
        labels: Class ids of the images, any integer type, shape (B, H, W); what is no class is ignored.
        neighbor_labels: Those of the neighbours; needed with `use_true_labels`.
        images: Normalised images, shape (B, 3, H, W); needed by the CRF loss.
        augmented_features: Features of the augmented images; needed by the alignment loss, like the next.
        augmented_coords: Where the augmented pixels come from, shape (B, H, W, 2); see `losses.alignment_loss`.
        salience: Masks of the images, shape (B, H, W); needed with `use_salience`, like the next.
        neighbor_salience: Masks of the neighbours.
    """

    features: Tensor
    draws: StepDraws
    neighbor_features: Tensor | None = None
    labels: Tensor | None = None
    neighbor_labels: Tensor | None = None
    images: Tensor | None = None
    augmented_features: Tensor | None = None
    augmented_coords: Tensor | None = None
    salience: Tensor | None = None
    neighbor_salience: Tensor | None = None

    def __post_init__(self) -> None:
        if self.features.ndim != 4:
            raise ShapeError(f"features must be (B, C, h, w), not {tuple(self.features.shape)}")
        batch, channels = self.features.shape[:2]
        if len(self.draws.coords1) != batch:
            raise ShapeError(f"draws are for {len(self.draws.coords1)} images, but the batch has {batch}")
        for name, value in self.tensors().items():
            if len(value) != batch:
                raise ShapeError(f"{name} has {len(value)} entries for a batch of {batch}")
            if name.endswith("features") and (value.ndim != 4 or value.shape[1] != channels):
                raise ShapeError(f"{name} must be (B, {channels}, h, w), not {tuple(value.shape)}")

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors that are there, by name, the draws left out."""
        named = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "draws"}
        return {name: value for name, value in named.items() if value is not None}

    def to(self, device: torch.device) -> StepInput:
        """Return all of it on `device`, copied without waiting where its memory is pinned."""
        moved = {name: value.to(device, non_blocking=True) for name, value in self.tensors().items()}
        return replace(self, draws=self.draws.to(device), **moved)
