"""What the tensors of a vision transformer tell about its sizes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stego_cli.config.model import VitArchitecture, VitConfig
from stego_cli.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from stego_cli.config.words import FeatureType

# Heads are the one size that tensors do not show. Networks of DINO and DeiT have one per 64 channels.
_HEADS_BY_TYPE = {"vit_tiny": 3, "vit_small": 6, "vit_base": 12}
_HEADS_BY_WIDTH = {192: 3, 384: 6, 768: 12}
# The networks that STEGO and its family start from, by width and patch size; all have depth 12.
_STANDARD = {
    (384, 8): "dino_vits8_300ep",
    (384, 16): "dino_vits16",
    (768, 8): "dino_vitb8",
    (768, 16): "dino_vitb16",
}
_SHOWN = 6


def vit_sizes(
    tensors: Mapping[str, Tensor], heads: int | None = None, model_type: str | None = None
) -> VitArchitecture:
    """Read the sizes of a plain vision transformer off its tensors.

    Args:
        tensors: By the names of DINO and timm, such as `blocks.0.attn.qkv.weight`.
        heads: Number of attention heads; when None, that of `model_type`, else the usual one for the width.
        model_type: What the STEGO family calls the network, such as `vit_small`.

    Raises:
        CheckpointError: If tensors are missing, left over or of impossible sizes (they are named), or if the number of
            heads can not be known.
    """
    width = _shape(tensors, "cls_token", 3)[-1]
    _, channels, patch_size, patch_width = _shape(tensors, "patch_embed.proj.weight", 4)
    positions = _shape(tensors, "pos_embed", 3)[1] - 1
    side = math.isqrt(max(positions, 0))
    if channels != 3 or patch_size != patch_width or side < 1 or side**2 != positions:
        raise CheckpointError(
            f"no vision transformer for square RGB images: {channels} channels, patches of {patch_size}x{patch_width}, "
            f"{positions} positions\n\nhint: only plain vision transformers can be read"
        )
    _check_names(tensors)
    return VitArchitecture(
        patch_size=patch_size,
        width=width,
        depth=_depth(tensors),
        heads=_heads(width, heads, model_type),
        mlp_ratio=_shape(tensors, "blocks.0.mlp.fc1.weight", 2)[0] / width,
        qkv_bias="blocks.0.attn.qkv.bias" in tensors,
        image_size=side * patch_size,
    )


def vit_config(sizes: VitArchitecture, feature_type: FeatureType = "feat") -> VitConfig:
    """Return the config of a network of these sizes: a registered one where they are standard, else explicit."""
    name = _STANDARD.get((sizes.width, sizes.patch_size))
    if name is not None and sizes == _usual(sizes.width, sizes.patch_size):
        return VitConfig(name=name, feature_type=feature_type)
    return VitConfig(name="custom", feature_type=feature_type, architecture=sizes)


def _usual(width: int, patch_size: int) -> VitArchitecture:
    return VitArchitecture(patch_size=patch_size, width=width, depth=12, heads=_HEADS_BY_WIDTH[width])


def in_words(sizes: VitArchitecture) -> str:
    """Name a network by its sizes.

    Example:
        >>> in_words(VitArchitecture(patch_size=8, width=384, depth=12, heads=6))
        'ViT-S/8'
        >>> in_words(VitArchitecture(patch_size=8, width=48, depth=3, heads=6))
        'vision transformer of width 48, depth 3, 6 heads, patches of 8 pixels'
    """
    letters = {(192, 12, 3): "Ti", (384, 12, 6): "S", (768, 12, 12): "B", (1024, 24, 16): "L"}
    letter = letters.get((sizes.width, sizes.depth, sizes.heads))
    stem = ", on the filter bank's channels" if sizes.stem == "filterbank" else ""
    if letter:
        return f"ViT-{letter}/{sizes.patch_size}{stem}"
    return (
        f"vision transformer of width {sizes.width}, depth {sizes.depth}, {sizes.heads} heads, "
        f"patches of {sizes.patch_size} pixels{stem}"
    )


def _shape(tensors: Mapping[str, Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    """Return the shape of a tensor that has to be there."""
    shape = tuple(tensors[name].shape) if name in tensors else None
    if shape is None or len(shape) != dimensions or 0 in shape:
        problem = "is missing" if shape is None else f"has the shape {shape}; {dimensions} dimensions are needed"
        raise CheckpointError(
            f"the backbone's `{name}` {problem}\n\n"
            "hint: only plain vision transformers with the tensor names of DINO can be read"
        )
    return shape


def _depth(tensors: Mapping[str, Tensor]) -> int:
    """Count the blocks."""
    return len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})


def _check_names(tensors: Mapping[str, Tensor]) -> None:
    """Compare the names with those of a plain vision transformer of this depth."""
    bias = ["qkv.bias"] if "blocks.0.attn.qkv.bias" in tensors else []
    block = [f"attn.{part}" for part in ("qkv.weight", *bias, "proj.weight", "proj.bias")]
    block += [f"{layer}.{part}" for layer in ("norm1", "norm2", "mlp.fc1", "mlp.fc2") for part in ("weight", "bias")]
    needed = {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"}
    needed |= {f"blocks.{i}.{part}" for i in range(max(_depth(tensors), 1)) for part in block}
    problems = [
        f"{len(names)} {kind}: {', '.join(names[:_SHOWN])}{' ...' if len(names) > _SHOWN else ''}"
        for kind, names in (
            ("missing", sorted(needed - tensors.keys())),
            ("unexpected", sorted(tensors.keys() - needed)),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            "the backbone's tensors are not those of a plain vision transformer:\n  " + "\n  ".join(problems) + "\n\n"
            "hint: the file may be incomplete; otherwise its network is one that this tool does not know"
        )


def _heads(width: int, heads: int | None, model_type: str | None) -> int:
    """Settle the number of attention heads."""
    found = heads or _HEADS_BY_TYPE.get(model_type or "") or _HEADS_BY_WIDTH.get(width)
    if found is None:
        raise CheckpointError(
            f"the number of attention heads is stored nowhere, and a width of {width} has no usual one\n\n"
            "hint: give it with --heads"
        )
    if found < 1 or width % found:
        raise CheckpointError(
            f"{found} attention heads do not divide the width {width}\n\nhint: give the right number with --heads"
        )
    return found
