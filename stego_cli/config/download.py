"""Settings of `stego download`."""

from typing import ClassVar

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from stego_cli.config.fields import CommandConfig, UserPath


class DownloadConfig(CommandConfig):
    """Where downloads go, and how patient they are."""

    section: ClassVar[str] = "download"

    directory: UserPath | None = Field(
        None,
        description="Folder for the files; absent means below `STEGO_HOME`.",
        json_schema_extra={"option": "--dir"},
    )
    jobs: PositiveInt = Field(4, le=16, description="Files that are fetched at the same time.")
    retries: NonNegativeInt = Field(4, description="Attempts in a row that may bring nothing new.")
    timeout: PositiveFloat = Field(30.0, description="Seconds without a byte after which a connection counts as dead.")
    overwrite: bool = Field(False, description="Fetch and unpack again what is there.")
