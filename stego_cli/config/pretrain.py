"""Settings of `stego pretrain`: a small vision transformer taught by images alone."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from stego_cli.config.fields import CommandConfig, Conflict, DeviceName, UserPath, refuse, usable_cores
from stego_cli.config.model import VitArchitecture

SMALL = VitArchitecture(patch_size=8, width=128, depth=4, heads=2, image_size=240, stem="filterbank", layer_scale=0.1)


class PretrainConfig(CommandConfig):
    """The network, what it is taught and for how long."""

    section: ClassVar[str] = "pretrain"

    architecture: VitArchitecture = Field(
        SMALL, description="Sizes of the network; `image_size` is the height of the views that it learns from."
    )
    rounds: PositiveInt = Field(
        1,
        le=20,
        description="The first learns words of a filter bank, each later one those of the network before.",
    )
    steps: PositiveInt = Field(1000, description="Updates in each round.")
    words: int = Field(256, ge=2, le=32768, description="Visual words that patches are sorted into.")
    resolution: PositiveInt = Field(
        240,
        description="Shorter side in pixels at which images are sorted into words.",
        json_schema_extra={"option": "--res"},
    )
    visible: float = Field(0.3, gt=0, lt=1, description="Share of the patches that the network sees.")
    block: PositiveInt = Field(4, description="Patches are hidden in squares of so many by so many.")
    least_area: float = Field(
        0.35, gt=0, le=1, description="A view shows at least this share of the largest rectangle of its aspect."
    )
    aspect: float = Field(
        1.0, ge=0.25, le=4, description="Width of a view over its height: best that of the images, if they share one."
    )
    stretch: float = Field(
        1.8, ge=1, le=16, description="The widest piece over the narrowest, by aspect; all become views of one aspect."
    )
    visible_weight: NonNegativeFloat = Field(
        0.0, description="Weight of the words of visible patches in the loss; helps a network that reads pixels."
    )
    batch_size: PositiveInt = Field(16, description="Views of a step.")
    learning_rate: PositiveFloat = Field(1e-3, description="Highest rate; it rises for `warmup` steps, then falls.")
    weight_decay: NonNegativeFloat = Field(0.05, description="Of matrices; vectors have none.")
    warmup: NonNegativeInt = Field(100, description="Steps that the rate rises for.")
    seed: NonNegativeInt = Field(0, lt=2**31, description="The same seed and number of threads give the same network.")
    workers: NonNegativeInt = Field(
        default_factory=lambda: min(2, usable_cores()), description="Threads that make views; 0 does it in between."
    )
    device: DeviceName = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    checkpoint_every: PositiveInt = Field(100, description="Steps between two states that a run can go on from.")
    minutes: PositiveFloat | None = Field(None, description="Stop in good order after so many minutes.")
    out: UserPath | None = Field(None, description="The weight file; absent means a new one below `runs/`.")
    overwrite: bool = Field(False, description="Start anew, and replace the weight file that is there.")

    @field_validator("architecture", mode="before")
    @classmethod
    def sizes_not_given_are_the_small_ones(cls, value: Any) -> Any:
        """Let one size be changed by itself."""
        return {**SMALL.model_dump(), **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def settings_go_together(self) -> Self:
        """Refuse combinations that could not do what they promise."""
        sizes, conflicts = self.architecture, []
        if sizes.image_size % sizes.patch_size:
            rule = f"views of {sizes.image_size} pixels are not whole patches of {sizes.patch_size}"
            conflicts.append(Conflict(("architecture",), rule))
        if sizes.width % sizes.heads:
            rule = f"a width of {sizes.width} cannot be shared evenly by {sizes.heads} heads"
            conflicts.append(Conflict(("architecture",), rule))
        refuse(conflicts)
        return self
