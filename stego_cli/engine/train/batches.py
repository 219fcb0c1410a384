"""Training steps made ready in threads beside the training: read, drawn, pinned. Each depends on seed and step only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from stego_cli.data import views
from stego_cli.engine.threads import executor, read_ahead
from stego_cli.engine.train.data import read_squares
from stego_cli.methods.stego.augment import augment
from stego_cli.methods.stego.draws import draw_step, plan_draws
from stego_cli.methods.stego.step import StepInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from stego_cli.backbones.base import Backbone
    from stego_cli.config.losses import LossConfig
    from stego_cli.data.dataset import Dataset
    from stego_cli.engine.train.data import LabelMaps, SalienceMasks, Sampler, Square
    from stego_cli.features.reader import FeatureReader
    from stego_cli.methods.stego.draws import StepDraws


@dataclass(frozen=True)
class Prepared:
    """A step on the CPU.

    Attributes:
        number: Of the step, from 0.
        images: Numbers of its images.
        draws: Its random choices.
        tensors: What it is given as it is, by its name in `StepInput`.
        pixels: Normalised images (B, 3, side, side) whose features it is given, by the features' name there.
    """

    number: int
    images: NDArray[np.int64]
    draws: StepDraws
    tensors: dict[str, Tensor]
    pixels: dict[str, Tensor]


@dataclass(frozen=True)
class Supply:
    """All that steps are made from. Safe in threads.

    Attributes:
        dataset: The images.
        square: How they become what the backbone sees.
        sampler: Which of them a step takes.
        backbone: Frozen, on the training device; computes features that are not known.
        features: Features that are known; None for none.
        labels: Labels; None for none.
        loss: Says what else a step needs.
        dropout: Of the head.
        seed: Of the run.
        share: Which part of each batch this process takes: its rank, of how many.
        autocast: Type of the backbone's arithmetic; None is float32.
        salience: Masks of what stands out; None unless the loss asks for them.
    """

    dataset: Dataset
    square: Square
    sampler: Sampler
    backbone: Backbone
    features: FeatureReader | None
    labels: LabelMaps | None
    loss: LossConfig
    dropout: float
    seed: int
    share: tuple[int, int] = (0, 1)
    autocast: torch.dtype | None = None
    salience: SalienceMasks | None = None

    def images(self, number: int) -> NDArray[np.int64]:
        """Return the images of a step that this process takes."""
        rank, world = self.share
        return self.sampler.images(self.seed, number)[rank::world]

    def prepare(self, number: int) -> Prepared:
        """Make a step ready.

        Raises:
            StegoError: If features or images cannot be read.
        """
        rank, world = self.share
        whole = self.sampler.images(self.seed, number)
        images, partners = whole[rank::world], self.sampler.partners(self.seed, number, whole)[rank::world]
        seed = self.seed if world == 1 else _mixed(self.seed, rank)
        plan = plan_draws(self.loss, self.dropout, len(images), self.backbone.channels)
        tensors: dict[str, Tensor] = {}
        pixels: dict[str, Tensor] = {}
        wanted = {"features": images}
        if self.loss.correspondence_weight > 0:
            wanted["neighbor_features"] = partners
        for name, numbers in wanted.items():
            if self.features is not None:
                tensors[name] = torch.from_numpy(self.features.read(numbers))
            else:
                pixels[name] = self._normalised(read_squares(self.dataset, self.square, numbers))
        if self.labels is not None:
            tensors["labels"] = torch.from_numpy(self.labels.read(images))
            if self.loss.use_true_labels:
                tensors["neighbor_labels"] = torch.from_numpy(self.labels.read(partners))
        if self.salience is not None:
            tensors["salience"] = torch.from_numpy(self.salience.read(images))
            tensors["neighbor_salience"] = torch.from_numpy(self.salience.read(partners))
        self._add_augmented(images, number, tensors, pixels)
        return Prepared(number, images, draw_step(plan, seed, number), tensors, pixels)

    def _add_augmented(
        self, images: NDArray[np.int64], number: int, tensors: dict[str, Tensor], pixels: dict[str, Tensor]
    ) -> None:
        """Add what the CRF loss and the alignment loss look at."""
        if self.loss.crf_weight == 0 and self.loss.aug_weight == 0:
            return
        squares = read_squares(self.dataset, self.square, images)
        if self.loss.crf_weight > 0:
            tensors["images"] = self._normalised(squares)
        if self.loss.aug_weight > 0:
            changed, tensors["augmented_coords"] = augment(squares, self.seed, number, images)
            pixels["augmented_features"] = self._normalised(changed)

    def _normalised(self, squares: NDArray[np.uint8]) -> Tensor:
        return views.normalise(squares, self.backbone.mean, self.backbone.std)

    def given(self, prepared: Prepared, device: torch.device) -> StepInput:
        """Return a step on the device, with the features that only the backbone can tell."""
        tensors = {name: _moved(tensor, device) for name, tensor in prepared.tensors.items()}
        if prepared.pixels:
            tensors |= self._seen({name: _moved(tensor, device) for name, tensor in prepared.pixels.items()}, device)
        return StepInput(draws=prepared.draws.to(device), **tensors)

    @torch.no_grad()
    def _seen(self, pixels: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        with torch.autocast(device.type, self.autocast, enabled=self.autocast is not None):
            features = self.backbone(torch.cat(list(pixels.values()))).float()
        return dict(zip(pixels, features.chunk(len(pixels)), strict=True))

    def features_of(self, images: NDArray[np.int64], device: torch.device) -> Tensor:
        """Return features of any images, (n, C, h, w) float32, on the device."""
        if self.features is not None:
            return torch.from_numpy(self.features.read(images)).to(device).float()
        pixels = self._normalised(read_squares(self.dataset, self.square, images)).to(device)
        return self._seen({"features": pixels}, device)["features"]


def prepared_steps(supply: Supply, first: int, end: int, workers: int, device: torch.device) -> Iterator[Prepared]:
    """Yield the steps from `first` up to `end`, each made ready while the one before it is trained on."""

    def make(number: int) -> Prepared:
        prepared = supply.prepare(number)
        if device.type != "cuda":
            return prepared
        pinned = [
            {name: each.pin_memory() for name, each in part.items()} for part in (prepared.tensors, prepared.pixels)
        ]
        return Prepared(prepared.number, prepared.images, prepared.draws, *pinned)

    # Two threads at most: a step is ready long before it is needed, and more would only hold more memory.
    with executor(min(workers, 2)) as pool:
        for _, made in read_ahead(([number] for number in range(first, end)), make, pool):
            yield made[0]


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.to(device, non_blocking=tensor.is_pinned() if device.type == "cuda" else False)


def _mixed(seed: int, rank: int) -> int:
    """Return a seed of its own for each process among several."""
    return int(np.random.SeedSequence((seed, rank)).generate_state(1)[0])
