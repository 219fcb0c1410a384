"""What a dataset is: a list of images, each with its label map if there is one, and what stored labels mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from stego_cli.data.images import image_size, read_image
from stego_cli.data.label_codes import UNCHANGED, LabelCode
from stego_cli.data.label_maps import read_label_map
from stego_cli.data.matlab import MATLAB_SUFFIX, matlab_image_size, read_matlab_image
from stego_cli.errors import ImageError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from stego_cli.config.data import Bands
    from stego_cli.config.model import LabelSpace


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a dataset.

    Attributes:
        name: What it is called in messages and fingerprints: its path below the folder of the images, with `/`; unique
            in a split.
        image: The image file.
        label: Its label map, or None if it has none.
        salience: Its mask of what stands out, or None if it has none.
    """

    name: str
    image: Path
    label: Path | None = None
    salience: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """One split of a dataset. Holds paths and small tables only, so that it can be sent to other processes.

    Attributes:
        name: A known name such as `cocostuff27`, or the name of the folder.
        slug: Like `name`, but unlike that of any other dataset on this machine; derived files are called after it.
        split: `train`, `val`, or another split that the dataset has.
        root: Folder that all of its files lie in.
        samples: The images, in the order that their numbers in crops, neighbours and caches speak of.
        label_space: Names and colours of the classes; None if nobody has said what they are.
        code: How stored label values become class ids.
        bands: Bands of multi-band images used as red, green and blue, counted from 1.
        notes: What a user should know about it, such as how many label maps are missing.
    """

    name: str
    slug: str
    split: str
    root: Path
    samples: tuple[Sample, ...]
    label_space: LabelSpace | None = None
    code: LabelCode = UNCHANGED
    bands: Bands | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
        """Read one image with its labels, which makes this a dataset for torch's `DataLoader` (`batch_size=None`).

        Raises:
            ImageError: As `image` and `labels`.
        """
        image = np.require(self.image(index), requirements="W")  # torch warns of arrays that cannot be written
        return image, self.labels(index, (image.shape[0], image.shape[1]))

    @property
    def is_labelled(self) -> bool:
        """Whether any image has a label map."""
        return any(sample.label for sample in self.samples)

    @property
    def has_salience(self) -> bool:
        """Whether any image has a salience mask."""
        return any(sample.salience for sample in self.samples)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Read one image as upright RGB, shape (H, W, 3).

        Raises:
            ImageError: If it cannot be read; names the file.
        """
        path = self.samples[index].image
        read = read_matlab_image if path.suffix.lower() == MATLAB_SUFFIX else read_image
        return read(path, self.bands).pixels

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of one image, from its file's header.

        Raises:
            ImageError: If the header cannot be read; names the file.
        """
        path = self.samples[index].image
        return matlab_image_size(path) if path.suffix.lower() == MATLAB_SUFFIX else image_size(path)

    def stored_labels(self, index: int) -> NDArray[np.int64] | None:
        """Read one label map as it is stored, shape (H, W); None if the image has none.

        Raises:
            ImageError: If it cannot be read; names the file.
        """
        path = self.samples[index].label
        return None if path is None else read_label_map(path)

    def labels(self, index: int, size: tuple[int, int]) -> NDArray[np.int64] | None:
        """Read one label map as class ids, `IGNORE_LABEL` where there is no class; None if the image has none.

        Args:
            index: Which image.
            size: Height and width of the image, which the label map must have.

        Raises:
            ImageError: If it cannot be read or has another size than the image; names the file.
        """
        stored = self.stored_labels(index)
        if stored is None:
            return None
        self._check_size("label map", index, (stored.shape[0], stored.shape[1]), size)
        return self.code.class_ids(stored)

    def salience(self, index: int, size: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Read one salience mask, shape (H, W), true where the stored value is not zero; None if the image has none.

        Args:
            index: Which image.
            size: Height and width of the image, which the mask must have.

        Raises:
            ImageError: If it cannot be read or has another size than the image; names the file.
        """
        path = self.samples[index].salience
        if path is None:
            return None
        mask: NDArray[np.bool_] = read_label_map(path) != 0
        self._check_size("salience mask", index, (mask.shape[0], mask.shape[1]), size)
        return mask

    def _check_size(self, what: str, index: int, found: tuple[int, int], size: tuple[int, int]) -> None:
        if found != size:
            there, needed = ("x".join(map(str, sides)) for sides in (found, size))
            raise ImageError(
                f"{what} of `{self.samples[index].name}` is {there} (height x width), its image {needed}\n\n"
                f"hint: make the {what} again at the size of the image, without interpolation"
            )
