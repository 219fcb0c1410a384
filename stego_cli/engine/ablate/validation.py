"""Feature maps of the images that cells are measured on: the backbone sees each image, and its mirror, once.

Images keep their shapes under the protocol `native`, so there is one store for each working size.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from stego_cli.catalog.locate import stego_home
from stego_cli.data import views
from stego_cli.engine.backbone_run import derived_name, extraction, fingerprint
from stego_cli.engine.pieces import InPieces
from stego_cli.engine.threads import executor, read_ahead
from stego_cli.errors import DeviceError, ImageError, StaleError, StegoError
from stego_cli.features.store import FeatureStore, check_space, estimate
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stego_cli.data.dataset import Dataset
    from stego_cli.data.views import View
    from stego_cli.engine.backbone_run import BackboneRun
    from stego_cli.features.fingerprint import Fingerprint
    from stego_cli.progress import Report

    Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Looked:
    """How the images are looked at.

    Attributes:
        run: The split that is measured and the backbone, at the resolution of the measurement.
        mirror: Whether mirror images are looked at, too.
        dtype: Type that features are stored in.
    """

    run: BackboneRun
    mirror: bool
    dtype: str

    def view(self, height: int, width: int) -> View:
        """Return how an image of this size is brought to working size; the same as the segmenter does."""
        resolution = self.run.config.resolution
        if self.run.config.protocol == "paper":
            return views.paper_view(height, width, resolution)
        return views.native_view(height, width, resolution, self.run.backbone.patch_size)

    @property
    def maps_per_image(self) -> int:
        """Feature maps of one image: its own, and that of its mirror image."""
        return 2 if self.mirror else 1


@dataclass(frozen=True)
class Group:
    """The images of one working size.

    Attributes:
        dataset: These images alone.
        size: Their working size in pixels, height first.
        fingerprint: What their features are made from.
        place: Where these are.
    """

    dataset: Dataset
    size: tuple[int, int]
    fingerprint: Fingerprint
    place: Path


@dataclass(frozen=True)
class LookedAt:
    """One image that is measured.

    Attributes:
        name: What it is called in messages.
        view: How it was brought to working size.
        labels: Class ids at its own size, (H, W).
        maps: Features (1, C, h, w), or (2, C, h, w) with those of its mirror image.
        pixels: The image at working size, (h, w, 3); None if nobody asked.
    """

    name: str
    view: View
    labels: NDArray[np.int64]
    maps: NDArray[np.floating]
    pixels: Pixels | None


def groups_of(look: Looked, report: Report) -> list[Group]:
    """Sort the labelled images by working size, from the headers of their files; name those that cannot be read.

    Raises:
        StegoError: If none of them can be read.
    """
    dataset = look.run.dataset
    by_size = defaultdict(list)
    for index, sample in enumerate(dataset.samples):
        if sample.label is None:
            continue
        try:
            by_size[look.view(*dataset.size(index)).size].append(sample)
        except ImageError as error:
            report.warn(f"{printable(sample.name)} is not measured: {error}")
    if not by_size:
        raise StegoError(f"none of the images of {printable(dataset.name)}, {dataset.split}, can be measured")
    return [_group(look, replace(dataset, samples=tuple(samples)), size) for size, samples in by_size.items()]


def _group(look: Looked, dataset: Dataset, size: tuple[int, int]) -> Group:
    run = replace(look.run, dataset=dataset)
    patch, channels = run.backbone.patch_size, run.backbone.channels
    shape = (look.maps_per_image * channels, size[0] // patch, size[1] // patch)
    made = fingerprint(run, "maps", look.dtype).model_copy(update={"shape": shape})
    name = f"{derived_name(run.config, dataset)}-measured{'-mirror' if look.mirror else ''}-{size[0]}x{size[1]}"
    return Group(dataset, size, made, stego_home() / "features" / name)


def missing_images(groups: Iterable[Group]) -> int:
    """Return how many images the backbone has not seen yet."""
    missing = 0
    for group in groups:
        try:
            missing += (
                len(group.dataset) - FeatureStore.open(group.place, group.fingerprint, allow_partial=True).count_done
            )
        except StegoError:  # not there, or of something else
            missing += len(group.dataset)
    return missing


def build_maps(look: Looked, groups: Sequence[Group], report: Report) -> None:
    """Let the backbone see the images that it has not seen yet; each shard is on disk before the next is begun.

    Raises:
        OutputError: If there is not enough space.
        DeviceError: If the memory does not suffice for a single image.
    """
    for group in groups:
        try:
            store = FeatureStore.create(group.place, group.fingerprint, report)
        except StaleError as error:
            report.note(str(error).partition("\n\n")[0] + "\nit is made anew")
            store = FeatureStore.create(group.place, group.fingerprint, report, overwrite=True)
        if missing := store.missing():
            check_space(group.place, estimate(group.fingerprint) * len(missing) // len(store.shards))
            _fill(look, group, store, missing, report)


def _fill(look: Looked, group: Group, store: FeatureStore, missing: Sequence[int], report: Report) -> None:
    at_once = max(look.run.config.batch_size // look.maps_per_image, 1)
    batches = [
        list(store.shards[number][start : start + at_once])
        for number in missing
        for start in range(0, len(store.shards[number]), at_once)
    ]
    total = sum(len(store.shards[number]) for number in missing)
    doing = f"Computing feature maps of {group.dataset.split} at {group.size[0]}x{group.size[1]}"
    with executor(look.run.config.workers) as pool:
        read = read_ahead(batches, partial(_read, look, group.dataset), pool)
        records = report.track(_records(look, group, read, report), doing, total=total)
        for number in missing:
            store.write(number, np.stack([next(records) for _ in store.shards[number]]))
        for _ in records:  # ends the progress
            raise AssertionError("more records than images")


def _read(look: Looked, dataset: Dataset, index: int) -> Pixels | ImageError:
    """Read one image at working size; an error is returned, for the rest of the batch goes on."""
    try:
        pixels = dataset.image(index)
        return views.apply(look.view(pixels.shape[0], pixels.shape[1]), pixels)
    except ImageError as error:
        return error


@torch.inference_mode()
def _records(
    look: Looked, group: Group, batches: Iterator[tuple[list[int], list[Pixels | ImageError]]], report: Report
) -> Iterator[NDArray[np.floating]]:
    """Yield the record of every image, in order; NaN for one that cannot be read."""
    compute = InPieces(partial(_compute, look), partial(_too_large, group.size), report)
    for indices, images in batches:
        answers = iter(compute([image for image in images if not isinstance(image, ImageError)]))
        for index, image in zip(indices, images, strict=True):
            if isinstance(image, ImageError):
                report.warn(f"{printable(group.dataset.samples[index].name)} is not measured: {image}")
                yield np.full(group.fingerprint.shape, np.nan, np.float32)
            else:
                yield next(answers)


def _compute(look: Looked, images: Sequence[Pixels]) -> list[NDArray[np.floating]]:
    """Return the features of images (h, w, 3) of one size, those of the mirror image after the image's own."""
    backbone, autocast = look.run.backbone, extraction(look.run, "maps").autocast
    device = next((each.device for each in (*backbone.parameters(), *backbone.buffers())), torch.device("cpu"))
    tensors = views.normalise(np.stack(images), backbone.mean, backbone.std).to(device)
    if look.mirror:
        tensors = torch.stack([tensors, tensors.flip(-1)], dim=1).flatten(0, 1)  # image, mirror, image, mirror …
    with torch.autocast(device.type, autocast, enabled=autocast is not None):
        features = backbone(tensors).float()
    per_image = features.reshape(len(images), -1, *features.shape[2:])  # (B * m, C, h, w) -> (B, m * C, h, w)
    return list(per_image.cpu().numpy())


def _too_large(size: tuple[int, int], _image: Pixels) -> NDArray[np.floating]:
    raise DeviceError(
        f"there is not enough memory for a single image of {size[0]}x{size[1]} (height x width)\n\n"
        "hint: try a smaller --set train.eval_resolution, or another --device"
    )


def looked_at(look: Looked, groups: Sequence[Group], *, with_pixels: bool) -> Iterator[LookedAt]:
    """Yield every image that can be measured, with its features.

    Args:
        look: How they were looked at.
        groups: The images.
        with_pixels: Read the images, too, as a CRF needs them.

    Raises:
        StegoError: If features are not there.
    """
    for group in groups:
        store = FeatureStore.open(group.place, group.fingerprint)
        failed = set(store.failed)
        numbers = [[index] for index in range(len(group.dataset)) if index not in failed]
        read = partial(_open, look, group, store, with_pixels)
        with executor(min(look.run.config.workers, 1)) as pool:
            for _, (found,) in read_ahead(numbers, read, pool):
                if found is not None:
                    yield found


def _open(look: Looked, group: Group, store: FeatureStore, with_pixels: bool, index: int) -> LookedAt | None:
    """Read one image's labels and features; one whose labels cannot be used was named when it was prepared."""
    dataset = group.dataset
    try:
        size = dataset.size(index)
        labels = dataset.labels(index, size)
        view = look.view(*size)
        pixels = views.apply(view, dataset.image(index)) if with_pixels else None
    except ImageError:
        return None
    if labels is None:
        return None
    maps = store[index]
    per_image = maps.reshape(look.maps_per_image, -1, *maps.shape[1:])
    return LookedAt(dataset.samples[index].name, view, labels, per_image, pixels)


def bad_labels(group: Group) -> Iterator[str]:
    """Yield a line for each image whose labels cannot be used; every label map is read."""
    for index, sample in enumerate(group.dataset.samples):
        try:
            group.dataset.labels(index, group.dataset.size(index))
        except ImageError as error:
            yield f"{printable(sample.name)} is not measured: {error}"
