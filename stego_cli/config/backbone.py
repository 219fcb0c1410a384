"""The choice of a frozen backbone, shared by the commands that run one over a dataset."""

from pydantic import Field

from stego_cli.config.data import DataConfig
from stego_cli.config.fields import UserPath
from stego_cli.config.model import BackboneConfig, VitConfig


class BackboneChoice(DataConfig):
    """Which images, and which frozen backbone looks at them."""

    backbone: BackboneConfig = VitConfig()
    weights: UserPath | None = Field(None, description="Weight file of the backbone; absent means the catalog's.")
