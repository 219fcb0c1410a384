"""How good fitted probes are on labelled images, at the images' own size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from stego_cli.data import views
from stego_cli.data.folder_dataset import read_label_map
from stego_cli.engine.reading import WorkingImage, as_tensor, working_batches
from stego_cli.errors import ImageError
from stego_cli.metrics.confusion import ConfusionMatrix
from stego_cli.metrics.matching import match_clusters
from stego_cli.metrics.scores import Scores, score

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from stego_cli.backbones.base import Backbone
    from stego_cli.crf.base import DenseCrf
    from stego_cli.data.folder_dataset import LabelledImage
    from stego_cli.engine.fit_parts import FitSettings, Probes
    from stego_cli.progress import Report


@torch.inference_mode()
def evaluate_probes(
    backbone: Backbone,
    probes: Probes,
    images: Sequence[LabelledImage],
    settings: FitSettings,
    report: Report,
    crf: DenseCrf | None = None,
) -> dict[str, ConfusionMatrix]:
    """Count predictions against labels for each probe over all images that have a label map.

    The code is upsampled to the working size before the probes, and their log-probabilities to the label map, which
    has the size of the image.

    Returns:
        Counts under `cluster` (rows are clusters) and, if there is one, `linear` (rows are classes).
    """
    counts = {"cluster": ConfusionMatrix(settings.clusters, settings.classes)}
    if probes.linear is not None:
        counts["linear"] = ConfusionMatrix(settings.classes, settings.classes)
    labelled = [image for image in images if image.label_path is not None]
    batches = working_batches(
        labelled, backbone.patch_size, settings.resolution, settings.batch_size, report, "Measuring"
    )
    for batch in batches:
        codes = _code(backbone, as_tensor(batch, backbone, settings.device), mirror=settings.mirror).cpu()
        for image, code in zip(batch, codes, strict=True):
            labels = _labels(image, report)
            if labels is None:
                continue
            for name, label_map in _label_maps(code, image, probes, settings.alpha, crf).items():
                counts[name].update(torch.from_numpy(label_map), labels)
    return counts


def score_probes(counts: dict[str, ConfusionMatrix], cluster_to_class: Tensor | None) -> dict[str, Scores]:
    """Turn counts into scores.

    Args:
        counts: Result of `evaluate_probes`.
        cluster_to_class: Names of the clusters that were found elsewhere, if any.

    Returns:
        `cluster` (matched to the labels of the measured images: the usual protocol), `cluster_named` (with the given
        names, so what a user sees), `linear`; those for which there are counts and names.
    """
    found = counts["cluster"].counts
    scores = {"cluster": score(found, match_clusters(found))}
    if cluster_to_class is not None:
        scores["cluster_named"] = score(found, cluster_to_class)
    if "linear" in counts:
        scores["linear"] = score(counts["linear"].counts)
    return scores


def _code(backbone: Backbone, images: Tensor, *, mirror: bool) -> Tensor:
    """Map images to code (B, D, h, w), which here is the feature map, averaged over the mirror image if asked."""
    straight: Tensor = backbone(images)
    return (straight + backbone(images.flip(-1)).flip(-1)) / 2 if mirror else straight


def _labels(image: WorkingImage, report: Report) -> Tensor | None:
    """Read the label map of an image; None, with a warning, if it cannot be used."""
    assert image.source.label_path is not None  # noqa: S101  the caller chose those that have one
    try:
        labels = read_label_map(image.source.label_path)
        check_label_size(labels, image)
    except ImageError as error:
        report.warn(f"{image.source.path.name} was not measured: {error}")
        return None
    return torch.from_numpy(labels)


def check_label_size(labels: NDArray[np.int64], image: WorkingImage) -> None:
    """Refuse a label map of another size than its image.

    Raises:
        ImageError: Names both sizes.
    """
    height, width = image.view.input_height, image.view.input_width
    if labels.shape != (height, width):
        raise ImageError(f"its label map is {labels.shape[0]}x{labels.shape[1]}, the image {height}x{width}")


def _label_maps(
    code: Tensor, image: WorkingImage, probes: Probes, alpha: float, crf: DenseCrf | None
) -> dict[str, NDArray[np.uint8]]:
    """Let the probes speak of one image: code (D, h, w) to label maps of the image's own size."""
    code = functional.interpolate(code[None].float(), image.pixels.shape[:2], mode="bilinear", align_corners=False)
    answers = {"cluster": probes.cluster.log_probs(code, alpha)}
    if probes.linear is not None:
        answers["linear"] = probes.linear.log_probs(code)
    maps = [answer[0].numpy() for answer in answers.values()]
    if crf is not None:
        maps = crf.refine(image.pixels, maps)
    return {name: views.restore_labels(image.view, one)[0] for name, one in zip(answers, maps, strict=True)}
