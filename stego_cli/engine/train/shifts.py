"""Shifts of the correspondence loss from the images themselves: how alike are features, and what counts as alike?

Similarity less the shift is what pulls two codes together, or pushes them apart where it is negative. The rule takes
each shift as a quantile of the similarities that its comparison really sees, centred as in the loss: of the pairs of
positions of one image, and of an image and its neighbour, the most similar fifth is pulled together; of two images
drawn at random the most similar tenth, as less of them belongs together. The rest is pushed apart.

The quantiles come from a sweep with the filter bank on CamVid, where everything from 70 % to 90 % did about equally
well and the median much worse, as codes then collapse to one or two clusters. They are a start, not an optimum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from stego_cli.methods.stego.correspondence import feature_correspondence, feature_pulls
from stego_cli.methods.stego.draws import draw_step, plan_draws
from stego_cli.methods.stego.sampling import at_coords, map_source

if TYPE_CHECKING:
    from stego_cli.config.losses import LossConfig
    from stego_cli.engine.train.batches import Supply
    from stego_cli.progress import Report

QUANTILES = {"self": 0.8, "knn": 0.8, "random": 0.9}
BATCHES = 8
_BINS, _BLOCKS = 24, " ▁▂▃▄▅▆▇█"
_LOWEST, _HIGHEST = -0.6, 1.0


@torch.no_grad()
def chosen_shifts(
    supply: Supply, loss: LossConfig, seed: int, device: torch.device, report: Report
) -> dict[str, float]:
    """Return the three shifts by their names in `LossConfig`, and show the histograms that they come from."""
    found: dict[str, list[torch.Tensor]] = {name: [] for name in QUANTILES}
    for number in range(BATCHES):
        for name, values in _similarities(supply, loss, seed, number, device).items():
            found[name].append(values.flatten().cpu())
    shifts = {}
    for name, parts in found.items():
        values = torch.cat(parts)
        shift = round(float(values.kthvalue(max(int(QUANTILES[name] * len(values)), 1)).values), 4)
        shifts[f"{name}_shift"] = shift
        report.note(
            f"{name:>6} {_histogram(values)} {100 * QUANTILES[name]:.0f} % of pairs are below {shift:.3f}, the shift"
        )
    report.note(f"       {_LOWEST:<{_BINS // 2}.1f}{_HIGHEST:>{_BINS // 2}.1f}")
    return shifts


def _similarities(
    supply: Supply, loss: LossConfig, seed: int, number: int, device: torch.device
) -> dict[str, torch.Tensor]:
    """Return what the loss takes its shifts off, for one batch."""
    images = supply.sampler.images(seed, number)
    partners = supply.sampler.partners(seed, number, images)
    features, others = supply.features_of(images, device), supply.features_of(partners, device)
    draws = draw_step(plan_draws(loss, 0.0, len(images), features.shape[1]), seed, number).to(device)
    size = features.shape[-2], features.shape[-1]
    first = map_source(features).sample(at_coords(draws.coords1, size))
    second = at_coords(draws.coords2, size)
    compared = {
        "self": first,
        "knn": map_source(others).sample(second),
        "random": map_source(features[draws.negatives[0]]).sample(second),
    }
    return {
        name: feature_pulls(loss, feature_correspondence(first, vectors)[:, :, None], 0.0)
        for name, vectors in compared.items()
    }


def _histogram(values: torch.Tensor) -> str:
    """Draw how often values occur, the most frequent ones as a full block."""
    counts = torch.histc(values.clamp(_LOWEST, _HIGHEST), _BINS, _LOWEST, _HIGHEST)
    levels = (counts / counts.max() * (len(_BLOCKS) - 1)).ceil().long()
    return "".join(_BLOCKS[level] for level in levels.tolist())
