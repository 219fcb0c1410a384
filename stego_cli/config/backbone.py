"""The choice of a frozen backbone, shared by every command that runs one over a dataset."""

import json
import struct
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from stego_cli.config.data import DataConfig
from stego_cli.config.fields import UserPath
from stego_cli.config.model import BackboneConfig, VitConfig

BACKBONE_KEY = "stego_backbone"
"""Metadata of a weight file that says how its network is built."""

MODEL_KEY = "stego"
"""Metadata of a model file; holds a backbone among other things."""

_SUFFIX = ".safetensors"
_MOST_HEADER = 100 * 2**20  # bytes, the format's own limit


class BackboneChoice(DataConfig):
    """Which images, and which frozen backbone looks at them."""

    backbone: BackboneConfig = VitConfig()
    weights: UserPath | None = Field(None, description="Weight file of the backbone; absent means the catalog's.")

    @model_validator(mode="before")
    @classmethod
    def backbone_from_file(cls, values: Any) -> Any:
        """Let a file of `stego pretrain`, or a model, stand for the backbone in it together with its weights."""
        name = values.get("backbone") if isinstance(values, dict) else None
        if not isinstance(name, str) or not name.endswith(_SUFFIX):
            return values
        path = Path(name).expanduser()
        return {**values, "backbone": _backbone_of(path), "weights": values.get("weights") or str(path)}


def _backbone_of(path: Path) -> dict[str, Any]:
    """Read how the network in a safetensors file is built, from its header alone and without any library for tensors.

    Raises:
        ValueError: If there is no such file, or it does not say.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length <= _MOST_HEADER else {}
        metadata = header.get("__metadata__", {})
        if BACKBONE_KEY in metadata:
            return dict(json.loads(metadata[BACKBONE_KEY]))
        return dict(json.loads(metadata[MODEL_KEY])["backbone"])
    except OSError as error:
        raise ValueError(f"backbone: cannot read `{path}`: {error.strerror}") from error
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        raise ValueError(
            f"backbone: `{path}` does not say which network it holds; name the backbone, and give the file as weights"
        ) from error
