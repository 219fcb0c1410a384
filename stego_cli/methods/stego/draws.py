"""All random choices of one training step: a pure function of seed and step.

A resumed run draws what the uninterrupted one would have drawn, with no generator state to save. Numbers come from
NumPy's Philox on the CPU, whose streams are fixed, so that they are the same on every device and torch version. Each
kind of draw has a stream of its own: switching one term of the loss on or off leaves the others' draws alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from stego_cli.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor

    from stego_cli.config.losses import LossConfig

CRF_SIDE = 56  # side of the grid that the CRF loss works on, whatever the image's shape
STREAMS = ("coords", "negatives", "image", "neighbor", "augmented", "crf", "salience")

Draws = TypeVar("Draws", "DropMasks", "StepDraws")


@dataclass(frozen=True)
class DropMasks:
    """Factors of channels, 0 or 1 / (1 - p), each of shape (B, C): an independent mask per use of the features.

    Attributes:
        linear: For the input of the head's linear projection; None, here and below, drops nothing.
        hidden: For the input of its two-layer projection.
        features: For the features that are compared or rebuilt.
    """

    linear: Tensor | None = None
    hidden: Tensor | None = None
    features: Tensor | None = None


NO_DROP = DropMasks()


@dataclass(frozen=True)
class StepDraws:
    """What is drawn for one step; positions are (x, y) in [-1, 1], the centres of the map's corner cells.

    Attributes:
        coords1: Positions in each image, shape (B, S, S, 2).
        coords2: Positions in each neighbour, and in each random image; the same shape.
        negatives: Which image of the batch each image is compared with, int64, shape (negative samples, B).
        image: Masks for the image's features.
        neighbor: Masks for the neighbour's features.
        augmented: Masks for the augmented image's features.
        crf_cells: Rows and columns on the grid of the CRF loss, int64, shape (2, n).
        salience: Numbers in [0, 1) that pick salient pixels, shape (2, B, S * S, 2); first image, then neighbour.
        keep_salient: Numbers in [0, 1) that say which of the salient positions are used, shape (B, S, S).
    """

    coords1: Tensor
    coords2: Tensor
    negatives: Tensor
    image: DropMasks = NO_DROP
    neighbor: DropMasks = NO_DROP
    augmented: DropMasks = NO_DROP
    crf_cells: Tensor | None = None
    salience: Tensor | None = None
    keep_salient: Tensor | None = None

    def __post_init__(self) -> None:
        first, second = tuple(self.coords1.shape), tuple(self.coords2.shape)
        if first != second or len(first) != 4 or first[3] != 2:
            raise ShapeError(f"coordinates must be (B, S, S, 2), both alike, not {first} and {second}")
        if self.negatives.ndim != 2 or self.negatives.shape[1] != first[0]:
            raise ShapeError(f"negatives must be (draws, {first[0]}), not {tuple(self.negatives.shape)}")

    def to(self, device: torch.device) -> StepDraws:
        """Return the draws on `device`; for CUDA they are copied from pinned memory, so that nothing waits."""
        return _moved(self, device)


@dataclass(frozen=True)
class DrawPlan:
    """How much a step draws.

    Attributes:
        batch: Images B.
        channels: Feature channels C.
        samples: Side S of the square of positions.
        negatives: Random images per image.
        dropout: Chance that a channel is dropped.
        drop_features: Whether the compared features are dropped out, too.
        augmented: Whether augmented images take part.
        crf_samples: Positions of the CRF loss; 0 for none.
        salience: Whether positions follow salience masks.
    """

    batch: int
    channels: int
    samples: int = 11
    negatives: int = 5
    dropout: float = 0.0
    drop_features: bool = True
    augmented: bool = False
    crf_samples: int = 0
    salience: bool = False


def plan_draws(config: LossConfig, dropout: float, batch: int, channels: int) -> DrawPlan:
    """Return what the loss needs drawn for `batch` images whose features have `channels` channels."""
    return DrawPlan(
        batch=batch,
        channels=channels,
        samples=config.feature_samples,
        negatives=config.negative_samples,
        dropout=dropout,
        drop_features=config.drop_features,
        augmented=config.aug_weight > 0,
        crf_samples=config.crf.samples if config.crf_weight > 0 else 0,
        salience=config.use_salience,
    )


def draw_step(plan: DrawPlan, seed: int, step: int) -> StepDraws:
    """Draw everything for one step, on the CPU.

    Args:
        plan: How much.
        seed: Seed of the run, not negative; a process among several mixes its rank into it.
        step: Number of the step, from 0.
    """
    random = {
        name: np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, step), spawn_key=(stream,))))
        for stream, name in enumerate(STREAMS)
    }
    batch, side = plan.batch, plan.samples
    coords = _uniform(random["coords"], 2, batch, side, side, 2) * 2 - 1
    permutations = [random["negatives"].permutation(batch) for _ in range(plan.negatives)]
    salience = keep = crf_cells = None
    if plan.salience:
        salience = _uniform(random["salience"], 2, batch, side * side, 2)
        keep = _uniform(random["salience"], batch, side, side)
    if plan.crf_samples:
        crf_cells = torch.from_numpy(random["crf"].integers(0, CRF_SIDE, (2, plan.crf_samples)))
    return StepDraws(
        coords1=coords[0],
        coords2=coords[1],
        negatives=avoid_self(torch.from_numpy(np.stack(permutations))),
        image=_drop(plan, random["image"]),
        neighbor=_drop(plan, random["neighbor"]),
        augmented=_drop(plan, random["augmented"]) if plan.augmented else NO_DROP,
        crf_cells=crf_cells,
        salience=salience,
        keep_salient=keep,
    )


def avoid_self(permutations: Tensor) -> Tensor:
    """Send every image that a permutation leaves in place to the next one (the reference's `super_perm`).

    The result may name an image twice, so it need not be a permutation. A single image stays its own partner.

    Args:
        permutations: Int64, shape (..., n), each row a permutation of 0 .. n - 1.

    Example:
        >>> avoid_self(torch.tensor([[0, 2, 1], [2, 0, 1]]))
        tensor([[1, 2, 1],
                [2, 0, 1]])
    """
    count = permutations.shape[-1]
    own = permutations == torch.arange(count, device=permutations.device)
    return (permutations + own) % count


def _uniform(random: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(random.random(shape, dtype=np.float32))


def _drop(plan: DrawPlan, random: np.random.Generator) -> DropMasks:
    """Draw the three masks of one view, in the order in which the reference applies them."""
    if not plan.dropout:
        return NO_DROP
    kept = _uniform(random, 3, plan.batch, plan.channels) >= plan.dropout
    linear, hidden, features = kept / (1 - plan.dropout)
    return DropMasks(linear, hidden, features if plan.drop_features else None)


def _moved(draws: Draws, device: torch.device) -> Draws:
    def move(value: Any) -> Any:
        if isinstance(value, DropMasks):
            return _moved(value, device)
        if value is None or device.type != "cuda":
            return value if value is None else value.to(device)
        return value.pin_memory().to(device, non_blocking=True)

    return replace(draws, **{field.name: move(getattr(draws, field.name)) for field in fields(draws)})
