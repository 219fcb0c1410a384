"""Weights into backbones: strict, and saying what does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never, cast

from stego_cli.errors import WeightsError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from stego_cli.backbones.base import Backbone
    from stego_cli.backbones.registry import BackboneRow
    from stego_cli.config.model import BackboneConfig

SHOWN = 6


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Copy `tensors` into `module`; every key and every shape must agree.

    Raises:
        WeightsError: Names the missing keys, the unexpected keys and the keys with another shape.
    """
    own = module.state_dict()
    problems = [
        _list("missing", sorted(own.keys() - tensors.keys())),
        _list("unexpected", sorted(tensors.keys() - own.keys())),
        _list(
            "of another shape",
            [
                f"{key} {tuple(tensors[key].shape)}, needs {tuple(own[key].shape)}"
                for key in sorted(own.keys() & tensors.keys())
                if own[key].shape != tensors[key].shape
            ],
        ),
    ]
    if found := [problem for problem in problems if problem]:
        raise WeightsError(
            f"{what} does not fit {type(module).__name__}:\n  " + "\n  ".join(found) + "\n\n"
            "hint: check that the backbone's name and the weights belong together"
        )
    module.load_state_dict(dict(tensors))


def load_backbone(config: BackboneConfig, weights: Path | None = None) -> Backbone:
    """Build a backbone and give it pretrained weights.

    Args:
        config: Which backbone.
        weights: A weight file, or a model whose backbone is taken; by default the file that `config` was read from, or
            the catalog's file under `STEGO_HOME`.
            The filter bank takes the scales of its channels from the embedded model by default.

    Returns:
        The backbone, frozen and in evaluation mode.

    Raises:
        WeightsError: If the file is missing (says where to get it) or does not fit.
    """
    from stego_cli.backbones.registry import build_backbone

    backbone = build_backbone(config)
    if config.kind == "vit":
        _fill(backbone, config.name, weights or config.file)
    else:
        _fill_filterbank(backbone, weights)
    return freeze(backbone)


def freeze(backbone: Backbone) -> Backbone:
    """Put a backbone into evaluation mode and keep every gradient out of it."""
    return backbone.eval().requires_grad_(requires_grad=False)


def _fill(backbone: Backbone, name: str, weights: Path | None) -> None:
    """Load a vision transformer's weights from a file, the catalog's cache or timm's hub."""
    from stego_cli.backbones.registry import BY_NAME
    from stego_cli.catalog.locate import find_weights
    from stego_cli.checkpoints.safe_torch import read_tensors

    network = cast("nn.Module", backbone.network)
    row = BY_NAME.get(name)
    if weights is None and row is None:
        return load_strictly(network, _from_hub(name), f"timm's `{name}`")
    path = weights if weights is not None else find_weights(cast("str", row and row.weights))
    tensors = read_tensors(path)
    return load_strictly(network, owners_layout(row, tensors) if row else tensors, f"`{printable(path)}`")


def owners_layout(row: BackboneRow, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors of a registered network, as its owners name them, the names that they have here.

    Tensors that have our names already, as in our own checkpoints, keep them.

    Raises:
        WeightsError: If they show that the network is another one.
    """
    from stego_cli.backbones.layouts import from_dino, from_dinov2, from_dinov3

    match row.family:
        case "dino" | "msn":
            return from_dino(tensors)
        case "dinov2":
            return from_dinov2(tensors)
        case "dinov3":
            return from_dinov3(tensors)
        case _:
            assert_never(row.family)


def _fill_filterbank(backbone: Backbone, model: Path | None) -> None:
    """Take the scales of the channels from a model; they were fitted to its images, without labels."""
    from stego_cli.catalog.models import embedded_path
    from stego_cli.checkpoints.native import load_checkpoint

    path = model or embedded_path()
    tensors = load_checkpoint(path).tensors
    own = {key.removeprefix("backbone."): value for key, value in tensors.items() if key.startswith("backbone.")}
    load_strictly(backbone, own, f"the backbone of `{printable(path)}`")


def _from_hub(name: str) -> Mapping[str, Tensor]:
    """Fetch a timm model's own weights through timm, which checks and caches them."""
    import timm

    try:
        network = timm.create_model(name, pretrained=True, num_classes=0, dynamic_img_size=True)
    except Exception as error:  # the hub's client raises a dozen kinds, by version
        raise WeightsError(
            f"timm could not fetch the weights of `{name}`: {error}\n\n"
            "hint: connect to the network once, or give a file with --weights"
        ) from error
    return network.state_dict()


def _list(kind: str, keys: Sequence[str]) -> str:
    """Name the first few keys of one kind of problem, or nothing."""
    if not keys:
        return ""
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f"{len(keys)} {kind}: {', '.join(keys[:SHOWN])}{more}"
