"""What those who watch a training are shown at every measurement: how alike codes are, cluster sizes, pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from stego_cli.engine.train.measure import MOST_SCORED, len_of_batch, spread_batches
from stego_cli.errors import ImageError
from stego_cli.files import printable
from stego_cli.report.training_pictures import side_by_side
from stego_cli.segmenter import Segmenter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from stego_cli.checkpoints.native import Checkpoint
    from stego_cli.data.dataset import Dataset
    from stego_cli.engine.train.measure import Yardstick
    from stego_cli.engine.train.step import Trainee

SHOWN = 4  # images, the same ones every time
COSINES = np.linspace(-1, 1, 81)  # edges of the bins


@dataclass(frozen=True, eq=False)  # comparing arrays has no single answer
class Histogram:
    """How often values occur.

    Attributes:
        values: All of them, of any shape.
        edges: Of the bins, ascending, shape (bins + 1,).
    """

    values: NDArray[Any]
    edges: NDArray[np.floating[Any]]


class Watcher(Protocol):
    """Somebody who is shown a training, such as TensorBoard. Names have their group before a `/`."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Show a row of the history, or scores."""
        ...

    def histograms(self, step: int, found: Mapping[str, Histogram]) -> None:
        """Show how values are distributed."""
        ...

    def pictures(self, step: int, found: Mapping[str, NDArray[np.uint8]]) -> None:
        """Show pictures (H, W, 3), RGB."""
        ...


def show_measurement(
    watchers: Sequence[Watcher], step: int, with_: Yardstick, trainee: Trainee, checkpoint: Checkpoint
) -> None:
    """Show the model as it is after so many steps, histograms and pictures; nothing is computed if nobody watches."""
    if not watchers:
        return
    found = {**correspondences(with_, trainee), **cluster_sizes(with_, trainee)}
    shown = pictures(with_, checkpoint)
    for watcher in watchers:
        watcher.histograms(step, found)
        watcher.pictures(step, shown)


def correspondences(with_: Yardstick, trainee: Trainee) -> dict[str, Histogram]:
    """Return how alike features and codes of each kind of pair are, always of the same images and positions.

    Returns:
        `features/self`, `codes/self` and so on for `knn` and `random`; nothing if the loss compares no pairs.
    """
    step = with_.supply.given(with_.supply.prepare(0), with_.device)
    found = trainee.objective.similarities(step)
    return {
        f"{what}/{kind}": Histogram(cosines.float().cpu().numpy(), COSINES)
        for kind, pair in found.items()
        for what, cosines in zip(("features", "codes"), pair, strict=True)
    }


@torch.no_grad()
def cluster_sizes(with_: Yardstick, trainee: Trainee) -> dict[str, Histogram]:
    """Return how many positions of some training images fall into each cluster."""
    head, supply = trainee.objective.head.eval(), with_.supply
    found = [
        trainee.cluster_probe.inner_products(head.code(supply.features_of(images, with_.device)).float()).argmax(1)
        for images in spread_batches(supply.sampler.usable, MOST_SCORED, len_of_batch(supply))
    ]
    edges = np.arange(with_.clusters + 1) - 0.5
    return {"clusters/size": Histogram(torch.cat(found).cpu().numpy(), edges)}


def pictures(with_: Yardstick, checkpoint: Checkpoint) -> dict[str, NDArray[np.uint8]]:
    """Return a few images beside what the model makes of them, and beside their labels where there are any.

    They are validation images if there are any to measure on, else training images, by `<split>/<name>`.
    """
    dataset = with_.validation or with_.supply.dataset
    model = Segmenter.from_checkpoint(checkpoint, with_.device)
    found = {}
    for image in _spread(dataset):
        try:
            pixels = dataset.image(image)
            labels = dataset.labels(image, (pixels.shape[0], pixels.shape[1]))
        except ImageError:  # it was named when it was to be measured, or read for training
            continue
        said = model.predict(pixels)
        maps = [(said.label_map, said.label_space.colours)]
        maps += [] if labels is None else [(labels, with_.space.colours)]
        found[f"{dataset.split}/{printable(dataset.samples[image].name)}"] = side_by_side(pixels, maps)
    return found


def _spread(dataset: Dataset) -> list[int]:
    """Return a few images spread over a dataset, of those with labels if there are any."""
    labelled = [number for number, sample in enumerate(dataset.samples) if sample.label]
    chosen = np.array(labelled or range(len(dataset)))
    places = np.linspace(0, len(chosen) - 1, min(SHOWN, len(chosen))).round().astype(int)
    return [int(number) for number in chosen[np.unique(places)]]
