"""The model as people use it: an image in, classes out."""

from __future__ import annotations

import copy
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from stego_cli.backbones.registry import build_backbone
from stego_cli.backbones.weights import freeze, load_strictly
from stego_cli.backbones.windows import code_in_windows, whole_patches
from stego_cli.checkpoints.storages import not_finite
from stego_cli.config.crf import CrfParameters
from stego_cli.crf.base import seen_by_crf
from stego_cli.crf.build import build_crf, build_torch_crf
from stego_cli.data import views
from stego_cli.data.labels import anonymous_label_space
from stego_cli.errors import CheckpointError, StegoError
from stego_cli.methods.build import build_method
from stego_cli.prediction import Array, Labelled, Prediction, Scored, Settings, labelled, shares
from stego_cli.probes.cluster import ClusterProbe
from stego_cli.probes.linear import LinearProbe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stego_cli.checkpoints.native import Checkpoint
    from stego_cli.config.model import LabelSpace, ModelConfig, Probe
    from stego_cli.config.words import Protocol
    from stego_cli.crf.torch_crf import TorchCrf
    from stego_cli.data.views import View

__all__ = ["Array", "Labelled", "Prediction", "Scored", "Segmenter", "Settings", "shares"]

PAPER_ALPHA = 2.0
PAPER_RESOLUTION = 320
# On a CPU this many pixels go through the backbone at once: two images of 320x320. The activations of more are so large
# that the system takes their memory back after every layer, and to get it anew costs a tenth of the time.
PASS_PIXELS = 2 * 320 * 320
_SCORE_BYTES = 512 * 2**20  # of log-probabilities of one probe that are on the device at once


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

    @property
    def by_batch(self) -> bool:
        """Whether the code of an image depends on the others of its batch, as in one study of the method."""
        return bool(getattr(self.head, "by_batch", False))

    def code(self, images: Tensor, *, mirror: bool = False, autocast: torch.dtype | None = None) -> Tensor:
        """Map normalised images to code.

        Args:
            images: Shape (B, 3, H, W), in whole patches.
            mirror: Average the code over the image and its mirror.
            autocast: Type of the backbone's arithmetic; None is float32.

        Returns:
            Shape (B, K, h, w), float32.
        """
        if not mirror:
            return cast("Tensor", self.head(self._features(images, autocast)))
        both = cast("Tensor", self.head(self._features(torch.cat([images, images.flip(-1)]), autocast)))
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
        if probe == "cluster":
            return self.cluster_probe.log_probs(code, alpha or self.config.alpha, size)
        if self.linear_probe is None:
            raise StegoError("this model has no linear probe\n\nhint: use --probe cluster")
        return self.linear_probe.log_probs(code, size)

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
        scored = self.scores(working, settings)
        return [self.answer(*of_one, settings) for of_one in zip(scored, working, target, strict=True)]

    @torch.inference_mode()
    def scores(self, working: Sequence[Array], settings: Settings) -> list[Scored]:
        """Do what the model's device does: images of equal working size, each (h, w, 3) uint8 RGB, to scores."""
        images = views.normalise(np.stack(working), self.backbone.mean, self.backbone.std)
        code = partial(self.code, mirror=settings.mirror, autocast=settings.autocast)
        size, seen_in = (images.shape[-2], images.shape[-1]), None
        if settings.tile is not None and max(size) > settings.tile:
            seen_in = whole_patches(settings.tile, self.backbone.patch_size)
            codes = code_in_windows(code, images.to(self.device), seen_in, self.backbone.patch_size)
        else:
            codes = code(images.to(self.device))
        crf, alpha = self._crf_on_device(settings.crf), PAPER_ALPHA if settings.protocol == "paper" else None
        most = max(self.config.num_clusters, len(self.config.label_space))
        at_once = max(_SCORE_BYTES // (4 * most * size[0] * size[1]), 1)
        found: list[Scored] = []
        for start in range(0, len(working), at_once):
            part = codes[start : start + at_once]
            stacks = [self.log_probs(part, probe, size, alpha) for probe in settings.probes]
            if crf is not None:
                guides = [self.seen_by_crf(image, settings) for image in working[start : start + at_once]]
                stacks = crf.refine_tensors(torch.from_numpy(np.stack(guides)).to(self.device), stacks)
            # One transfer for all images of the part: the device never waits for the host image by image.
            maps = dict(zip(settings.probes, (stack.cpu().numpy() for stack in stacks), strict=True))
            of_each = ({probe: stack[i] for probe, stack in maps.items()} for i in range(len(part)))
            found += [Scored(each, are_logs=crf is None, tile=seen_in) for each in of_each]
        return found

    def answer(self, scored: Scored, working: Array, view: View, settings: Settings) -> dict[Probe, Labelled]:
        """Do what the host does: the scores of one image to label maps of the input's size."""
        maps, are_logs = scored.maps, scored.are_logs
        if settings.crf is not None and are_logs:
            refined = build_crf(settings.crf).refine(self.seen_by_crf(working, settings), list(maps.values()))
            maps, are_logs = dict(zip(maps, refined, strict=True)), False
        assignments = {"cluster": self.config.cluster_to_class, "linear": None}
        return {
            probe: labelled(view, scores, are_logs, assignments[probe], len(self.config.label_space))
            for probe, scores in maps.items()
        }

    def seen_by_crf(self, working: Array, settings: Settings) -> Array:
        """Return the image (h, w, 3) that the CRF looks at; under `paper` with the reference's loss by truncation."""
        if settings.protocol != "paper":
            return working
        mean, std = self.backbone.mean, self.backbone.std
        return seen_by_crf(views.normalise(working, mean, std)[0].numpy(), mean, std)

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

    def _crf_on_device(self, parameters: CrfParameters | None) -> TorchCrf | None:
        """Return the CRF that works on the model's device, if it is one for which that is faster or asked for."""
        if parameters is None or parameters.implementation in {"fast", "reference"}:
            return None
        if parameters.implementation == "auto" and self.device.type != "cuda":
            return None
        return _torch_crf(parameters, self.device)

    def _features(self, images: Tensor, autocast: torch.dtype | None) -> Tensor:
        """Map normalised images (B, 3, H, W) to features (B, C, h, w), float32."""
        with torch.autocast(images.device.type, autocast, enabled=autocast is not None):
            if images.device.type != "cpu":
                return cast("Tensor", self.backbone(images)).float()
            passes = torch.split(images, max(PASS_PIXELS // (images.shape[-2] * images.shape[-1]), 1))
            maps = [cast("Tensor", self.backbone(each)) for each in passes]
        return (torch.cat(maps) if len(maps) > 1 else maps[0]).float()


@lru_cache(maxsize=2)
def _torch_crf(parameters: CrfParameters, device: torch.device) -> TorchCrf:
    """Return the same CRF for the same settings: it keeps what depends on the size of images alone."""
    return build_torch_crf(parameters, device)
