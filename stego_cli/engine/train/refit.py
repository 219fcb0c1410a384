"""Probes fitted anew to the finished code: training moves them by gradients, which can leave them in a bad optimum.

The cluster probe is the tightest of several runs of spherical k-means, which needs no label; the linear probe, where
there are labels, is fitted to convergence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from stego_cli.data.labels import IGNORE_LABEL
from stego_cli.engine.fit import FitSettings, Points, fit_probes
from stego_cli.engine.train.measure import labels_at_cells, len_of_batch, spread_batches

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stego_cli.engine.train.batches import Supply
    from stego_cli.engine.train.measure import Yardstick
    from stego_cli.engine.train.step import Trainee

MOST_IMAGES = 2048
MOST_POINTS = 60_000  # 27 clusters of 90 channels take a minute on a CPU
RESTARTS = 10
STREAM = 103  # beside those of `draws`, `data` and `augment`


def refit_probes(with_: Yardstick, trainee: Trainee, seed: int) -> float:
    """Fit both probes to codes of training images, in place; the same code, seed and threads give the same probes.

    Args:
        with_: Training images, features and labels.
        trainee: Its head is left as it is.
        seed: Of the run.

    Returns:
        Mean cosine of the codes to their centroids, in [-1, 1].

    Raises:
        StegoError: If there are fewer positions than clusters.
    """
    points = _sampled(with_.supply, trainee, seed, with_.device)
    settings = FitSettings(with_.clusters, len(with_.space), with_.config.resolution, seed, RESTARTS)
    found = fit_probes(points, settings)
    trainee.cluster_probe.load_state_dict(found.cluster.state_dict())
    if trainee.linear_probe is not None and found.linear is not None:
        trainee.linear_probe.load_state_dict(found.linear.state_dict())
    return found.mean_similarity


@torch.no_grad()
def _sampled(supply: Supply, trainee: Trainee, seed: int, device: torch.device) -> Points:
    """Return codes and labels of positions spread over the training images, on the CPU."""
    head = trainee.objective.head.eval()
    usable = supply.sampler.usable
    per_image = max(MOST_POINTS // min(len(usable), MOST_IMAGES), 1)
    codes, labels = [], []
    for images in spread_batches(usable, MOST_IMAGES, len_of_batch(supply)):
        code = head.code(supply.features_of(images, device)).float().cpu()
        known = labels_at_cells(supply, images, code.shape[-1])
        flat = code.flatten(2).transpose(1, 2)  # (B, K, h, w) -> (B, h * w, K)
        for place, image in enumerate(images):
            chosen = _positions(seed, int(image), flat.shape[1], per_image)
            codes.append(flat[place, chosen])
            labels.append(
                torch.full((len(chosen),), IGNORE_LABEL) if known is None else known[place].flatten()[chosen].long()
            )
    return Points(torch.cat(codes), torch.cat(labels))


def _positions(seed: int, image: int, count: int, most: int) -> NDArray[np.int64]:
    """Draw some of so many positions, all different; a pure function of its arguments."""
    if count <= most:
        return np.arange(count)
    sequence = np.random.SeedSequence((seed, image), spawn_key=(STREAM,))
    return np.sort(np.random.Generator(np.random.Philox(sequence)).permutation(count)[:most])
