"""Settings of every command that reads a dataset: which one, where, which crops of it, and as which classes."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PositiveInt

from stego_cli.config.fields import CommandConfig, UserPath, split_commas
from stego_cli.config.words import CropKind

DEFAULT_DATASET = "cocostuff27"

Bands = Annotated[tuple[PositiveInt, PositiveInt, PositiveInt], BeforeValidator(split_commas)]


def _none_is_absent(value: Any) -> Any:
    """Let the word `none` stand for an absent value, so that an option can undo what a file says."""
    return None if value == "none" else value


class DataConfig(CommandConfig):
    """Which images a command works on."""

    dataset: str = Field(
        DEFAULT_DATASET,
        min_length=1,
        description="A known dataset, or a folder of images (with `imgs/` and `labels/`, or just images).",
        json_schema_extra={"option": "DATASET"},
    )
    data_dir: UserPath | None = Field(
        None, description="Folder that known datasets lie in; absent means `datasets` below STEGO_HOME."
    )
    crop: Annotated[CropKind | None, BeforeValidator(_none_is_absent)] = Field(
        None, description="Use the crops that `stego crop` made: five (corners and centre) or random."
    )
    crop_ratio: float = Field(0.5, gt=0, lt=1, description="Side of a crop as a fraction of the image's side.")
    label_space: str | None = Field(
        None, min_length=1, description="Names and colours of the classes; absent means the dataset's own, if known."
    )
    bands: Bands | None = Field(
        None, description="Bands of a multi-band image used as red, green and blue, counted from 1."
    )
