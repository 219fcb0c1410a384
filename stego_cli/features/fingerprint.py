"""What records or an index were made from, so that stale ones are refused by name."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NegativeInt, NonNegativeInt, PositiveInt

from stego_cli.config.base import Block
from stego_cli.config.words import FeatureType, LoaderCrop, Protocol
from stego_cli.files import printable

if TYPE_CHECKING:
    from stego_cli.data.dataset import Dataset


def _text(value: Any) -> Any:
    """Make names of folders fit for JSON, which has no place for bytes that are no text."""
    return printable(value) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_text)]

# How each setting is called in messages.
_WORDS = {
    "kind": "records of kind",
    "dataset": "dataset",
    "split": "split",
    "crop": "crops",
    "count": "a number of images of",
    "images": "a list of images with the hash",
    "bands": "bands",
    "backbone": "backbone",
    "weights": "weights",
    "feature_type": "feature type",
    "block": "block",
    "patch_size": "patch size",
    "resolution": "resolution",
    "loader_crop": "loader crop",
    "protocol": "protocol",
    "precision": "precision",
    "dtype": "numbers of type",
    "shape": "records of shape",
}
_SHOWN_OF_HASH = 8


class Fingerprint(Block):
    """Everything that the values of a store depend on; equal fingerprints mean equal records."""

    kind: Literal["maps", "pooled"] = Field(description="maps (C, h, w), or pooled vectors (C,).")
    dataset: Text = Field(description="The dataset's slug.")
    split: Text
    crop: Text = Field(description="The crops that the dataset consists of, such as `five 0.5`, or `none`.")
    count: NonNegativeInt = Field(description="Images, and so records.")
    images: str = Field(description="What `image_list_hash` says of them.")
    bands: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    backbone: Text
    weights: str = Field(description="SHA-256 of the backbone's weights; empty if it has none.")
    feature_type: FeatureType
    block: NegativeInt
    patch_size: PositiveInt
    resolution: PositiveInt = Field(description="Side in pixels of the square that the backbone saw.")
    loader_crop: LoaderCrop
    protocol: Protocol
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="Arithmetic of the backbone.")
    dtype: Literal["float16", "float32"] = Field(description="How numbers are stored; NumPy knows no bfloat16.")
    shape: tuple[PositiveInt, ...] = Field(description="Shape of one record.")

    @property
    def digest(self) -> str:
        """SHA-256 over all fields; shards carry it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def differences(self, other: Fingerprint) -> tuple[str, ...]:
        """Say in one sentence each where this, what was made, differs from `other`, what is asked for."""
        return tuple(
            f"made with {words} {self._shown(name)}, asked for {words} {other._shown(name)}"
            for name, words in _WORDS.items()
            if getattr(self, name) != getattr(other, name)
        )

    def _shown(self, name: str) -> str:
        """Write a value as people read it."""
        value = getattr(self, name)
        match name:
            case "images":
                return f"{value[:_SHOWN_OF_HASH]}…"
            case "weights":
                return f"{value[:_SHOWN_OF_HASH]}… of {self.backbone}" if value else f"(none) of {self.backbone}"
            case "shape":
                return "x".join(map(str, value))
            case "bands":
                return ",".join(map(str, value)) if value else "1,2,3"
        return str(value)


def image_list_hash(dataset: Dataset) -> str:
    """Return the SHA-256 over names and sizes in bytes of a dataset's images, in order.

    It notices images that were added, removed, renamed, reordered or replaced by others of another size; contents are
    not read, so 118,000 images take a second. A missing file counts as one of -1 bytes.
    """
    digest = hashlib.sha256()
    for sample in dataset.samples:
        name = sample.name.encode("utf-8", "surrogateescape")
        digest.update(b"%b\0%d\0" % (name, _size(os.fspath(sample.image))))
    return digest.hexdigest()


def _size(path: str) -> int:
    """Return the size of a file, or -1 if it cannot be looked at."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - several times as fast as pathlib, over a hundred thousand files
    except (OSError, ValueError):
        return -1
