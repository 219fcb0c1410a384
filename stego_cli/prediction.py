"""What a model is asked, and what it answers: scores, label maps, how much of the image each class has, pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from stego_cli.data import views

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from PIL import Image

    from stego_cli.config.crf import CrfParameters
    from stego_cli.config.model import LabelSpace, Probe
    from stego_cli.config.words import Protocol

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Settings:
    """How images are segmented.

    Attributes:
        probes: Which probes answer.
        protocol: `native` (antialiased, whole image) or `paper` (nearest neighbour, centre crop, alpha 2).
        mirror: Average the code over the image and its mirror.
        resolution: Shorter side of the working image in pixels; None takes the model's own, 320 under `paper`.
        crf: Sharpen the probabilities with a dense CRF of these parameters.
        autocast: Type of the backbone's arithmetic; None is float32.
        tile: Side in pixels of the windows that larger working images are seen in; None sees all images whole.
    """

    probes: tuple[Probe, ...] = ("cluster",)
    protocol: Protocol = "native"
    mirror: bool = True
    resolution: int | None = None
    crf: CrfParameters | None = None
    autocast: torch.dtype | None = None
    tile: int | None = None


@dataclass(frozen=True)
class Scored:
    """What the probes make of one image at working size, before the CRF of the host.

    Attributes:
        maps: By probe, (n, h, w) float32: log-probabilities, or probabilities if a CRF has run.
        are_logs: Which of the two.
        tile: Side of the windows that the image was seen in, in pixels; None if it was seen whole.
    """

    maps: dict[Probe, Array]
    are_logs: bool = True
    tile: int | None = None


@dataclass(frozen=True)
class Labelled:
    """What one probe says of one image.

    Attributes:
        label_map: Values of the label space, shape (H, W) of the input image; `views.outside_value` where `paper`
            cropped.
        counts: Pixels of each class, shape (classes,).
        scores: At working size, (n, h, w) float32, a channel per cluster or class of the probe: probabilities after
            the CRF, log-probabilities without one.
        are_logs: Which of the two.
    """

    label_map: Array
    counts: Array
    scores: Array
    are_logs: bool

    def probabilities(self) -> Array:
        """Return the scores as probabilities, which sum to 1 over the channels."""
        return np.exp(self.scores) if self.are_logs else self.scores


@dataclass(frozen=True)
class Prediction:
    """One segmented image.

    Attributes:
        label_map: Shape (H, W), the input's own size; a value is an index into `label_space.names`.
        label_space: Names and colours of the classes.
        notes: What was done to an unusual image, in words.
    """

    label_map: Array
    label_space: LabelSpace
    pixels: Array = field(repr=False)
    counts: Array = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def shares(self) -> dict[str, float]:
        """Share of the labelled pixels per class that occurs, largest first; fractions that sum to 1."""
        return shares(self.counts, self.label_space)

    def overlay(self, opacity: float = 0.5) -> Image.Image:
        """Return the image with the classes' colours laid over it."""
        from PIL import Image

        from stego_cli.report.overlay import overlay

        return Image.fromarray(overlay(self.pixels, self.label_map, self.label_space, opacity=opacity))

    def save(self, path: Path) -> None:
        """Write the label map as a palette PNG of the image's size."""
        from stego_cli.report.masks import write_label_png

        write_label_png(path, self.label_map, self.label_space, views.outside_value(len(self.label_space)))


def labelled(
    view: views.View, scores: Array, are_logs: bool, assignment: Sequence[int] | None, classes: int
) -> Labelled:
    """Bring one probe's scores to the input's size and to the values of its label space.

    Args:
        view: How the image was brought to working size.
        scores: (n, h, w), h and w those of the view.
        are_logs: Whether they are logarithms.
        assignment: Class of each cluster, -1 for none; None if the scores are of classes already.
        classes: How many classes the label space has; clusters without a class get the values after them.
    """
    label_map, counts = views.restore_labels(view, scores)
    if assignment is None:
        return Labelled(label_map, counts, scores, are_logs)
    values = np.array(assignment)
    unmatched = values < 0
    values[unmatched] = classes + np.arange(unmatched.sum())
    total = classes + int(unmatched.sum())
    counts_by_class = np.zeros(total, counts.dtype)
    np.add.at(counts_by_class, values, counts)
    # Whatever is no cluster, 255 or -1, lands on an entry that was not overwritten.
    table = np.full(max(256, len(values) + 1), views.outside_value(total), np.int32)
    table[: len(values)] = values
    kind = np.uint8 if total <= 255 else np.int32
    return Labelled(table.astype(kind)[label_map], counts_by_class, scores, are_logs)


def shares(counts: Array, space: LabelSpace) -> dict[str, float]:
    """Return the share of each class that occurs, largest first; empty if nothing was counted.

    Args:
        counts: Pixels per class, shape (classes,).
        space: Their names.
    """
    total = int(counts.sum())
    order = np.argsort(-counts, kind="stable")
    return {space.names[i]: float(counts[i]) / total for i in order if counts[i]}
