"""`stego.yaml`: settings that the commands of one project share, written once."""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt

from stego_cli.config.base import Block
from stego_cli.config.fields import DeviceName, UserPath
from stego_cli.config.model import BackboneConfig
from stego_cli.config.words import CropKind, Precision

PROJECT_FILE = "stego.yaml"
Section = dict[str, Any]


class ProjectConfig(Block):
    """What a `stego.yaml` may hold: keys shared by all commands, then one section per command.

    A shared key is used by every command that has a setting of that name. A section is checked by its own command
    only, so that a mistake in `train` does not stop `predict`.
    """

    dataset: str | None = None
    data_dir: UserPath | None = None
    backbone: BackboneConfig | None = None
    classes: PositiveInt | None = None
    model: str | None = None
    device: DeviceName | None = None
    precision: Precision | None = None
    crop: CropKind | Literal["none"] | None = None
    crop_ratio: float | None = None
    label_space: str | None = None

    predict: Section | None = None
    fit: Section | None = None
    info: Section | None = None
    train: Section | None = None
    eval: Section | None = None
    crops: Section | None = None
    features: Section | None = None
    knn: Section | None = None
    ablate: Section | None = None
    download: Section | None = None


def find_project_file(start: Path) -> Path | None:
    """Return the `stego.yaml` of the folder `start`, or None. Parent folders are not searched."""
    path = start / PROJECT_FILE
    # A broken link is a mistake to report, so it counts as there.
    return path if os.path.lexists(path) else None
