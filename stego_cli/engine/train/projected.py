"""A fixed projection behind the backbone: to those who train probes, the two together are a backbone without a head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from stego_cli.backbones.base import Backbone
from stego_cli.features.memory import fits_in_memory
from stego_cli.features.reader import InMemory, memory_for, whole_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from stego_cli.engine.train.batches import Supply
    from stego_cli.engine.train.step import Trainee
    from stego_cli.features.fingerprint import Fingerprint
    from stego_cli.features.reader import FeatureReader, Numbers, Records
    from stego_cli.methods.base import Method
    from stego_cli.progress import Report


class ProjectedBackbone(Backbone):
    """A backbone and a fixed method: images to code.

    Attributes:
        backbone: The first part.
        method: The second part.
    """

    def __init__(self, backbone: Backbone, method: Method) -> None:
        super().__init__()
        self.backbone, self.method = backbone, method
        self.patch_size, self.channels = backbone.patch_size, method.code_dim
        self.mean, self.std = backbone.mean, backbone.std

    def features(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to code (B, K, h, w)."""
        return self.method.code(self.backbone(images))


@dataclass(frozen=True, eq=False)  # comparing readers has no single answer
class ProjectedReader:
    """Features as they are read, projected; what is read together is one batch. Safe in threads.

    Attributes:
        features: Features of the backbone.
        method: A fixed method on the device.
        device: Where to project.
    """

    features: FeatureReader
    method: Method
    device: torch.device

    @property
    def fingerprint(self) -> Fingerprint:
        """What the features were made from, with the type and the shape of a code."""
        made = self.features.fingerprint
        return made.model_copy(update={"dtype": "float32", "shape": (self.method.code_dim, *made.shape[1:])})

    @property
    def failed(self) -> tuple[int, ...]:
        """Images that could not be read."""
        return self.features.failed

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> Records:
        code: Records = self.read([index])[0]
        return code

    @torch.no_grad()
    def read(self, indices: Numbers, out: Records | None = None) -> Records:
        """Return the code of some images, float32 (n, K, h, w), see `FeatureReader`."""
        out = memory_for(whole_numbers(indices, len(self)), self.fingerprint, out)
        maps = torch.from_numpy(self.features.read(indices)).to(self.device).float()
        np.copyto(out, self.method.code(maps).cpu().numpy())
        return out


def project_all(reader: ProjectedReader, images: NDArray[np.int64], at_once: int, report: Report) -> FeatureReader:
    """Project all images once, so that no step has to; as they are read, if their codes do not fit into memory.

    Not for a method whose code depends on the batch.

    Args:
        reader: Projects.
        images: Those that can be used; the others have no code.
        at_once: How many to project together.
        report: Told how far it is.
    """
    made = reader.fingerprint
    needed = 4 * made.count * int(np.prod(made.shape))
    if not fits_in_memory(needed):
        report.note(f"{needed / 1e9:.1f} GB of code do not fit into memory, so features are projected at every step")
        return reader
    codes: Records = np.full((made.count, *made.shape), np.nan, np.float32)
    batches = [images[start : start + at_once] for start in range(0, len(images), at_once)]
    for batch in _tracked(batches, report):
        codes[batch] = reader.read(batch)
    codes.flags.writeable = False
    return InMemory(made, reader.failed, codes)


def _tracked(batches: list[NDArray[np.int64]], report: Report) -> Iterator[NDArray[np.int64]]:
    return report.track(batches, "Projecting features", total=len(batches))


def parts_of(supply: Supply, trainee: Trainee) -> tuple[Backbone, Method]:
    """Return the backbone and the head of a model that is being trained, wherever the head is."""
    if isinstance(supply.backbone, ProjectedBackbone):
        return supply.backbone.backbone, supply.backbone.method
    return supply.backbone, trainee.objective.head
