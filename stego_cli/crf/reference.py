"""The dense CRF through pydensecrf, the C++ code that the reference uses: exact parity, one core, one image at a time.

Inference holds Python's global lock from start to end, so threads gain nothing; for several images at once use
processes. `ReferenceCrf` is small and can be sent to them, and this module imports without torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stego_cli.crf.base import check_image, too_many_cells, unary_energy
from stego_cli.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stego_cli.config.crf import CrfParameters


_LATTICE_CELLS = 2**16  # pydensecrf counts cells in 16 bits; far beyond that it ends the whole process


@dataclass(frozen=True)
class ReferenceCrf:
    """A `DenseCrf` that runs pydensecrf.

    Raises:
        MissingDependencyError: When made, if the package is not installed; names the extra that brings it.
    """

    parameters: CrfParameters

    def __post_init__(self) -> None:
        _densecrf()  # said now, rather than after the first image has gone through the network

    def refine(self, image: NDArray[np.uint8], stacks: Sequence[NDArray[np.floating]]) -> list[NDArray[np.float32]]:
        """Sharpen every stack; see `DenseCrf.refine`. Stacks with equally many classes share their lattices.

        Raises:
            StegoError: Also if the image is too large, or a reach too small, for pydensecrf to count its cells.
        """
        check_image(image)
        height, width = image.shape[:2]
        self._check_reaches(height, width)
        fields: dict[int, Any] = {}
        refined = []
        for stack in stacks:
            energy = unary_energy(stack, height, width)
            classes = len(energy)
            if classes == 1:
                refined.append(np.ones((1, height, width), dtype=np.float32))
                continue
            if classes not in fields:
                fields[classes] = self._field(image, classes)
            field = fields[classes]
            field.setUnaryEnergy(energy.reshape(classes, -1))
            probabilities = np.array(field.inference(self.parameters.iterations), dtype=np.float32)
            refined.append(probabilities.reshape(classes, height, width))
        return refined

    def refine_batch(
        self, images: Sequence[NDArray[np.uint8]], stacks: Sequence[Sequence[NDArray[np.floating]]]
    ) -> list[list[NDArray[np.float32]]]:
        """Sharpen the stacks of several images, one after the other; see `DenseCrf.refine_batch`."""
        return [self.refine(image, given) for image, given in zip(images, stacks, strict=True)]

    def _check_reaches(self, height: int, width: int) -> None:
        """Refuse what would overflow the lattice."""
        known = self.parameters
        places = (width - 1, height - 1)
        position = [side / known.gaussian_xy for side in places]
        colour = [side / known.bilateral_xy for side in places] + [255 / known.bilateral_rgb] * 3
        if max(_lattice_span(position), _lattice_span(colour)) >= _LATTICE_CELLS:
            raise too_many_cells(height, width, known)

    def _field(self, image: NDArray[np.uint8], classes: int) -> Any:
        """Build both lattices for `image`; the costly part that does not depend on the probabilities."""
        height, width = image.shape[:2]
        known = self.parameters
        field = _densecrf().DenseCRF2D(width, height, classes)
        field.addPairwiseGaussian(sxy=known.gaussian_xy, compat=known.gaussian_weight)
        field.addPairwiseBilateral(
            sxy=known.bilateral_xy,
            srgb=known.bilateral_rgb,
            rgbim=np.ascontiguousarray(image[:, :, ::-1]),  # the reference shows BGR; the order decides lattice ties
            compat=known.bilateral_weight,
        )
        return field


def _lattice_span(extents: list[float]) -> float:
    """Return the widest range of one coordinate of the permutohedral lattice (Adams et al. 2010, section 3.1).

    Args:
        extents: For each feature, the largest difference in units of the kernel's reach.
    """
    size = len(extents)
    scaled = [
        extent * math.sqrt(2 / 3) * (size + 1) / math.sqrt((index + 1) * (index + 2))
        for index, extent in enumerate(extents)
    ]
    return max(sum(scaled[index:]) + (index * scaled[index - 1] if index else 0.0) for index in range(size))


def _densecrf() -> Any:
    """Import pydensecrf, or say how to get it."""
    try:
        from pydensecrf import densecrf
    except ImportError as error:
        raise MissingDependencyError(
            "the CRF needs the package `pydensecrf2`, which is not installed"
            "\n\nhint: pip install 'stego-cli[crf-reference]', or use the tool's own:\n"
            "      --set crf_parameters.implementation=auto"
        ) from error
    return densecrf
