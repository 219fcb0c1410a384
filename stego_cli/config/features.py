"""Settings of the commands that run a frozen backbone over a dataset: `stego features build` and `stego knn`."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from stego_cli.config.backbone import BackboneChoice
from stego_cli.config.fields import DeviceName, UserPath, usable_cores
from stego_cli.config.words import IndexKind, LoaderCrop, Precision, Protocol


class BackboneRunConfig(BackboneChoice):
    """Which images a backbone sees, at which size, and how fast."""

    split: str = Field("train", min_length=1, description="Which split of the dataset.")
    resolution: PositiveInt = Field(
        224,
        description="Side in pixels of the square that the backbone sees.",
        json_schema_extra={"option": "--res"},
    )
    loader_crop: LoaderCrop = Field(
        "center", description="center cuts the middle out of an image, squash changes its shape."
    )
    protocol: Protocol = Field(
        "paper",
        description="paper: nearest-neighbour resize, as published; native: antialiased, for models of your own.",
    )
    batch_size: PositiveInt = Field(16, description="Images that go through the backbone together.")
    workers: NonNegativeInt = Field(
        default_factory=lambda: min(4, usable_cores()),
        description="Threads that read images; 0 does it in between.",
    )
    device: DeviceName = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    precision: Precision = Field(
        "auto", description="Arithmetic of the backbone; auto is bf16 on CUDA cards under protocol native, else fp32."
    )
    overwrite: bool = Field(False, description="Start anew where something is there already.")


class FeaturesConfig(BackboneRunConfig):
    """A cache of whole feature maps, which training reads instead of running the backbone again."""

    section: ClassVar[str] = "features"

    dtype: Literal["fp16", "fp32"] = Field("fp16", description="Numbers in the cache; fp16 takes half the space.")
    out: str | None = Field(
        None,
        min_length=1,
        description="Folder or fsspec URL of the cache; absent means a folder of its own below STEGO_HOME/features.",
    )


class KnnConfig(BackboneRunConfig):
    """An index of the nearest neighbours of every image."""

    section: ClassVar[str] = "knn"

    neighbors: int = Field(
        30, ge=2, le=1000, description="Images listed for each image, itself included and first, as in the reference."
    )
    index: IndexKind = Field("flat", description="flat is exact; ivf and hnsw are for a million images and more.")
    seed: NonNegativeInt = Field(0, lt=2**32, description="Seed of the approximate indexes.")
    index_file: UserPath | None = Field(
        None,
        description="The index; absent means a file of its own below STEGO_HOME/neighbors.",
        json_schema_extra={"option": "--out"},
    )
    reference: UserPath | None = Field(
        None, description="Folder that gets the neighbours in the layout of the STEGO reference, `nns_*.npz`, too."
    )


class KnnShowConfig(KnnConfig):
    """A picture of some images with their neighbours."""

    images: tuple[str, ...] = Field((), description="Which images, by name; none means a few spread over the dataset.")
    shown: PositiveInt = Field(8, le=100, description="Neighbours in the picture.", json_schema_extra={"option": "-k"})
    picture: UserPath = Field(
        Path("neighbors.png"), description="The picture to write.", json_schema_extra={"option": "--out"}
    )
