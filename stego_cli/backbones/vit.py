"""Vision transformers through timm, with features read off one block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from stego_cli.backbones.base import Backbone
from stego_cli.backbones.positions import dino_positions
from stego_cli.backbones.stem import FilterbankStem
from stego_cli.errors import ShapeError, StegoError

if TYPE_CHECKING:
    from stego_cli.config.model import VitArchitecture
    from stego_cli.config.words import FeatureType

# The STEGO reference reads keys as if every network had six heads; see `reference_key_map`.
REFERENCE_KEY_GROUPS = 6


class DinoVit(VisionTransformer):
    """A plain vision transformer with DINO's key names and DINO's rule for other resolutions.

    Attention runs through `scaled_dot_product_attention`, so no attention matrix is kept in memory. Patches become
    tokens through one linear map, of their pixels or, by `stem`, of what the filter bank says of them.
    """

    cls_token: nn.Parameter
    pos_embed: nn.Parameter

    def __init__(self, sizes: VitArchitecture) -> None:
        super().__init__(
            img_size=sizes.image_size,
            patch_size=sizes.patch_size,
            embed_dim=sizes.width,
            depth=sizes.depth,
            num_heads=sizes.heads,
            mlp_ratio=sizes.mlp_ratio,
            qkv_bias=sizes.qkv_bias,
            init_values=sizes.layer_scale,
            norm_layer=lambda width, **kwargs: nn.LayerNorm(width, eps=sizes.norm_eps, **kwargs),
            num_classes=0,
            global_pool="",
            dynamic_img_size=True,
            weight_init="skip",
        )
        if sizes.stem == "filterbank":
            self.patch_embed = FilterbankStem(sizes.width)
        for unset in (self.cls_token, self.pos_embed):  # timm leaves these as the memory was, at worst no numbers
            nn.init.trunc_normal_(unset, std=0.02)

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Add the class token and positions to patch embeddings (B, h, w, C) -> (B, 1 + h*w, C); called by timm."""
        batch, height, width, channels = x.shape
        tokens = torch.cat([self.cls_token.expand(batch, -1, -1), x.reshape(batch, -1, channels)], dim=1)
        # Patches are square, so the image is square exactly when the grid is.
        return tokens + dino_positions(self.pos_embed, (height, width), square_image=height == width)


class VitBackbone(Backbone):
    """The feature map of one block of a timm vision transformer."""

    def __init__(self, network: nn.Module, *, feature_type: FeatureType = "feat", block: int = -1) -> None:
        super().__init__()
        self.network = network
        vit = cast("Any", network)
        self.feature_type = feature_type
        self.depth = len(vit.blocks)
        if not -self.depth <= block < 0:
            raise StegoError(
                f"block {block} does not exist; this backbone has {self.depth} blocks, -{self.depth} to -1"
            )
        self.block = self.depth + block
        self.patch_size = int(vit.patch_embed.patch_size[0])
        self.channels = int(vit.embed_dim)
        settings = getattr(vit, "pretrained_cfg", None) or {}
        self.mean = tuple(settings.get("mean", self.mean))
        self.std = tuple(settings.get("std", self.std))

    def features(self, images: Tensor) -> Tensor:
        """Return the block's normalised patch tokens, or its keys, on their grid (B, C, h, w)."""
        if self.feature_type == "feat":
            return self._patch_tokens(images)
        keys = self.keys_per_head(images)[:, :, -self._patches(images) :]  # (B, heads, hw, d), no prefix tokens
        grid = images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size
        return reference_key_map(keys, grid) if self.feature_type == "KK" else head_key_map(keys, grid)

    def keys_per_head(self, images: Tensor) -> Tensor:
        """Return the block's key vectors of all tokens, prefix tokens first.

        Args:
            images: Shape (B, 3, H, W), normalised.

        Returns:
            Shape (B, heads, tokens, d) with heads * d = C.

        Raises:
            StegoError: If the network does not compute queries, keys and values in one linear layer.
        """
        attention = cast("Any", self.network).blocks[self.block].attn
        seen: list[Tensor] = []
        handle = attention.qkv.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
        try:
            self._patch_tokens(images)
        finally:
            handle.remove()
        if not seen:
            raise StegoError(
                f"{type(self.network).__name__} does not show its keys, so feature type `{self.feature_type}` "
                "cannot be read\n\nhint: use the feature type `feat`"
            )
        batch, tokens, _ = seen[0].shape
        return seen[0].reshape(batch, tokens, 3, attention.num_heads, -1)[:, :, 1].transpose(1, 2)

    def _patch_tokens(self, images: Tensor) -> Tensor:
        """Run the network up to the wanted block and normalise its patch tokens: (B, C, h, w)."""
        maps = cast("Any", self.network).forward_intermediates(
            images, indices=[self.block], norm=True, stop_early=True, output_fmt="NCHW", intermediates_only=True
        )
        return cast("Tensor", maps[0])

    def _patches(self, images: Tensor) -> int:
        return (images.shape[-2] // self.patch_size) * (images.shape[-1] // self.patch_size)


def head_key_map(keys: Tensor, grid: tuple[int, int]) -> Tensor:
    """Put keys (B, heads, hw, d) on their grid with the heads side by side: (B, heads * d, h, w)."""
    return keys.transpose(2, 3).reshape(keys.shape[0], -1, *grid)


def reference_key_map(keys: Tensor, grid: tuple[int, int]) -> Tensor:
    """Read keys as the STEGO reference does for its feature type "KK".

    It takes the memory of (B, heads, hw, d) for (B, 6, h, w, D), whatever the number of heads. With six heads that is
    `head_key_map`; with any other number it mixes positions and channels. Kept so that checkpoints trained that way
    give the result they were trained for; new models should use the feature type `keys`.

    Args:
        keys: Shape (B, heads, hw, d).
        grid: Height and width in patches.

    Returns:
        Shape (B, heads * d, h, w).

    Raises:
        ShapeError: If heads * d is not a multiple of six.
    """
    batch, heads, _, size = keys.shape
    if (heads * size) % REFERENCE_KEY_GROUPS:
        raise ShapeError(
            f"feature type KK needs a width that is a multiple of {REFERENCE_KEY_GROUPS}, got {heads * size}"
            "\n\nhint: use the feature type `keys`"
        )
    groups = keys.reshape(batch, REFERENCE_KEY_GROUPS, *grid, -1)  # (B, heads, hw, d) -> (B, 6, h, w, D)
    return groups.permute(0, 1, 4, 2, 3).reshape(batch, -1, *grid)
