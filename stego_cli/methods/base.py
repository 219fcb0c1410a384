"""What every method is: features to code. And what a method is that is fitted to features instead of trained."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from stego_cli.config.model import MethodConfig


class Method(nn.Module):
    """What lies between a frozen backbone and the probes.

    Attributes:
        code_dim: Channels K of the code.
    """

    code_dim: int

    @abstractmethod
    def code(self, features: Tensor) -> Tensor:
        """Map features (B, C, h, w) to code (B, K, h, w)."""

    def forward(self, features: Tensor) -> Tensor:
        """Map features to code; the same as `code`."""
        return self.code(features)


@dataclass(frozen=True, eq=False)  # comparing arrays has no single answer
class FeatureSource:
    """The features of the training images, for a method that is fitted to them.

    Attributes:
        images: Numbers of the images that can be used, in the order of the dataset, shape (n,).
        read: Returns the features of some images, given their numbers: (b, C, h, w), float32, on the CPU.
        batch_size: How many to read at once.
        track: Passes batches on and shows how far the fit is: the items, what is being done, how many there are.
    """

    images: NDArray[np.int64]
    read: Callable[[NDArray[np.int64]], Tensor]
    batch_size: int
    track: Callable[[Iterator[Tensor], str, int], Iterator[Tensor]]

    def maps(self, images: NDArray[np.int64], doing: str) -> Iterator[Tensor]:
        """Yield the features of some images, batch by batch, each (b, C, h, w)."""
        starts = range(0, len(images), self.batch_size)
        batches = (self.read(images[start : start + self.batch_size]) for start in starts)
        return self.track(batches, doing, len(starts))


@runtime_checkable
class Fitted(Protocol):
    """A method that is fitted to features once, before the probes learn, and has nothing to train.

    The fit is apart from the method so that it can be kept and shared: of two methods with equal recipes, one may
    adopt the fit of the other.

    Attributes:
        by_batch: Whether the code of an image depends on the others of its batch.
    """

    by_batch: bool

    def recipe(self, seed: int) -> dict[str, Any]:
        """Return what a fit depends on apart from the features, as JSON takes it; `kind` names the method."""
        ...

    def check_ready(self) -> None:
        """Look for what the fit needs.

        Raises:
            MissingDependencyError: If a package is not installed.
        """
        ...

    def fit(self, source: FeatureSource, seed: int) -> dict[str, Tensor]:
        """Return what `adopt` takes. The same source and seed give the same fit.

        Raises:
            StegoError: If the features do not allow it.
        """
        ...

    def adopt(self, fitted: Mapping[str, Tensor], seed: int) -> None:
        """Make a fit one's own; from then on `code` works."""
        ...

    def as_fitted(self) -> MethodConfig:
        """Return the config that describes the method with the sizes that its fit gave it."""
        ...
