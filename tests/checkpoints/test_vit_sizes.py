from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stego_cli.checkpoints.vit_sizes import in_words, vit_config, vit_sizes
from stego_cli.config.model import VitArchitecture
from stego_cli.errors import CheckpointError

Make = Callable[..., dict[str, Tensor]]


def test_sizes_are_read_off_the_shapes(vit: Make) -> None:
    sizes = vit_sizes(vit(width=20, depth=5, patch=4, side=6), heads=4)
    assert sizes == VitArchitecture(patch_size=4, width=20, depth=5, heads=4, image_size=24)


def test_ten_blocks_and_more_are_counted_right(vit: Make) -> None:
    assert vit_sizes(vit(depth=11), heads=2).depth == 11


def test_the_mlp_and_the_bias_of_the_attention_show(vit: Make) -> None:
    tensors = {key: value for key, value in vit(depth=1).items() if not key.endswith("qkv.bias")}
    tensors |= {"blocks.0.mlp.fc1.weight": torch.ones(30, 12), "blocks.0.mlp.fc1.bias": torch.ones(30)}
    sizes = vit_sizes(tensors, heads=3)
    assert (sizes.mlp_ratio, sizes.qkv_bias) == (2.5, False)


@pytest.mark.parametrize(
    ("width", "model_type", "heads", "found"),
    [
        (192, None, None, 3),
        (384, None, None, 6),
        (768, None, None, 12),
        (768, "vit_small", None, 6),
        (384, "something else", None, 6),
        (384, "vit_small", 12, 12),
        (12, "vit_tiny", None, 3),
    ],
)
def test_the_number_of_heads_has_three_sources(
    meta_vit: Make, width: int, model_type: str | None, heads: int | None, found: int
) -> None:
    assert vit_sizes(meta_vit(width=width), heads, model_type).heads == found


@pytest.mark.parametrize(
    ("width", "patch", "heads", "depth", "name"),
    [
        (384, 8, 6, 12, "dino_vits8_300ep"),
        (384, 16, 6, 12, "dino_vits16"),
        (768, 8, 12, 12, "dino_vitb8"),
        (768, 16, 12, 12, "dino_vitb16"),
        (768, 16, 6, 12, "custom"),
        (768, 16, 12, 11, "custom"),
        (384, 32, 6, 12, "custom"),
        (192, 16, 3, 12, "custom"),
    ],
)
def test_standard_sizes_get_their_registered_name(
    meta_vit: Make, width: int, patch: int, heads: int, depth: int, name: str
) -> None:
    sizes = vit_sizes(meta_vit(width=width, patch=patch, side=224 // patch, depth=depth), heads)
    config = vit_config(sizes, "KK")
    assert config.name == name
    assert config.architecture == (sizes if name == "custom" else None)
    assert config.feature_type == "KK"


def test_a_position_table_of_another_resolution_is_not_standard(meta_vit: Make) -> None:
    sizes = vit_sizes(meta_vit(width=384, patch=16, side=20, depth=12))
    assert vit_config(sizes).name == "custom"
    assert sizes.image_size == 320


def test_every_registered_name_describes_the_registered_sizes(meta_vit: Make) -> None:
    from stego_cli.backbones.registry import BY_NAME

    for width, patch in ((384, 8), (384, 16), (768, 8), (768, 16)):
        sizes = vit_sizes(meta_vit(width=width, patch=patch, side=224 // patch, depth=12))
        assert BY_NAME[vit_config(sizes).name].sizes == sizes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cls_token": None}, "`cls_token` is missing"),
        ({"cls_token": (12,)}, r"`cls_token` has the shape \(12,\); 3 dimensions"),
        ({"cls_token": (1, 1, 0)}, r"shape \(1, 1, 0\)"),
        ({"patch_embed.proj.weight": (12, 1, 4, 4)}, "1 channels"),
        ({"patch_embed.proj.weight": (12, 3, 4, 8)}, "patches of 4x8"),
        ({"pos_embed": (1, 8, 12)}, "7 positions"),
        ({"pos_embed": (1, 1, 12)}, "0 positions"),
        ({"blocks.1.norm2.bias": None}, r"1 missing: blocks\.1\.norm2\.bias"),
        ({"register_tokens": (1, 4, 12)}, "1 unexpected: register_tokens"),
        ({"blocks.7.norm1.bias": (12,)}, "missing: blocks.2"),
    ],
)
def test_what_is_no_plain_vision_transformer_is_named(
    vit: Make, change: dict[str, tuple[int, ...] | None], words: str
) -> None:
    tensors = {key: value for key, value in vit().items() if key not in change}
    tensors |= {key: torch.ones(shape) for key, shape in change.items() if shape is not None}
    with pytest.raises(CheckpointError, match=words):
        vit_sizes(tensors, heads=3)


def test_long_lists_of_names_are_cut(vit: Make) -> None:
    tensors = {key: value for key, value in vit().items() if not key.startswith("blocks.0.")}
    with pytest.raises(CheckpointError, match=r"missing: .* \.\.\."):
        vit_sizes(tensors, heads=3)


@pytest.mark.parametrize(
    ("heads", "words"), [(5, "5 attention heads do not divide the width 12"), (-3, "-3 attention")]
)
def test_heads_must_divide_the_width(vit: Make, heads: int, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        vit_sizes(vit(), heads)


def test_heads_that_cannot_be_known_are_asked_for(vit: Make) -> None:
    with pytest.raises(CheckpointError, match=r"width of 12 has no usual one(.|\n)*--heads"):
        vit_sizes(vit())


def test_large_networks_have_short_names(meta_vit: Make) -> None:
    assert in_words(vit_sizes(meta_vit(width=1024, depth=24, patch=16, side=14), heads=16)) == "ViT-L/16"
