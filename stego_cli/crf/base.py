"""What a dense CRF is asked and what it answers, and the steps before the kernels that every implementation shares.

The model is that of Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials" (NIPS 2011), with the settings of STEGO. Nothing here needs torch, so that a pool of processes starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from stego_cli.errors import ShapeError, StegoError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stego_cli.config.crf import CrfParameters

LEAST_PROBABILITY = 1e-5


class DenseCrf(Protocol):
    """Sharpens class probabilities along the edges of the image they belong to."""

    def refine(self, image: NDArray[np.uint8], stacks: Sequence[NDArray[np.floating]]) -> list[NDArray[np.float32]]:
        """Return sharpened probabilities for every stack of log-probabilities over one image.

        Several stacks, such as those of the cluster and the linear probe, are given at once so that what depends
        on the image alone is prepared once.

        Args:
            image: Shape (H, W, 3), RGB.
            stacks: Each of shape (n, h, w): logits or log-probabilities of n classes at any resolution; n, h and w
                may differ from stack to stack. They are brought to (H, W) first.

        Returns:
            One array for each stack, in order, shape (n, H, W), values in [0, 1] that sum to 1 over the classes.

        Raises:
            ShapeError: If the image or a stack has another layout; names what it has and what it needs.
            StegoError: If a stack holds NaN or infinity.
        """
        ...

    def refine_batch(
        self, images: Sequence[NDArray[np.uint8]], stacks: Sequence[Sequence[NDArray[np.floating]]]
    ) -> list[list[NDArray[np.float32]]]:
        """Return `refine(image, stacks of that image)` for every image; faster than one after the other.

        Args:
            images: Each of shape (H, W, 3), RGB; sizes may differ.
            stacks: For each image its stacks.

        Raises:
            ShapeError: As `refine`.
            StegoError: As `refine`.
        """
        ...


def check_image(image: NDArray[np.uint8]) -> None:
    """Refuse anything but 8-bit RGB pixels.

    Raises:
        ShapeError: Names the layout found and the one needed.
    """
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ShapeError(
            f"the CRF needs an image of shape (height, width, 3) in 8-bit RGB, got shape {image.shape} of {image.dtype}"
            "\n\nhint: pass the image as `numpy.asarray(picture.convert('RGB'))`"
        )


def check_log_probs(log_probs: NDArray[np.floating]) -> None:
    """Refuse anything but a stack of finite maps.

    Raises:
        ShapeError: If `log_probs` is not a stack of maps.
        StegoError: If it holds NaN or infinity.
    """
    if log_probs.ndim != 3 or log_probs.size == 0:
        raise ShapeError(
            f"the CRF needs log-probabilities of shape (classes, height, width), got {log_probs.shape}"
            "\n\nhint: pass one image at a time, without a batch axis"
        )
    with np.errstate(over="ignore"):
        narrow = log_probs.astype(np.float32, copy=False)  # what is computed with
    if not np.isfinite(narrow).all():
        raise not_finite()


def not_finite() -> StegoError:
    """Return the error for log-probabilities that hold NaN or infinity."""
    return StegoError(
        "the log-probabilities hold NaN or infinity, so the CRF cannot weigh the classes"
        "\n\nhint: run once with --precision fp32; if that does not help, the model file is damaged"
    )


def too_many_cells(height: int, width: int, parameters: CrfParameters) -> StegoError:
    """Return the error for an image too large, or a reach too small, for the cells of the lattice to be counted."""
    return StegoError(
        f"an image of {height}x{width} (height x width) with reaches of {parameters.gaussian_xy:g} and "
        f"{parameters.bilateral_xy:g} pixels and {parameters.bilateral_rgb:g} levels needs more cells than the CRF "
        "can count\n\nhint: use a smaller image or larger reaches"
    )


def unary_energy(log_probs: NDArray[np.floating], height: int, width: int) -> NDArray[np.float32]:
    """Return what each class costs each pixel: resized logits through softmax, kept off zero, as -log p.

    Args:
        log_probs: Shape (n, h, w), logits or log-probabilities at any resolution.
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Returns:
        Shape (n, height, width), contiguous, values from 0 to about 11.5.

    Raises:
        ShapeError: If `log_probs` is not a stack of maps.
        StegoError: If it holds NaN or infinity.

    Example:
        >>> unary_energy(np.zeros((2, 1, 1)), 1, 1).round(3).ravel()
        array([0.693, 0.693], dtype=float32)
    """
    check_log_probs(log_probs)
    logits = resize_bilinear(log_probs.astype(np.float32), height, width)
    logits -= logits.max(axis=0)
    probabilities = np.exp(logits, out=logits)
    probabilities /= probabilities.sum(axis=0)
    energy = np.log(probabilities.clip(LEAST_PROBABILITY, 1.0, out=probabilities), out=probabilities)
    return np.ascontiguousarray(np.negative(energy, out=energy))


def resize_bilinear(maps: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize (n, h, w) to (n, height, width): bilinear, half-pixel centres, borders repeated, no antialiasing.

    The same as `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`, to rounding. Returns a new
    array, never a view of `maps`.

    Example:
        >>> resize_bilinear(np.array([[[0.0, 1.0]]], dtype=np.float32), 1, 4).ravel()
        array([0.  , 0.25, 0.75, 1.  ], dtype=float32)
    """
    above, below, down = bilinear_neighbours(maps.shape[1], height)
    left, right, across = bilinear_neighbours(maps.shape[2], width)
    resized = np.empty((len(maps), height, width), dtype=np.float32)
    for one, result in zip(maps, resized, strict=True):  # class by class: the steps between stay small
        tall = one[above] * (1 - down[:, None]) + one[below] * down[:, None]  # (h, w) -> (height, w)
        np.add(tall[:, left] * (1 - across), tall[:, right] * across, out=result)
    return resized


def bilinear_neighbours(old: int, new: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For each of `new` positions: the two among `old` on either side, and the weight of the second."""
    source = ((np.arange(new, dtype=np.float32) + np.float32(0.5)) * np.float32(old / new) - np.float32(0.5)).clip(0)
    first = np.minimum(source.astype(np.intp), old - 1)
    return first, np.minimum(first + 1, old - 1), (source - first).astype(np.float32)


def seen_by_crf(normalised: NDArray[np.float32], mean: Sequence[float], std: Sequence[float]) -> NDArray[np.uint8]:
    """Return the 8-bit image that the reference shows its CRF: denormalised and truncated, not rounded.

    Under the `paper` protocol only. One tenth to two fifths of the values come out one level below the original;
    values outside [0, 1] would wrap around, as they do there.

    Args:
        normalised: Shape (3, H, W), RGB, normalised with `mean` and `std`.
        mean: Per channel, of values in [0, 1].
        std: Per channel, likewise.

    Returns:
        Shape (H, W, 3), RGB.
    """
    scale = np.asarray(std, dtype=np.float32)[:, None, None]
    shift = np.asarray(mean, dtype=np.float32)[:, None, None]
    levels = (normalised.astype(np.float32) * scale + shift) * np.float32(255)
    return np.ascontiguousarray(levels.astype(np.int32).astype(np.uint8).transpose(1, 2, 0))
