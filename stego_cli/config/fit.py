"""Settings of `stego fit`: a model without training of the code, by clustering what a backbone sees."""

from typing import ClassVar, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from stego_cli.config.backbone import BackboneChoice
from stego_cli.config.fields import Conflict, DeviceName, UserPath, refuse, usable_cores
from stego_cli.config.model import About, BackboneConfig, FilterbankConfig
from stego_cli.config.words import NameRule


class FitConfig(BackboneChoice):
    """Which images, which backbone, how many classes, and where the model goes."""

    section: ClassVar[str] = "fit"

    backbone: BackboneConfig = FilterbankConfig()
    classes: PositiveInt | None = Field(
        None, description="How many clusters to form; absent means as many as the label space has classes."
    )
    resolution: PositiveInt = Field(
        320, description="Shorter side of the images, in pixels.", json_schema_extra={"option": "--res"}
    )
    alpha: PositiveFloat = Field(2.0, description="Inverse temperature of the cluster probabilities that it saves.")
    seed: NonNegativeInt = Field(0, lt=2**32, description="The same seed gives the same model.")
    restarts: PositiveInt = Field(5, description="Times the clustering starts anew; the tightest result is kept.")
    names: NameRule = Field(
        "matched",
        description="What labels call the clusters: matched gives each class one cluster, as published scores do; "
        "majority calls each what most of it is, so that several may share a name.",
    )
    batch_size: PositiveInt = Field(8, description="Images that go through the backbone together.")
    workers: NonNegativeInt = Field(
        default_factory=lambda: min(4, usable_cores()), description="Threads that read images; 0 does it in between."
    )
    device: DeviceName = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    out: UserPath | None = Field(None, description="The model file; absent means a new one below `runs/`.")
    overwrite: bool = Field(False, description="Replace the model file if it is there.")

    about: About = Field(About(), description="Title, description, limits and licence that the model file carries.")

    @model_validator(mode="after")
    def settings_go_together(self) -> Self:
        """Refuse combinations that could not do what they promise."""
        conflicts = []
        if self.weights is not None and isinstance(self.backbone, FilterbankConfig):
            rule = "the filterbank has no weights; leave `weights` out or choose another backbone"
            conflicts.append(Conflict(("weights", "backbone"), rule))
        refuse(conflicts)
        return self
