"""The model as people use it: an image in, classes out."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from stego_cli.backbones.registry import build_backbone
from stego_cli.backbones.weights import freeze, load_strictly
from stego_cli.checkpoints.storages import not_finite
from stego_cli.config.crf import CrfParameters
from stego_cli.crf.base import seen_by_crf
from stego_cli.crf.build import build_crf
from stego_cli.data import views
from stego_cli.data.labels import anonymous_label_space
from stego_cli.errors import CheckpointError, StegoError
from stego_cli.methods.build import build_method
from stego_cli.probes.cluster import ClusterProbe
from stego_cli.probes.linear import LinearProbe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image

    from stego_cli.checkpoints.native import Checkpoint
    from stego_cli.config.model import LabelSpace, ModelConfig, Probe
    from stego_cli.config.words import Protocol
    from stego_cli.crf.base import DenseCrf
    from stego_cli.data.views import View

Array = np.ndarray[Any, np.dtype[Any]]
PAPER_ALPHA = 2.0
PAPER_RESOLUTION = 320


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
    """

    probes: tuple[Probe, ...] = ("cluster",)
    protocol: Protocol = "native"
    mirror: bool = True
    resolution: int | None = None
    crf: CrfParameters | None = None
    autocast: torch.dtype | None = None


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


class Segmenter(nn.Module):
    """Backbone, head and probes together: maps images to code, log-probabilities and label maps.

    Args:
        config: What the model is made of. The parts are built from it without weights; `from_checkpoint` fills them.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config.backbone)
        self.head = build_method(config.method, self.backbone.channels)
        self.cluster_probe = ClusterProbe(config.num_clusters, self.head.code_dim)
        self.linear_probe = (
            LinearProbe(len(config.label_space), self.head.code_dim) if config.has_linear_probe else None
        )

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, device: torch.device | str = "cpu") -> Segmenter:
        """Build the model of a checkpoint, frozen and ready to predict.

        Raises:
            WeightsError: If the tensors are not exactly those that the config asks for.
            CheckpointError: If one of them holds values that are no finite numbers, which would make every mask noise.
        """
        if broken := not_finite(checkpoint.tensors):
            raise CheckpointError(
                f"`{broken[0]}` of the checkpoint holds values that are not finite\n\n"
                "hint: fetch or make the model again; its training went astray, or the file is damaged"
            )
        model = cls(checkpoint.config)
        load_strictly(model, checkpoint.tensors_for_modules(), "the checkpoint")
        freeze(model.backbone)
        return model.eval().to(device)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.cluster_probe.centroids.device

    def label_space(self, probe: Probe) -> LabelSpace:
        """Return the classes that a probe's label maps speak of.

        The cluster probe speaks of classes once its clusters were matched to labels, and of `cluster 0`, `cluster 1`
        … before. Clusters that no class was found for keep a name of their own after the classes.
        """
        space, assignment = self.config.label_space, self.config.cluster_to_class
        if probe == "linear":
            return space
        if assignment is None:
            return anonymous_label_space(self.config.num_clusters)
        unmatched = [cluster for cluster, class_id in enumerate(assignment) if class_id < 0]
        if not unmatched:
            return space
        spare = anonymous_label_space(self.config.num_clusters)
        return space.model_copy(
            update={
                "names": space.names + tuple(f"{spare.names[cluster]} (no class)" for cluster in unmatched),
                "colours": space.colours + tuple(spare.colours[cluster] for cluster in unmatched),
            }
        )

    def without_names(self) -> Segmenter:
        """Return the same model, sharing every part, whose label maps of the cluster probe hold cluster ids."""
        other = copy.copy(self)
        other.config = self.config.model_copy(update={"cluster_to_class": None})
        return other

    def view(self, height: int, width: int, settings: Settings) -> View:
        """Return how an image of this size is brought to working size."""
        if settings.protocol == "paper":
            return views.paper_view(height, width, self.resolution(settings))
        return views.native_view(height, width, self.resolution(settings), self.backbone.patch_size)

    def resolution(self, settings: Settings) -> int:
        """Return the shorter side of working images in pixels."""
        default = PAPER_RESOLUTION if settings.protocol == "paper" else self.config.resolution
        return settings.resolution or default

    def code(self, images: Tensor, *, mirror: bool = False) -> Tensor:
        """Map normalised images (B, 3, H, W) to code (B, K, h, w), averaged over the mirror image if asked."""
        if not mirror:
            return cast("Tensor", self.head(self.backbone(images)))
        both = cast("Tensor", self.head(self.backbone(torch.cat([images, images.flip(-1)]))))
        straight, mirrored = both.chunk(2)
        return (straight + mirrored.flip(-1)) / 2

    def log_probs(
        self, code: Tensor, probe: Probe, size: tuple[int, int] | None = None, alpha: float | None = None
    ) -> Tensor:
        """Map code to a probe's log-probabilities, upsampling the code first, as the reference does.

        Args:
            code: Shape (B, K, h, w).
            probe: Which probe.
            size: Height and width of the result; None keeps the code's.
            alpha: Inverse temperature of the cluster probe; None takes the model's.

        Returns:
            Shape (B, n, *size), float32, natural logarithms; n is the number of clusters or classes.

        Raises:
            StegoError: If the model has no linear probe.
        """
        if size is not None:
            code = nn.functional.interpolate(code.float(), size, mode="bilinear", align_corners=False)
        if probe == "cluster":
            return self.cluster_probe.log_probs(code, alpha or self.config.alpha)
        if self.linear_probe is None:
            raise StegoError("this model has no linear probe\n\nhint: use --probe cluster")
        return self.linear_probe.log_probs(code)

    @torch.inference_mode()
    def segment(
        self, working: Sequence[Array], target: Sequence[View], settings: Settings
    ) -> list[dict[Probe, Labelled]]:
        """Segment a batch of images of equal working size.

        Args:
            working: Images brought to working size by `View`, each (h, w, 3) uint8 RGB.
            target: Their views, to get back to the input's size.
            settings: How.

        Returns:
            Per image, what each probe says.
        """
        images = views.normalise(np.stack(working), self.backbone.mean, self.backbone.std)
        with torch.autocast(self.device.type, settings.autocast, enabled=settings.autocast is not None):
            codes = self.code(images.to(self.device), mirror=settings.mirror).float()
        crf = build_crf(settings.crf) if settings.crf else None
        return [
            self._answer(codes[i : i + 1], self._crf_image(working[i], images[i], settings), target[i], settings, crf)
            for i in range(len(working))
        ]

    def predict(
        self,
        image: Any,
        *,
        probe: Probe = "cluster",
        crf: bool | CrfParameters = False,
        protocol: Protocol = "native",
        mirror: bool = True,
        resolution: int | None = None,
    ) -> Prediction:
        """Segment one image.

        Args:
            image: A path, a PIL image, an array (H, W), (H, W, 3) or (H, W, 4), or a tensor (3, H, W); uint8 in
                [0, 255], uint16, or float in [0, 1]. RGB order.
            probe: Which probe answers.
            crf: True for a dense CRF with the reference parameters, or parameters of your own.
            protocol: `native` or `paper`.
            mirror: Average the code over the image and its mirror.
            resolution: Shorter side of the working image; None takes the model's own.

        Returns:
            The label map at the image's own size, with names, colours and shares.

        Raises:
            ImageError: If the image cannot be read or is of a kind that is not understood.
        """
        from stego_cli.data.images import load_image

        loaded = load_image(image)
        parameters = CrfParameters() if crf is True else (crf or None)
        settings = Settings((probe,), protocol, mirror, resolution, parameters)
        height, width = loaded.pixels.shape[:2]
        view = self.view(height, width, settings)
        result = self.segment([views.apply(view, loaded.pixels)], [view], settings)[0][probe]
        return Prediction(result.label_map, self.label_space(probe), loaded.pixels, result.counts, loaded.notes)

    def _crf_image(self, working: Array, image: Tensor, settings: Settings) -> Array:
        """Return the image that the CRF looks at; under `paper` with the reference's loss by truncation."""
        if settings.protocol == "paper":
            return seen_by_crf(image.numpy(), self.backbone.mean, self.backbone.std)
        return working

    def _answer(
        self, code: Tensor, guide: Array, view: View, settings: Settings, crf: DenseCrf | None
    ) -> dict[Probe, Labelled]:
        """Let every probe speak of one image: code (1, K, h, w) to label maps at the input's size.

        Images go through the probes one by one because the upsampled code is by far the largest array of all.
        """
        alpha = PAPER_ALPHA if settings.protocol == "paper" else None
        scores = [
            self.log_probs(code, probe, guide.shape[:2], alpha)[0].float().cpu().numpy() for probe in settings.probes
        ]
        if crf is not None:
            scores = crf.refine(guide, scores)
        return {
            probe: self._labelled(probe, view, maps, are_logs=crf is None)
            for probe, maps in zip(settings.probes, scores, strict=True)
        }

    def _labelled(self, probe: Probe, view: View, scores: Array, *, are_logs: bool) -> Labelled:
        """Bring one probe's scores (n, h, w) to the input's size and to the values of its label space."""
        label_map, counts = views.restore_labels(view, scores)
        assignment = self.config.cluster_to_class
        if probe == "linear" or assignment is None:
            return Labelled(label_map, counts, scores, are_logs)
        classes = len(self.label_space(probe))
        values = _values(assignment, len(self.config.label_space))
        counts_by_class = np.zeros(classes, counts.dtype)
        np.add.at(counts_by_class, values, counts)
        # Whatever is no cluster, 255 or -1, lands on an entry that was not overwritten.
        table = np.full(max(256, len(values) + 1), views.outside_value(classes), np.int32)
        table[: len(values)] = values
        kind = np.uint8 if classes <= 255 else np.int32
        return Labelled(table.astype(kind)[label_map], counts_by_class, scores, are_logs)


def _values(assignment: Sequence[int], classes: int) -> Array:
    """Return the label-map value of every cluster: its class, or a spare value after the classes."""
    values = np.array(assignment)
    unmatched = values < 0
    values[unmatched] = classes + np.arange(unmatched.sum())
    return values


def shares(counts: Array, space: LabelSpace) -> dict[str, float]:
    """Return the share of each class that occurs, largest first; empty if nothing was counted.

    Args:
        counts: Pixels per class, shape (classes,).
        space: Their names.
    """
    total = int(counts.sum())
    order = np.argsort(-counts, kind="stable")
    return {space.names[i]: float(counts[i]) / total for i in order if counts[i]}
