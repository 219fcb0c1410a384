"""Settings of `stego info dataset`: what to look at, and how closely."""

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt

from stego_cli.config.data import DataConfig
from stego_cli.config.fields import split_commas, usable_cores


def _none_is_all(value: Any) -> Any:
    """Let an empty list stand for an absent value: nobody means to look at no split."""
    return value or None


class InspectConfig(DataConfig):
    """Which dataset is looked at, and how closely."""

    section: ClassVar[str] = "info"

    split: Annotated[tuple[str, ...] | None, BeforeValidator(_none_is_all), BeforeValidator(split_commas)] = Field(
        None, description="Splits to look at; absent means all there are."
    )
    classes: PositiveInt | None = Field(
        None, description="How many classes count: ids from 0 on; absent means those of the label space."
    )
    full: bool = Field(False, description="Decode every image and label map, instead of a sample.")
    resolution: PositiveInt = Field(
        320,
        description="Shorter side, in pixels, that images will be brought to; much smaller ones are pointed out.",
        json_schema_extra={"option": "--res"},
    )
    workers: NonNegativeInt = Field(
        default_factory=lambda: min(4, usable_cores()),
        description="Threads that decode when all is decoded; 0 does it one by one.",
    )
