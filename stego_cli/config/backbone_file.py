"""A weight file that says how its network is built, in place of a backbone's name."""

import json
import struct
from pathlib import Path
from typing import Any

SUFFIX = ".safetensors"

BACKBONE_KEY = "stego_backbone"
"""Metadata of a weight file of `stego pretrain`: how its network is built."""

MODEL_KEY = "stego"
"""Metadata of a model file; holds a backbone among other things."""

_MOST_HEADER = 100 * 2**20  # bytes, the format's own limit


def backbone_of(path: Path) -> dict[str, Any]:
    """Read how the network in a safetensors file is built, from its header alone and without any library for tensors.

    Returns:
        Values of a backbone's config, with the file itself as where its weights are.

    Raises:
        ValueError: If there is no such file, or it does not say.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length <= _MOST_HEADER else {}
        metadata = header.get("__metadata__", {})
        own = metadata.get(BACKBONE_KEY)
        backbone = json.loads(own) if own else json.loads(metadata[MODEL_KEY])["backbone"]
        kind = backbone["kind"]
    except OSError as error:
        raise ValueError(f"cannot read `{path}`: {error.strerror}; give a weight file or a backbone's name") from error
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        raise ValueError(
            f"`{path}` does not say which network it holds; name the backbone, and give the file as weights"
        ) from error
    if kind != "vit":
        raise ValueError(f"`{path}` is a model on the {kind}, which has no weights; use --backbone {kind}")
    return {**backbone, "file": path}
