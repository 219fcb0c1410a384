"""What a trained cell is worth: its probes, on cached features of the validation images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from stego_cli.crf.base import seen_by_crf
from stego_cli.crf.build import build_crf
from stego_cli.data import views
from stego_cli.engine.ablate.validation import looked_at
from stego_cli.engine.evaluate.counts import Tally, score_all
from stego_cli.engine.train.measure import ALPHA
from stego_cli.errors import StegoError
from stego_cli.metrics.per_image import count_image

if TYPE_CHECKING:
    from torch import Tensor

    from stego_cli.config.ablate import AblateConfig
    from stego_cli.engine.ablate.ground import OpenGround
    from stego_cli.engine.ablate.validation import Group, LookedAt
    from stego_cli.engine.train.step import Trainee
    from stego_cli.methods.base import Method
    from stego_cli.metrics.scores import Scores
    from stego_cli.probes.linear import LinearProbe
    from stego_cli.segmenter import Array

HEADS = ("cluster", "linear", "cluster_crf", "linear_crf")


@dataclass(frozen=True)
class Trained:
    """What a cell trained.

    Attributes:
        trainee: Has the probes, and a head.
        reading: Maps what `groups` hold to code.
        method: Maps features to code.
        groups: The images to measure.
    """

    trainee: Trainee
    reading: Method
    method: Method
    groups: tuple[Group, ...]

    @property
    def linear_probe(self) -> LinearProbe:
        """The linear probe, which is always there as the images have labels."""
        if self.trainee.linear_probe is None:
            raise AssertionError("a cell without labels was not refused")
        return self.trainee.linear_probe


@torch.inference_mode()
def measure_cell(config: AblateConfig, ground: OpenGround, trained: Trained) -> tuple[Tally, dict[str, Scores]]:
    """Measure a cell on all images of the validation split, as `stego eval` measures its model.

    Raises:
        StegoError: If there is nothing to measure on.
    """
    rows = {"cluster": ground.plan.clusters, "linear": len(ground.plan.space)}
    heads = [head for head in HEADS if config.crf or not head.endswith("_crf")]
    classes = len(ground.plan.space)
    tally = Tally({head: torch.zeros(rows[head.split("_")[0]], classes, dtype=torch.int64) for head in heads})
    images = 0
    for image in looked_at(ground.look, trained.groups, with_pixels=config.crf):
        images += 1
        for head, said in _answers(config, ground, trained, image).items():
            labels = image.labels
            if config.protocol == "paper":
                labels = views.apply_to_labels(image.view, labels)
            tally.counts[head] += count_image(said, labels, *tally.counts[head].shape).dense()
    if not images or not any(bool(counts.any()) for counts in tally.counts.values()):
        raise StegoError(
            f"no pixel of the labels of the {images} images to measure on is one of {classes} classes\n\n"
            f"hint: class ids count from 0 to {classes - 1}; --classes or --label-space say which there are"
        )
    scores, _ = score_all(tally, "reference" if config.protocol == "paper" else "errors", overcluster=False)
    return tally, scores


def code_of(method: Method, maps: Tensor) -> Tensor:
    """Return the code of one image (K, h, w), averaged over its mirror image if the maps (m, C, h, w) hold it.

    A method that standardises by the batch sees the two as its batch, as `stego eval` does with --batch-size 1.
    """
    codes = method.code(maps).float()
    return codes[0] if len(codes) == 1 else (codes[0] + codes[1].flip(-1)) / 2


def _answers(config: AblateConfig, ground: OpenGround, trained: Trained, image: LookedAt) -> dict[str, Array]:
    """Return what every head says of one image, at the size at which the protocol compares."""
    maps = torch.from_numpy(image.maps).to(ground.device).float()
    code = code_of(trained.reading, maps)[None]
    size = image.view.size
    found = {
        "cluster": trained.trainee.cluster_probe.log_probs(code, ALPHA, size),
        "linear": trained.linear_probe.log_probs(code, size),
    }
    scores = {head: each[0].cpu().numpy() for head, each in found.items()}
    answers = {head: _compared(config, image, each) for head, each in scores.items()}
    if image.pixels is None:
        return answers
    guide = image.pixels
    if config.protocol == "paper":
        backbone = ground.plan.run.backbone
        guide = seen_by_crf(views.normalise(guide, backbone.mean, backbone.std)[0].numpy(), backbone.mean, backbone.std)
    refined = build_crf(config.crf_parameters).refine(guide, list(scores.values()))
    sharp = {f"{head}_crf": _compared(config, image, each) for head, each in zip(scores, refined, strict=True)}
    return answers | sharp


def _compared(config: AblateConfig, image: LookedAt, scores: Array) -> Array:
    """Return the best class of each pixel: at working size under `paper`, at the image's own under `native`."""
    return scores.argmax(0) if config.protocol == "paper" else views.restore_labels(image.view, scores)[0]
