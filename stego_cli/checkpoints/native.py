"""Our own checkpoints: one safetensors file that carries its config as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from stego_cli.checkpoints.filetypes import AGAIN, identify
from stego_cli.checkpoints.plain import harmless
from stego_cli.checkpoints.storages import as_float32, not_finite
from stego_cli.config.model import ModelConfig
from stego_cli.errors import CheckpointError
from stego_cli.files import atomic_write, printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

CONFIG_KEY = "stego"
FORMAT = 1
_ROOMS = ("backbone.", "head.", "cluster_probe.", "linear_probe.")


@dataclass(frozen=True, eq=False)  # comparing tensors has no single answer
class Checkpoint:
    """A model: its config and its tensors.

    Attributes:
        config: What the model is made of.
        tensors: `backbone.<key>` and `head.<key>` by the networks' own names, `cluster_probe.centroids` (K, D) and, if
            the config has a linear probe, `linear_probe.weight` (n, D) and `linear_probe.bias` (n,).

    Raises:
        CheckpointError: If the probes' tensors do not have the sizes that the config states; lists every problem.
    """

    config: ModelConfig
    tensors: dict[str, Tensor]

    def __post_init__(self) -> None:
        if problems := _problems(self.config, self.tensors):
            raise CheckpointError(
                "config and tensors do not belong together:\n  " + "\n  ".join(problems) + "\n\n"
                "hint: the file was put together wrongly; make or fetch it again"
            )

    def tensors_for_modules(self) -> dict[str, Tensor]:
        """Return the tensors under the names that the modules of a `Segmenter` have for them."""
        if self.config.backbone.kind != "vit":
            return dict(self.tensors)
        return {
            f"backbone.network.{key.removeprefix('backbone.')}" if key.startswith("backbone.") else key: tensor
            for key, tensor in self.tensors.items()
        }


def tensors_of(parts: Mapping[str, nn.Module | None]) -> dict[str, Tensor]:
    """Return the tensors of a model's modules by their names in a checkpoint; see `Checkpoint.tensors_for_modules`.

    Args:
        parts: The modules by their rooms (`backbone`, `head`, `cluster_probe`, `linear_probe`); None for one that is
            not there.
    """
    return {
        f"{part}.{name.removeprefix('network.') if part == 'backbone' else name}": tensor.detach().cpu()
        for part, module in parts.items()
        if module is not None
        for name, tensor in module.state_dict().items()
    }


def _problems(config: ModelConfig, tensors: Mapping[str, Tensor]) -> list[str]:
    """Compare the probes with the config and look for tensors that belong nowhere."""
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    centroids = shapes.get("cluster_probe.centroids", ())
    dim = config.method.code_dim or (centroids[-1] if centroids else 0)
    classes = len(config.label_space)
    expected: dict[str, tuple[int, ...]] = {"cluster_probe.centroids": (config.num_clusters, dim)}
    if config.has_linear_probe:
        expected |= {"linear_probe.weight": (classes, dim), "linear_probe.bias": (classes,)}
    own = {key for key in shapes if key.startswith(("cluster_probe.", "linear_probe."))}
    return [
        *(f"`{key}` is missing" for key in expected if key not in shapes),
        *(
            f"`{key}` has the shape {shapes[key]}, the config says {shape}"
            for key, shape in expected.items()
            if key in shapes and shapes[key] != shape
        ),
        *(f"`{key}` is not part of a model" for key in sorted(own - expected.keys())),
        *(f"`{key}` is not part of a model" for key in sorted(shapes) if not key.startswith(_ROOMS)),
    ]


def save_checkpoint(checkpoint: Checkpoint, path: Path, dtype: torch.dtype | None = None) -> None:
    """Write a model as one safetensors file; it appears whole or not at all.

    Args:
        checkpoint: The model.
        path: Where; by habit with the suffix `.safetensors`.
        dtype: How floating tensors are stored, such as `torch.float16` for half the size; None stores float32.

    Raises:
        CheckpointError: If a value is too large for `dtype`, or is not a number.
        OutputError: If the file cannot be written.
    """
    wanted = dtype or torch.float32
    stored = {key: _stored(tensor, wanted) for key, tensor in checkpoint.tensors.items()}
    if broken := not_finite(stored):
        raise CheckpointError(
            f"`{broken[0]}` has values that are not finite as {str(wanted).removeprefix('torch.')}\n\n"
            "hint: store it as float32, or find out where the training went astray"
        )
    # One entry only: the library writes several in an order that changes from run to run.
    data = save(stored, metadata={CONFIG_KEY: checkpoint.config.model_dump_json()})
    with atomic_write(path) as file:
        file.write(data)


def _stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a copy to write: on the CPU, in one piece, sharing memory with no other tensor."""
    wanted = dtype if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to("cpu", wanted, copy=True).contiguous()


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a model that `save_checkpoint` wrote; floating tensors come as float32.

    Raises:
        CheckpointError: If the file is damaged, is no model of ours, comes from a later version, or its config is not
            sound (every problem is listed).
    """
    metadata, tensors = read_safetensors(path)
    config = parse_config(metadata, path)
    try:
        return Checkpoint(config, {key: as_float32(tensor) for key, tensor in tensors.items()})
    except CheckpointError as error:
        raise CheckpointError(f"`{printable(path)}`: {harmless(error)}") from error


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read the metadata and the tensors of any safetensors file, as they are stored.

    Raises:
        CheckpointError: If the file is missing, damaged or of another kind.
    """
    found = identify(path)
    if found.kind != "safetensors":
        raise CheckpointError(
            f"`{printable(path)}` is {found.words}, not a safetensors file\n\n"
            f"hint: {found.hint or 'read it with `stego convert`'}"
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            # Copies, because the tensors would otherwise change or vanish with the file.
            return metadata, {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 - not a dictionary
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"`{printable(path)}` is truncated or damaged: {harmless(error)}\n\nhint: {AGAIN}"
        ) from error


def parse_config(metadata: Mapping[str, str], path: Path) -> ModelConfig:
    """Read the config out of a file's metadata.

    Raises:
        CheckpointError: If there is none, it comes from a later version, or it is not sound.
    """
    if CONFIG_KEY not in metadata:
        raise CheckpointError(
            f"`{printable(path)}` holds bare tensors, for example the weights of a backbone, and no model of this tool"
            "\n\nhint: give it as weights of a backbone, not as a model"
        )
    try:
        values: Any = json.loads(metadata[CONFIG_KEY])
    except (json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"the config inside `{printable(path)}` is not JSON: {error}\n\nhint: {AGAIN}") from error
    version = values.get("format") if isinstance(values, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise CheckpointError(
            f"`{printable(path)}` has format {version}; this version of stego reads up to {FORMAT}\n\n"
            "hint: install a newer stego-cli"
        )
    try:
        return ModelConfig.model_validate_json(metadata[CONFIG_KEY])
    except ValidationError as error:
        problems = [
            harmless(f"{'.'.join(map(str, each['loc'])) or 'config'}: {each['msg']}") for each in error.errors()
        ]
        raise CheckpointError(
            f"{len(problems)} problems with the config inside `{printable(path)}`:\n  " + "\n  ".join(problems) + "\n\n"
            f"hint: the file was changed by hand or is damaged; {AGAIN}"
        ) from error
