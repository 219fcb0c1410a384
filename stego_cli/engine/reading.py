"""Images of a dataset as batches of equal working size, a few in memory at a time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stego_cli.data import views
from stego_cli.data.images import read_image
from stego_cli.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from stego_cli.backbones.base import Backbone
    from stego_cli.data.folder_dataset import LabelledImage
    from stego_cli.data.views import View
    from stego_cli.progress import Report


@dataclass(frozen=True)
class WorkingImage:
    """One image of a dataset at the size that the backbone sees.

    Attributes:
        index: Its place in the dataset.
        source: The dataset's item.
        view: How it was brought to working size, and how maps get back from it.
        pixels: Shape (h, w, 3), RGB.
    """

    index: int
    source: LabelledImage
    view: View
    pixels: NDArray[np.uint8]


def working_batches(
    images: Sequence[LabelledImage], patch_size: int, resolution: int, batch_size: int, report: Report, doing: str
) -> Iterator[list[WorkingImage]]:
    """Yield the images in batches of equal working size, as soon as a batch is full; the rest at the end.

    Args:
        images: What to read.
        patch_size: Working sides are multiples of it.
        resolution: Shorter side of the working images, in pixels.
        batch_size: Most images in a batch.
        report: Shows progress under the words `doing`, and is warned of images that cannot be read; those are left out.
        doing: What this is for.
    """
    waiting: dict[tuple[int, ...], list[WorkingImage]] = defaultdict(list)
    for index, source in enumerate(report.track(images, doing, total=len(images))):
        try:
            loaded = read_image(source.path)
        except ImageError as error:
            report.warn(f"{source.path.name} was skipped: {error}")
            continue
        height, width = loaded.pixels.shape[:2]
        view = views.native_view(height, width, resolution, patch_size)
        image = WorkingImage(index, source, view, views.apply(view, loaded.pixels))
        batch = waiting[image.pixels.shape]
        batch.append(image)
        if len(batch) == batch_size:
            yield waiting.pop(image.pixels.shape)
    yield from waiting.values()


def as_tensor(batch: Sequence[WorkingImage], backbone: Backbone, device: torch.device) -> Tensor:
    """Return a batch as the backbone wants it: (B, 3, h, w), normalised, on the device."""
    return views.normalise(np.stack([image.pixels for image in batch]), backbone.mean, backbone.std).to(device)
