"""Settings of `stego crop`."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt

from stego_cli.config.data import DataConfig
from stego_cli.config.fields import UserPath, split_commas, usable_cores
from stego_cli.config.words import CropKind

HashRule = Literal["python38", "python37"]

DEFAULT_CROP: CropKind = "five"


def _none_is_default(value: Any) -> Any:
    """A project whose commands use no crops does not say which ones it would make."""
    return DEFAULT_CROP if value in {None, "none"} else value


Splits = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(split_commas), Field(min_length=1)]


class CropsConfig(DataConfig):
    """Which crops are cut from which images, and where they go."""

    section: ClassVar[str] = "crops"

    crop: Annotated[CropKind, BeforeValidator(_none_is_default)] = Field(
        DEFAULT_CROP,
        description="five: the corners and the centre; random: five places that depend on the image's number alone.",
        json_schema_extra={"option": "--five or --random"},
    )
    crop_ratio: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="Side of a crop as a fraction of the image's side.",
        json_schema_extra={"option": "--ratio"},
    )
    splits: Splits | None = Field(
        None,
        description="Which splits; absent means those of train and val that there are.",
        json_schema_extra={"option": "--split"},
    )
    out: UserPath | None = Field(
        None, description="Folder for the crops; absent means the one where other commands look for them."
    )
    quality: int = Field(75, ge=1, le=100, description="JPEG quality; 75 is what the reference uses.")
    hash_rule: HashRule = Field(
        "python38",
        description="Where random crops lie: python38 as the reference on Python 3.8 or later, python37 as on older.",
    )
    workers: NonNegativeInt = Field(
        default_factory=usable_cores,
        description="Processes that cut; 0 does it without others, one image after another.",
    )
    overwrite: bool = Field(False, description="Cut again what is there, and replace crops that were made otherwise.")
