"""How an image becomes what the network works on, and how the answer gets back to the image's own size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from stego_cli.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from stego_cli.config.words import LoaderCrop

LONGEST = 4
"""The longer side of a native view is at most this many times the resolution, so that memory stays bounded."""

_BAND_BYTES = 64 * 2**20  # working memory of `restore_labels`, whatever the size of the image


@dataclass(frozen=True)
class View:
    """The way from an image to what the network sees: a resize, then a crop. Sizes are in pixels, height first.

    Attributes:
        input_height: Height of the image.
        input_width: Width of the image.
        resized: Height and width after the resize.
        crop: Top, left, height and width of the crop within the resized image.
        antialias: Whether the resize averages (bicubic) or picks the nearest pixel, as the STEGO reference does.
    """

    input_height: int
    input_width: int
    resized: tuple[int, int]
    crop: tuple[int, int, int, int]
    antialias: bool

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what the network sees; images of equal size can form a batch."""
        return self.crop[2:]


def native_view(height: int, width: int, resolution: int, patch_size: int) -> View:
    """Return the view for everyday use: the whole image, antialiased, in whole patches.

    The shorter side becomes `resolution`, unless the longer one would exceed `LONGEST` times that; both are rounded
    to the nearest multiple of `patch_size`, and are one patch at least.

    Example:
        >>> native_view(480, 360, 320, 8).size
        (424, 320)
        >>> native_view(10, 20000, 320, 8).size
        (8, 1280)
    """
    _check_positive(height, width, resolution)
    scale = min(resolution / min(height, width), LONGEST * resolution / max(height, width))
    most = max(LONGEST * resolution // patch_size, 1)
    patches = [min(max(int(side * scale / patch_size + 0.5), 1), most) for side in (height, width)]
    size = patches[0] * patch_size, patches[1] * patch_size
    return View(height, width, size, (0, 0, *size), antialias=True)


def paper_view(height: int, width: int, resolution: int) -> View:
    """Return the view of the STEGO reference: shorter side to `resolution`, nearest neighbour, centre crop.

    Example:
        >>> paper_view(360, 480, 320)
        View(input_height=360, input_width=480, resized=(320, 426), crop=(0, 53, 320, 320), antialias=False)
    """
    _check_positive(height, width, resolution)
    longer = int(resolution * max(height, width) / min(height, width))
    resized = (longer, resolution) if height > width else (resolution, longer)
    top, left = (round((side - resolution) / 2) for side in resized)  # halves to even, as the reference
    return View(height, width, resized, (top, left, resolution, resolution), antialias=False)


def squash_view(height: int, width: int, resolution: int) -> View:
    """Return the reference's view without a crop: both sides to `resolution`, nearest neighbour."""
    _check_positive(height, width, resolution)
    size = (resolution, resolution)
    return View(height, width, size, (0, 0, *size), antialias=False)


def square_view(height: int, width: int, resolution: int, crop: LoaderCrop, *, antialias: bool) -> View:
    """Return the view that training and neighbour search use: a square of `resolution`, whatever the image's shape.

    Args:
        height: Height of the image in pixels.
        width: Its width.
        resolution: Side of the square in pixels.
        crop: `center` cuts the middle out, `squash` changes the shape.
        antialias: False for the nearest pixel, as the STEGO reference does.

    Example:
        >>> square_view(360, 480, 224, "center", antialias=True).crop
        (0, 37, 224, 224)
    """
    make = paper_view if crop == "center" else squash_view
    return replace(make(height, width, resolution), antialias=antialias)


def apply(view: View, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bring an image (H, W, 3) to what the network sees, (h, w, 3).

    Raises:
        ShapeError: If the image is not of the size that the view was made for.
    """
    _check_input(view, pixels)
    if not view.antialias:
        return _pick(view, pixels)
    top, left, height, width = view.crop
    size = view.resized[1], view.resized[0]
    # Reducing first by a whole factor is several times faster, and not visible at three times the final size.
    resized = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.array(resized)[top : top + height, left : left + width]


def apply_to_labels(view: View, labels: NDArray[Any]) -> NDArray[Any]:
    """Bring a label map (H, W) of any integer type to what the network sees; always by the nearest pixel.

    Raises:
        ShapeError: If the labels are not of the size that the view was made for.
    """
    _check_input(view, labels)
    return _pick(view, labels)


def normalise(pixels: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Turn images into what the backbone takes: divided by 255, minus the mean, divided by the deviation.

    Args:
        pixels: (B, h, w, 3) or (h, w, 3), RGB.
        mean: Per channel, of values in [0, 1].
        std: Likewise.

    Returns:
        (B, 3, h, w) float32 on the CPU; B is 1 for a single image.
    """
    import torch  # only here, so that planning a run stays light

    batch = pixels if pixels.ndim == 4 else pixels[None]
    images = torch.from_numpy(np.require(batch, requirements=["C", "W"])).permute(0, 3, 1, 2)
    floats = images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    centre, spread = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (mean, std))
    return floats.sub_(centre).div_(spread)


def outside_value(num_classes: int) -> int:
    """Return the value of pixels that the network did not see, 255 where that cannot be a class, else -1."""
    return 255 if num_classes <= 255 else -1


def restore_labels(view: View, probs: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Bring class probabilities to the size of the input image and take the most likely class of each pixel.

    The probabilities are interpolated bilinearly (half-pixel centres, borders repeated, as `interpolate` of PyTorch
    with align_corners False). That is only computed where the four neighbours disagree: where they agree on a class,
    every mixture of them does. Memory beyond the result does not grow with the image.

    Args:
        view: The view that the image was brought to working size by.
        probs: (n, h, w), probabilities or log-probabilities; h and w are `view.size`.

    Returns:
        Class ids (H, W), uint8 (int32 for more than 255 classes), `outside_value(n)` outside the crop; and the number
        of pixels of each class, (n,).

    Raises:
        ShapeError: If `probs` is not of the view's size.
    """
    if probs.shape[1:] != view.size:
        raise ShapeError(f"probabilities of {probs.shape[1:]} for a view of {view.size} (height, width)")
    rows = _taps(view.input_height, view.resized[0], view.crop[0], view.crop[2])
    columns = _taps(view.input_width, view.resized[1], view.crop[1], view.crop[3])
    kind = np.uint8 if len(probs) <= 255 else np.int32
    label_map = np.full((view.input_height, view.input_width), outside_value(len(probs)), kind)
    seen = label_map[rows.start : rows.start + len(rows.first), columns.start : columns.start + len(columns.first)]
    counts = np.zeros(len(probs), np.int64)
    by_pixel = np.ascontiguousarray(probs.transpose(1, 2, 0))  # (n, h, w) -> (h, w, n): classes side by side
    coarse = by_pixel.argmax(2).astype(kind)
    mixed = _disagree(coarse)
    if view.resized == label_map.shape:
        mixed[:] = False  # every pixel is one that the network saw
    step = max(_BAND_BYTES // (3 * by_pixel.itemsize * len(probs) * max(len(columns.first), 1)), 1)
    for start in range(0, len(rows.first), step):
        part = slice(start, start + step)
        band = _Taps(start, rows.first[part], rows.second[part], rows.weight[part])
        labels = coarse[band.first][:, columns.first]
        _decide_mixed(labels, mixed[band.first][:, columns.first], by_pixel, band, columns)
        seen[part] = labels
        counts += np.bincount(labels.ravel(), minlength=len(probs))
    return label_map, counts


class _Taps(NamedTuple):
    """Where the pixels of one axis of the input lie between the pixels of the working size.

    Attributes:
        start: The first input pixel that the network saw.
        first: Index of the neighbour before each pixel seen.
        second: Index of the neighbour after it.
        weight: Share of the second neighbour, 0 to 1.
    """

    start: int
    first: NDArray[np.intp]
    second: NDArray[np.intp]
    weight: NDArray[np.float32]


def _taps(input_side: int, resized_side: int, offset: int, side: int) -> _Taps:
    """Find the neighbours along one axis, for the input pixels whose centre lies within the crop."""
    centres = (np.arange(input_side) + 0.5) * (resized_side / input_side) - offset
    inside = np.flatnonzero((centres >= 0) & (centres < side))
    places = np.clip(centres[inside] - 0.5, 0, side - 1)
    first = np.floor(places).astype(np.intp)
    start = int(inside[0]) if len(inside) else 0
    return _Taps(start, first, np.minimum(first + 1, side - 1), (places - first).astype(np.float32))


def _disagree(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark each pixel (h, w) whose class is not that of its neighbours to the right, below and across."""
    below = np.vstack([labels[1:], labels[-1:]])
    right, across = (np.hstack([rows[:, 1:], rows[:, -1:]]) for rows in (labels, below))
    mixed: NDArray[np.bool_] = (labels != below) | (labels != right) | (labels != across)
    return mixed


def _decide_mixed(
    labels: NDArray[Any], mixed: NDArray[np.bool_], by_pixel: NDArray[np.float32], rows: _Taps, columns: _Taps
) -> None:
    """Interpolate where neighbours disagree and write the winners into `labels`, a band of the input's rows."""
    row, column = np.nonzero(mixed)
    if not len(row):
        return
    between = by_pixel[rows.first]  # (rows, w, n)
    between += rows.weight[:, None, None] * (by_pixel[rows.second] - between)
    flat = between.reshape(-1, by_pixel.shape[2])
    left = flat.take(row * by_pixel.shape[1] + columns.first[column], axis=0)
    right = flat.take(row * by_pixel.shape[1] + columns.second[column], axis=0)
    right -= left
    right *= columns.weight[column, None]
    left += right
    labels[row, column] = left.argmax(1)


def _pick(view: View, values: NDArray[Any]) -> NDArray[Any]:
    """Resize by the nearest pixel and crop, (H, W, ...) to (h, w, ...)."""
    top, left, height, width = view.crop
    rows = _nearest(view.input_height, view.resized[0])[top : top + height]
    columns = _nearest(view.input_width, view.resized[1])[left : left + width]
    return values[rows[:, None], columns]


def _nearest(source: int, target: int) -> NDArray[np.int32]:
    """Return which of `source` pixels each of `target` pixels is taken from.

    Pillow itself is asked: it adds up steps in floating point, so that no closed formula gives quite the same.
    """
    line = Image.fromarray(np.arange(source, dtype=np.int32)[None])
    picked: NDArray[np.int32] = np.array(line.resize((target, 1), Image.Resampling.NEAREST))[0]
    return picked


def _check_positive(height: int, width: int, resolution: int) -> None:
    """Refuse sizes that are no sizes."""
    if min(height, width) < 1:
        raise ShapeError(f"an image of {height}x{width} (height x width) has no pixels")
    if resolution < 1:
        raise ShapeError(f"resolution is {resolution}, but must be at least 1\n\nhint: 320 is what STEGO was made for")


def _check_input(view: View, values: NDArray[Any]) -> None:
    """Refuse an image or label map that the view was not made for."""
    expected = (view.input_height, view.input_width)
    if values.shape[:2] != expected:
        raise ShapeError(f"image of {values.shape[:2]}, but the view is for {expected} (height, width)")
