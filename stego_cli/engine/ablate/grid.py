"""Which cells a grid has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stego_cli.config.ablate import has_dimension

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Cell:
    """One training and its measurement.

    Attributes:
        ground: Dataset and backbone, such as `camvid/filterbank`.
        method: Name of the method.
        dim: Channels of its code; those of the backbone for a method without a dimension.
        seed: Of the training.
    """

    ground: str
    method: str
    dim: int
    seed: int

    @property
    def key(self) -> str:
        """Tells the cell from all others of a results file.

        Example:
            >>> Cell("camvid/filterbank", "pca", 12, 0).key
            'camvid/filterbank/pca-12/seed-0'
        """
        return f"{self.ground}/{self.method}-{self.dim}/seed-{self.seed}"


@dataclass(frozen=True)
class Grid:
    """The cells of one ground.

    Attributes:
        ground: Dataset and backbone.
        cells: In the order in which they are done.
        left_out: Dimensions that the backbone does not have.
    """

    ground: str
    cells: tuple[Cell, ...]
    left_out: tuple[int, ...]


def plan_grid(ground: str, channels: int, methods: Sequence[str], dims: Sequence[int], seeds: Sequence[int]) -> Grid:
    """Return the cells of one ground.

    Args:
        ground: Dataset and backbone.
        channels: Of the backbone; a code of more dimensions is left out.
        methods: Their names; one without a dimension has one cell for each seed.
        dims: Dimensions, each counted once.
        seeds: Seeds.

    Example:
        >>> grid = plan_grid("camvid/filterbank", 100, ["dino", "stego"], [12, 192], [0, 1])
        >>> [cell.key.removeprefix("camvid/filterbank/") for cell in grid.cells]
        ['dino-100/seed-0', 'dino-100/seed-1', 'stego-12/seed-0', 'stego-12/seed-1']
        >>> grid.left_out
        (192,)
    """
    wanted = sorted(set(dims))
    fitting = [dim for dim in wanted if dim <= channels]
    cells = [
        Cell(ground, method, dim, seed)
        for method in dict.fromkeys(methods)
        for dim in (fitting if has_dimension(method) else [channels])
        for seed in seeds
    ]
    some = any(has_dimension(method) for method in methods)
    return Grid(ground, tuple(cells), tuple(dim for dim in wanted if dim > channels) if some else ())
