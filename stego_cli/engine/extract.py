"""A frozen backbone over a whole dataset split: one record per image, shard by shard, resumable at the shard."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from stego_cli.data.views import apply, normalise, square_view
from stego_cli.engine.pieces import InPieces
from stego_cli.engine.threads import executor, read_ahead
from stego_cli.errors import DeviceError, ImageError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from numpy.typing import NDArray
    from torch import Tensor

    from stego_cli.backbones.base import Backbone
    from stego_cli.config.words import LoaderCrop
    from stego_cli.data.dataset import Dataset
    from stego_cli.progress import Report

    Array = NDArray[np.floating[Any]]


class Sink(Protocol):
    """Where records go, a shard at a time; a `FeatureStore` is one."""

    @property
    def shards(self) -> Sequence[range]:
        """The images of each shard."""
        ...

    def missing(self, rank: int = 0, world: int = 1) -> list[int]:
        """Return the shards that one of several ranks should make."""
        ...

    def write(self, shard: int, records: Array) -> None:
        """Take the records of a whole shard."""
        ...


@dataclass(frozen=True)
class Extraction:
    """How images become records.

    Attributes:
        dataset: The images.
        backbone: Frozen, on the device.
        record: Maps features (B, C, h, w) to records (B, *shape): themselves, or something smaller.
        resolution: Side of the square that the backbone sees, in pixels.
        loader_crop: How an image becomes a square.
        antialias: Whether its resize averages, or picks the nearest pixel as the reference does.
        batch_size: Images that go through the backbone together.
        workers: Threads that read images.
        autocast: Type of the backbone's arithmetic; None is float32.
    """

    dataset: Dataset
    backbone: Backbone
    record: Callable[[Tensor], Tensor]
    resolution: int
    loader_crop: LoaderCrop
    antialias: bool
    batch_size: int
    workers: int
    autocast: torch.dtype | None = None


def rank_and_world() -> tuple[int, int]:
    """Return which of how many processes this is, as torchrun and SLURM tell; each makes its own share of shards."""
    for rank, world in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):
        if os.environ.get(rank, "").isdigit() and os.environ.get(world, "").isdigit():
            return int(os.environ[rank]), max(int(os.environ[world]), 1)
    return 0, 1


def fill(store: Sink, how: Extraction, report: Report, doing: str, share: tuple[int, int] = (0, 1)) -> None:
    """Compute the records that the store does not have yet. An image that cannot be read gets a record of NaN.

    A shard is written when it is whole, so a run that is stopped loses the shard it is at and nothing else. Batches
    do not cross shards, so that a resumed run gives the same bytes as one that was never stopped.

    Args:
        store: Where records go.
        how: How they are made.
        report: Told the progress, and which images cannot be read.
        doing: What the progress is called.
        share: Which part of the shards this process makes: its rank, of how many.

    Raises:
        OutputError: If the store cannot be written.
        DeviceError: If the memory does not suffice for a single image.
    """
    shards = [(number, store.shards[number]) for number in store.missing(*share)]
    batches = [
        list(indices[start : start + how.batch_size])
        for _, indices in shards
        for start in range(0, len(indices), how.batch_size)
    ]
    total = sum(len(indices) for _, indices in shards)
    with executor(how.workers) as pool:
        records = _records(how, read_ahead(batches, partial(_read, how), pool), report)
        shown = report.track(records, doing, total=total)
        for number, indices in shards:
            store.write(number, np.stack([next(shown) for _ in indices]))
        for _ in shown:  # ends the progress
            raise AssertionError("more records than images")


@torch.inference_mode()
def _records(
    how: Extraction, batches: Iterator[tuple[list[int], list[NDArray[np.uint8] | ImageError]]], report: Report
) -> Iterator[Array]:
    """Yield the record of every image, in order."""
    compute = InPieces(partial(_compute, how), partial(_too_large, how), report)
    for indices, images in batches:
        answers = iter(compute([image for image in images if not isinstance(image, ImageError)]))
        for index, image in zip(indices, images, strict=True):
            if isinstance(image, ImageError):
                report.warn(f"{printable(how.dataset.samples[index].name)} was skipped: {image}")
                yield _nothing(how)
            else:
                yield next(answers)


def _read(how: Extraction, index: int) -> NDArray[np.uint8] | ImageError:
    """Read one image as the square that the backbone sees; an error is returned, for the rest of the batch goes on."""
    try:
        pixels = how.dataset.image(index)
        height, width = pixels.shape[:2]
        view = square_view(height, width, how.resolution, how.loader_crop, antialias=how.antialias)
        return apply(view, pixels)
    except ImageError as error:
        return error


def _compute(how: Extraction, images: Sequence[NDArray[np.uint8]]) -> list[Array]:
    """Run the backbone over images (h, w, 3) of one size."""
    backbone = how.backbone
    device = next((tensor.device for tensor in (*backbone.parameters(), *backbone.buffers())), torch.device("cpu"))
    tensors = normalise(np.stack(images), backbone.mean, backbone.std).to(device)
    with torch.autocast(device.type, how.autocast, enabled=how.autocast is not None):
        features = backbone(tensors)
    return list(how.record(features.float()).cpu().numpy())


def record_shape(how: Extraction) -> tuple[int, ...]:
    """Return the shape of one record, without computing one."""
    side = how.resolution // how.backbone.patch_size
    empty = torch.zeros(1, how.backbone.channels, side, side)
    return tuple(how.record(empty).shape[1:])


def _nothing(how: Extraction) -> Array:
    return np.full(record_shape(how), np.nan, np.float32)


def _too_large(how: Extraction, image: NDArray[np.uint8]) -> Array:
    raise DeviceError(
        f"there is not enough memory for a single image of {image.shape[0]}x{image.shape[1]} (height x width)\n\n"
        f"hint: try a --res below {how.resolution}, or another --device"
    )
