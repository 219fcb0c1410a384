"""What the STEGO head is trained for, as one module: a step's input to its loss terms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stego_cli.methods.stego.correspondence import Compared, correspondence, similarities
from stego_cli.methods.stego.draws import NO_DROP
from stego_cli.methods.stego.head import StegoHead
from stego_cli.methods.stego.losses import alignment_loss, crf_loss, reconstruction_loss
from stego_cli.methods.stego.salience import mix, salient_coords
from stego_cli.methods.stego.sampling import Source, label_source, map_source, size_of

if TYPE_CHECKING:
    from stego_cli.config.losses import LossConfig
    from stego_cli.methods.base import Method
    from stego_cli.methods.stego.draws import DropMasks
    from stego_cli.methods.stego.step import StepInput


@dataclass(frozen=True)
class Objective:
    """What a step found.

    Attributes:
        loss: The weighted sum, a scalar to be differentiated.
        terms: Every term by name, unweighted, and the mean code similarities (`..._corr`).
        code: Code of the images, float32, shape (B, K, h, w).
    """

    loss: Tensor
    terms: dict[str, Tensor]
    code: Tensor


class StegoObjective(nn.Module):
    """The head, the decoder where features are rebuilt, and the loss of both.

    Attributes:
        head: The method that is trained; one without parameters gives the baseline whose probes alone learn.
        decoder: A 1x1 convolution from code to features; None unless `rec_weight` is positive.
    """

    def __init__(self, config: LossConfig, head: Method, feature_dim: int, num_classes: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.head = head
        self.num_classes = num_classes
        self.decoder = nn.Conv2d(head.code_dim, feature_dim, 1) if config.rec_weight > 0 else None

    def forward(self, step: StepInput) -> Objective:
        """Return the loss of one step. Codes may be half precision under autocast; the loss never is.

        Raises:
            ValueError: If the step lacks what a term needs.
        """
        config, device = self.config, step.features.device.type
        code = project(self.head, step.features, step.draws.image)
        terms: dict[str, Tensor] = {}
        if config.correspondence_weight > 0:
            neighbor = project(self.head, _needed(step.neighbor_features), step.draws.neighbor)
            with torch.autocast(device, enabled=False):
                terms.update(self._correspondence(step, code.float(), neighbor.float()))
        if config.rec_weight > 0 and self.decoder is not None:
            rebuilt = self.decoder(code)
            with torch.autocast(device, enabled=False):
                features = _dropped(step.features.float(), step.draws.image.features)
                terms["rec"] = reconstruction_loss(rebuilt.float(), features)
        if config.aug_weight > 0:
            augmented = project(self.head, _needed(step.augmented_features), step.draws.augmented)
            with torch.autocast(device, enabled=False):
                coords = _needed(step.augmented_coords)
                terms["aug"] = alignment_loss(code.float(), augmented.float(), coords, config.positions)
        if config.crf_weight > 0:
            with torch.autocast(device, enabled=False):
                terms["crf"] = crf_loss(config.crf, _needed(step.images), code.float(), _needed(step.draws.crf_cells))
        return Objective(weigh(config, terms, code), terms, code.float())

    def _correspondence(self, step: StepInput, code: Tensor, neighbor: Tensor) -> dict[str, Tensor]:
        """Compare features, or labels in their place, with codes at the drawn positions."""
        image_signal, neighbor_signal = self._signals(step)
        return correspondence(
            self.config,
            Compared(image_signal, map_source(code)),
            Compared(neighbor_signal, map_source(neighbor)),
            self._coords(step, code, neighbor),
            step.draws.negatives,
        ).terms()

    @torch.no_grad()
    def similarities(self, step: StepInput) -> dict[str, tuple[Tensor, Tensor]]:
        """Return how alike the pairs of positions of a step are, with nothing dropped.

        Returns:
            For `self`, `knn` and `random`: cosines of features (or labels) and of codes, each of shape
            (B, P, comparisons, P). Empty if the loss compares no pairs.
        """
        if self.config.correspondence_weight == 0:
            return {}
        bare = replace(step, draws=replace(step.draws, image=NO_DROP, neighbor=NO_DROP))
        code = project(self.head, bare.features, NO_DROP).float()
        neighbor = project(self.head, _needed(bare.neighbor_features), NO_DROP).float()
        coords, negatives = self._coords(bare, code, neighbor), bare.draws.negatives
        features = similarities(*self._signals(bare), coords, negatives)
        codes = similarities(map_source(code), map_source(neighbor), coords, negatives)
        return dict(zip(("self", "knn", "random"), zip(features, codes, strict=True), strict=True))

    def _signals(self, step: StepInput) -> tuple[Source, Source]:
        """Return what says which positions belong together."""
        if self.config.use_true_labels:
            if self.num_classes is None:
                raise ValueError("use_true_labels needs the number of classes")
            labels = (_needed(step.labels), _needed(step.neighbor_labels))
            return label_source(labels[0], self.num_classes), label_source(labels[1], self.num_classes)
        draws = step.draws
        return (
            map_source(step.features, draws.image.features),
            map_source(_needed(step.neighbor_features), draws.neighbor.features),
        )

    def _coords(self, step: StepInput, code: Tensor, neighbor: Tensor) -> tuple[Tensor, Tensor]:
        """Return the positions in the images and in what they are compared with."""
        draws, protocol = step.draws, self.config.positions
        if not self.config.use_salience:
            return draws.coords1, draws.coords2
        chances, keep = _needed(draws.salience), _needed(draws.keep_salient)
        found = salient_coords(_needed(step.salience), chances[0], size_of(code), protocol)
        there = salient_coords(_needed(step.neighbor_salience), chances[1], size_of(neighbor), protocol)
        return mix(draws.coords1, found, keep), mix(draws.coords2, there, keep)


def project(head: Method, features: Tensor, masks: DropMasks) -> Tensor:
    """Return the head's code with given dropout masks, independent ones for each of its projections.

    Args:
        head: Any method; one that is not the STEGO head has nothing to drop.
        features: Shape (B, C, h, w); half precision is fine.
        masks: What is dropped, whatever mode the head is in.
    """
    if not torch.is_autocast_enabled(features.device.type):
        features = features.float()
    if not isinstance(head, StegoHead):
        return head.code(features)
    code: Tensor = head.linear(_dropped(features, masks.linear))
    if head.nonlinear:
        hidden = head.hidden(_dropped(features, masks.hidden))
        code = code + head.output(nn.functional.relu(hidden))
    return code


def weigh(config: LossConfig, terms: dict[str, Tensor], code: Tensor) -> Tensor:
    """Return the weighted sum of the terms, float32; zero when there are none."""
    weights = {
        "self": config.self_weight * config.correspondence_weight,
        "knn": config.knn_weight * config.correspondence_weight,
        "random": config.random_weight * config.correspondence_weight,
        "rec": config.rec_weight,
        "aug": config.aug_weight,
        "crf": config.crf_weight,
    }
    return sum(
        (weights[name] * term for name, term in terms.items() if name in weights), torch.zeros((), device=code.device)
    )


def _dropped(features: Tensor, mask: Tensor | None) -> Tensor:
    """Multiply the channels of (B, C, h, w) by a mask (B, C)."""
    return features if mask is None else features * mask.to(features.dtype)[:, :, None, None]


def _needed(value: Tensor | None) -> Tensor:
    """Return the tensor that a term of the loss cannot do without."""
    if value is None:
        raise ValueError("the step lacks something that its loss needs; see StepInput for what each term takes")
    return value
