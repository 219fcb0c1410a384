"""The dense CRF on an accelerator: batches of images in PyTorch, from tensors on the device to tensors on the device.

Mean-field inference as in `stego_cli.crf.fast`; see there and `stego_cli.crf.torch_lattice`. The host waits for the
device only while the lattices are built, never within the iterations.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from stego_cli.crf.base import LEAST_PROBABILITY, check_image, check_log_probs, not_finite, too_many_cells
from stego_cli.crf.packing import GROUP
from stego_cli.crf.torch_lattice import TorchLattice, build_torch_lattice
from stego_cli.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stego_cli.config.crf import CrfParameters

_ON_CPU = 2**30  # bytes for what the iterations hold at once, where the device cannot say what it has
_SHARE = 0.5  # of the device's free memory


@dataclass(frozen=True)
class TorchCrf:
    """A `DenseCrf` in PyTorch, and the same for tensors that stay on their device.

    Attributes:
        parameters: Of the CRF.
        device: Where arrays are taken to; tensors must be there already.
    """

    parameters: CrfParameters
    device: torch.device
    _planes: OrderedDict[tuple[int, int, int], TorchLattice] = field(default_factory=OrderedDict, repr=False)

    def refine(self, image: NDArray[np.uint8], stacks: Sequence[NDArray[np.floating]]) -> list[NDArray[np.float32]]:
        """Sharpen every stack; see `DenseCrf.refine`."""
        return self.refine_batch([image], [stacks])[0]

    def refine_batch(
        self, images: Sequence[NDArray[np.uint8]], stacks: Sequence[Sequence[NDArray[np.floating]]]
    ) -> list[list[NDArray[np.float32]]]:
        """Sharpen the stacks of several images; see `DenseCrf.refine_batch`. Images of one shape go together."""
        for image, given in zip(images, stacks, strict=True):
            check_image(image)
            for stack in given:
                check_log_probs(stack)
        alike: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for number, (image, given) in enumerate(zip(images, stacks, strict=True)):
            alike.setdefault((image.shape, *(stack.shape for stack in given)), []).append(number)
        results: list[list[NDArray[np.float32]]] = [[] for _ in images]
        for numbers in alike.values():
            pixels = torch.from_numpy(np.stack([images[number] for number in numbers])).to(self.device)
            together = [
                torch.from_numpy(np.stack(each).astype(np.float32, copy=False)).to(self.device)
                for each in zip(*(stacks[number] for number in numbers), strict=True)
            ]
            for refined in self.refine_tensors(pixels, together):
                for number, result in zip(numbers, refined.cpu().numpy(), strict=True):
                    results[number].append(result)
        return results

    @torch.inference_mode()
    def refine_tensors(self, images: Tensor, stacks: Sequence[Tensor]) -> list[Tensor]:
        """Sharpen a batch of images without leaving the device.

        Args:
            images: Shape (B, H, W, 3) uint8, RGB.
            stacks: Each of shape (B, n, h, w): logits or log-probabilities of n classes at any resolution.

        Returns:
            One tensor for each stack, in order, shape (B, n, H, W) float32, probabilities.

        Raises:
            ShapeError: If images or a stack have another layout.
            StegoError: If a stack holds NaN or infinity, or there are too many cells to count.
        """
        _check(images, stacks)
        if not stacks:
            return []
        batch, height, width = images.shape[:3]
        results = [torch.empty(batch, stack.shape[1], height, width, device=images.device) for stack in stacks]
        at_once = max(1, self._room(images.device) // self._nbytes(height * width, stacks))
        for begin in range(0, batch, at_once):
            part = slice(begin, begin + at_once)
            beliefs = self._sharpen(images[part], [stack[part] for stack in stacks])
            for result, belief in zip(results, beliefs, strict=True):
                result[part] = belief
        return results

    def _sharpen(self, images: Tensor, stacks: Sequence[Tensor]) -> list[Tensor]:
        """Run mean-field inference on images that fit the memory."""
        batch, height, width = images.shape[:3]
        count = height * width
        padded = count + -count % GROUP
        logits = torch.zeros(batch, padded, sum(stack.shape[1] for stack in stacks), device=images.device)
        edges = np.cumsum([0, *(stack.shape[1] for stack in stacks)]).tolist()
        spans = [slice(begin, end) for begin, end in pairwise(edges)]
        for span, stack in zip(spans, stacks, strict=True):
            logits[:, :count, span] = _log_probabilities(stack, height, width).flatten(2).transpose(1, 2)
        logits = logits.reshape(batch * padded, -1)  # (B, N, C) -> (B * N, C)
        try:
            near, far = self._plane(batch, height, width, images.device), self._colours(images, padded)
        except OverflowError:
            raise too_many_cells(height, width, self.parameters) from None
        beliefs = _softmax(logits, spans)
        at_once = self._classes(images.device, near, far, len(logits))
        for _ in range(self.parameters.iterations):
            energies = logits.clone()
            for begin in range(0, logits.shape[1], at_once):
                part = slice(begin, begin + at_once)
                some = beliefs[:, part].contiguous()
                energies[:, part] += near.filter(some)
                energies[:, part] += far.filter(some)
            beliefs = _softmax(energies, spans)
        beliefs = beliefs.reshape(batch, padded, -1)[:, :count]
        return [beliefs[:, :, span].transpose(1, 2).reshape(batch, -1, height, width) for span in spans]

    def _plane(self, batch: int, height: int, width: int, device: torch.device) -> TorchLattice:
        """Return the lattice on positions alone, which is kept for the next batch of this size."""
        key = (batch, height, width)
        plane = self._planes.get(key)
        if plane is None:
            reach = self.parameters.gaussian_xy
            features, real = _positions(height, width, reach, device)
            largest = [(width - 1) / reach, (height - 1) / reach]
            plane = build_torch_lattice(
                features[:, None].expand(-1, batch, -1), real, largest, self.parameters.gaussian_weight
            )
            self._planes[key] = plane
            while len(self._planes) > 2:
                self._planes.popitem(last=False)
        return plane

    def _colours(self, images: Tensor, padded: int) -> TorchLattice:
        """Return the lattice on positions and colours."""
        batch, height, width = images.shape[:3]
        known = self.parameters
        positions, real = _positions(height, width, known.bilateral_xy, images.device)
        # Divided on the host: some devices multiply by the inverse instead, which lands pixels in other cells.
        levels = torch.from_numpy(np.arange(256, dtype=np.float32) / np.float32(known.bilateral_rgb)).to(images.device)
        features = torch.zeros(5, batch, padded, device=images.device)
        features[:2] = positions[:, None]
        bgr = images.flip(-1).reshape(batch, -1, 3).long()  # as the reference has it: the order decides ties
        features[2:, :, : height * width] = levels[bgr].permute(2, 0, 1)
        largest = [(width - 1) / known.bilateral_xy, (height - 1) / known.bilateral_xy]
        return build_torch_lattice(features, real, [*largest, *[255 / known.bilateral_rgb] * 3], known.bilateral_weight)

    def _room(self, device: torch.device) -> int:
        """Return the bytes that the iterations may take."""
        if device.type != "cuda":
            return _ON_CPU
        free = torch.cuda.mem_get_info(device)[0]
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # held, but to be had again
        return int(_SHARE * (free + idle))

    def _nbytes(self, pixels: int, stacks: Sequence[Tensor]) -> int:
        """Return roughly what one image takes: rows of all classes, of pixels and lattice points, and the lattices."""
        return pixels * (4 * 10 * sum(stack.shape[1] for stack in stacks) + 1200)

    def _classes(self, device: torch.device, near: TorchLattice, far: TorchLattice, pixels: int) -> int:
        """Return how many classes to filter at once."""
        rows = 2 * max(near.size, far.size) + 2 * pixels
        return max(1, self._room(device) // (4 * rows))


def _check(images: Tensor, stacks: Sequence[Tensor]) -> None:
    """Refuse what is no batch of images and finite stacks; waits for the device once."""
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != torch.uint8 or not images.numel():
        raise ShapeError(
            "the CRF needs images of shape (images, height, width, 3) in 8-bit RGB, got "
            f"{tuple(images.shape)} of {images.dtype}\n\nhint: stack them as uint8, before they are normalised"
        )
    for stack in stacks:
        if stack.ndim != 4 or len(stack) != len(images) or not stack.numel() or stack.device != images.device:
            raise ShapeError(
                f"the CRF needs log-probabilities of shape ({len(images)}, classes, height, width) on "
                f"{images.device}, got {tuple(stack.shape)} on {stack.device}\n\nhint: bring both to one device"
            )
    if stacks and not bool(torch.stack([torch.isfinite(stack).all() for stack in stacks]).all()):
        raise not_finite()


def _log_probabilities(stack: Tensor, height: int, width: int) -> Tensor:
    """Resized log-probabilities, kept off minus infinity, shape (B, n, height, width)."""
    maps = stack.float()
    if maps.shape[2:] != (height, width):
        maps = interpolate(maps, (height, width), mode="bilinear", align_corners=False)
    return torch.log_softmax(maps, 1).clamp_(min=math.log(LEAST_PROBABILITY))


def _softmax(energies: Tensor, spans: Sequence[slice]) -> Tensor:
    """Softmax over each stack's classes, shape (P, C)."""
    if len(spans) == 1:
        return torch.softmax(energies, 1)
    return torch.cat([torch.softmax(energies[:, span], 1) for span in spans], 1)


def _positions(height: int, width: int, reach: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return columns and rows of the pixels in units of `reach`, shape (2, N), and which are real, shape (N,).

    N is filled up to a multiple of four with what is no pixel, at zero.
    """
    count = height * width
    features = np.zeros((2, count + -count % GROUP), np.float32)
    features[0, :count] = np.tile(np.arange(width, dtype=np.float32) / np.float32(reach), height)
    features[1, :count] = np.repeat(np.arange(height, dtype=np.float32) / np.float32(reach), width)
    real = torch.zeros(features.shape[1], device=device)
    real[:count] = 1.0
    return torch.from_numpy(features).to(device), real
