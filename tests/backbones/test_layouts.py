"""The names that owners give their tensors, written down here by hand, become those of the networks that are built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models.eva import checkpoint_filter_fn as timm_eva_names
from timm.models.vision_transformer import checkpoint_filter_fn as timm_vit_names
from torch import Tensor, nn

from stego_cli.backbones.family import Dinov2Vit
from stego_cli.backbones.layouts import from_dinov2, from_dinov3
from stego_cli.backbones.registry import BY_NAME, ROWS, build_backbone
from stego_cli.backbones.weights import load_backbone, load_strictly, owners_layout
from stego_cli.config.model import VitArchitecture, VitConfig
from stego_cli.errors import WeightsError

# Width, depth, patch and how many positions the owner's table has beside the class token, by registered name.
SIZES = {
    "dinov2_vits14": (384, 12, 14, 37 * 37),
    "dinov2_vits14_reg": (384, 12, 14, 37 * 37),
    "dinov2_vitb14": (768, 12, 14, 37 * 37),
    "dinov2_vitb14_reg": (768, 12, 14, 37 * 37),
    "dinov2_vitl14": (1024, 24, 14, 37 * 37),
    "dinov2_vitl14_reg": (1024, 24, 14, 37 * 37),
    "dinov2_vitg14": (1536, 40, 14, 37 * 37),
    "dinov2_vitg14_reg": (1536, 40, 14, 37 * 37),
    "dinov3_vits16": (384, 12, 16, 0),
    "dinov3_vits16plus": (384, 12, 16, 0),
    "dinov3_vitb16": (768, 12, 16, 0),
    "dinov3_vitl16": (1024, 24, 16, 0),
    "dinov3_vitl16_sat": (1024, 24, 16, 0),
    "dinov3_vith16plus": (1280, 32, 16, 0),
    "dinov3_vit7b16": (4096, 40, 16, 0),
    "dinov3_vit7b16_sat": (4096, 40, 16, 0),
    "mae_vitb16": (768, 12, 16, 14 * 14),
    "mae_vitl16": (1024, 24, 16, 14 * 14),
    "mae_vith14": (1280, 32, 14, 16 * 16),
    "mocov3_vits16": (384, 12, 16, 14 * 14),
    "mocov3_vitb16": (768, 12, 16, 14 * 14),
    "ibot_vits16": (384, 12, 16, 14 * 14),
    "ibot_vitb16": (768, 12, 16, 14 * 14),
    "ibot_vitb16_rand": (768, 12, 16, 14 * 14),
    "ibot_vitl16": (1024, 24, 16, 14 * 14),
    "ibot_vitl16_rand": (1024, 24, 16, 14 * 14),
    "ibot_vitb16_22k": (768, 12, 16, 14 * 14),
    "ibot_vitl16_22k": (1024, 24, 16, 14 * 14),
    "msn_vits16": (384, 12, 16, 14 * 14),
    "msn_vitb16": (768, 12, 16, 14 * 14),
    "msn_vitl16": (1024, 24, 16, 14 * 14),
    "msn_vitb4": (768, 12, 4, 56 * 56),
    "msn_vitl7": (1024, 24, 7, 32 * 32),
}
# Hidden channels of the two gated layers, where they are gated.
GATED = {
    "dinov2_vitg14": 4096,
    "dinov2_vitg14_reg": 4096,
    "dinov3_vits16plus": 1536,
    "dinov3_vith16plus": 5120,
    "dinov3_vit7b16": 8192,
    "dinov3_vit7b16_sat": 8192,
}
Shapes = dict[str, tuple[int, ...]]


def linear(name: str, inward: int, outward: int, *, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (outward, inward)} | ({f"{name}.bias": (outward,)} if bias else {})


def layers(name: str, family: str, width: int, hidden: int | None) -> Shapes:
    """The two layers behind the attention of a block."""
    if hidden is None:
        return linear(f"{name}.fc1", width, 4 * width) | linear(f"{name}.fc2", 4 * width, width)
    if family == "dinov2":
        return linear(f"{name}.w12", width, 2 * hidden) | linear(f"{name}.w3", hidden, width)
    both = linear(f"{name}.w1", width, hidden) | linear(f"{name}.w2", width, hidden)
    return both | linear(f"{name}.w3", hidden, width)


def block(name: str, family: str, width: int, hidden: int | None, *, qkv_bias: bool) -> Shapes:
    shapes = linear(f"{name}.attn.qkv", width, 3 * width, bias=qkv_bias) | linear(f"{name}.attn.proj", width, width)
    for norm in ("norm1", "norm2"):
        shapes |= {f"{name}.{norm}.weight": (width,), f"{name}.{norm}.bias": (width,)}
    if family in {"dinov2", "dinov3"}:
        shapes |= {f"{name}.ls1.gamma": (width,), f"{name}.ls2.gamma": (width,)}
    if family == "dinov3" and qkv_bias:
        shapes[f"{name}.attn.qkv.bias_mask"] = (3 * width,)
    return shapes | layers(f"{name}.mlp", family, width, hidden)


def owners_shapes(
    family: str, width: int, depth: int, patch: int, positions: int, *, hidden: int | None = None, qkv_bias: bool = True
) -> Shapes:
    """Names and shapes of the tensors in an owner's file."""
    shapes: Shapes = {
        "cls_token": (1, 1, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    if positions:
        shapes["pos_embed"] = (1, 1 + positions, width)
    if family in {"dinov2", "dinov3"}:
        shapes["mask_token"] = (1, width)
    if family == "dinov3":
        shapes["storage_tokens"] = (1, 4, width)
    for number in range(depth):
        shapes |= block(f"blocks.{number}", family, width, hidden, qkv_bias=qkv_bias)
    return shapes


def shapes_of(name: str) -> Shapes:
    family = name.partition("_")[0]
    shapes = owners_shapes(family, *SIZES[name], hidden=GATED.get(name), qkv_bias="7b" not in name)
    if name.endswith("_reg"):
        shapes["register_tokens"] = (1, 4, SIZES[name][0])
    if name in {"dinov3_vitl16_sat", "dinov3_vit7b16", "dinov3_vit7b16_sat"}:
        shapes |= {"local_cls_norm.weight": (SIZES[name][0],), "local_cls_norm.bias": (SIZES[name][0],)}
    if name.endswith("_22k"):
        shapes["masked_embed"] = (1, SIZES[name][0])
    return shapes


def periods(count: int = 16) -> Tensor:
    return torch.tensor([100.0 ** (i / count) for i in range(count)])


def filled(shapes: Shapes) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) * 0.02 for name, shape in shapes.items()}


def test_every_registered_network_of_others_is_tried() -> None:
    assert set(SIZES) == {row.name for row in ROWS if not row.name.startswith("dino_")}


@pytest.mark.parametrize("name", SIZES)
def test_the_owners_file_fits_the_network(name: str) -> None:
    with torch.device("meta"):  # sizes without values: the largest network has 27 GB
        network = build_backbone(VitConfig(name=name)).network
        theirs = {key: torch.empty(shape) for key, shape in shapes_of(name).items()}
    if name.startswith("dinov3"):
        theirs["rope_embed.periods"] = periods()
    ours = owners_layout(BY_NAME[name], theirs)
    assert isinstance(network, nn.Module)
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert {key: tuple(value.shape) for key, value in ours.items()} == wanted


def wrapped_as_mae(state: dict[str, Tensor]) -> Any:
    decoder = {"mask_token": (1, 1, 512), "decoder_pos_embed": (1, 197, 512), "decoder_blocks.0.norm1.weight": (512,)}
    decoder |= {"decoder_embed.weight": (512, 768), "decoder_norm.bias": (512,), "decoder_pred.bias": (768,)}
    return {"model": state | filled(decoder)}


def wrapped_as_moco(state: dict[str, Tensor]) -> Any:
    base = {f"module.base_encoder.{key}": value for key, value in state.items()}
    momentum = {f"module.momentum_encoder.{key}": value + 1 for key, value in state.items()}
    heads = {"module.base_encoder.head.0.weight": torch.zeros(2, 2), "module.predictor.0.weight": torch.zeros(2, 2)}
    return {"epoch": 300, "arch": "vit_small", "state_dict": base | momentum | heads, "optimizer": {}}


def wrapped_as_msn(state: dict[str, Tensor]) -> Any:
    target = {f"module.{key}": value for key, value in (state | {"fc.fc1.weight": torch.zeros(2, 2)}).items()}
    student = {key: value + 1 for key, value in target.items()}
    return {"encoder": student, "target_encoder": target, "prototypes": torch.zeros(2, 2), "epoch": 800}


@pytest.mark.parametrize(
    ("name", "wrapped"),
    [
        ("dinov2_vits14", dict),
        ("dinov2_vits14_reg", dict),
        ("dinov3_vits16", lambda state: state | {"rope_embed.periods": periods()}),
        ("mae_vitb16", dict),
        ("mae_vitb16", wrapped_as_mae),
        ("mocov3_vits16", wrapped_as_moco),
        ("ibot_vits16", lambda state: {"state_dict": state}),
        ("msn_vits16", wrapped_as_msn),
    ],
    ids=["dinov2", "dinov2_reg", "dinov3", "mae", "mae with decoder", "mocov3", "ibot", "msn"],
)
def test_the_owners_file_is_read_and_gives_a_map(tmp_path: Path, name: str, wrapped: Callable[[Any], Any]) -> None:
    state = filled(shapes_of(name))
    path = tmp_path / "weights.pth"
    torch.save(wrapped(state), path)
    backbone = load_backbone(VitConfig(name=name), path)
    torch.testing.assert_close(backbone.state_dict()["network.norm.weight"], state["norm.weight"])
    side = backbone.patch_size
    with torch.no_grad():
        features = backbone(torch.rand(1, 3, 3 * side, 2 * side))
    assert features.shape == (1, SIZES[name][0], 3, 2)
    assert features.isfinite().all()


def test_registers_become_what_timm_makes_of_them() -> None:
    shapes = owners_shapes("dinov2", 384, 1, 14, 37 * 37) | {"register_tokens": (1, 4, 384)}
    state = filled(shapes)
    network = timm.create_model("vit_small_patch14_reg4_dinov2", depth=1, num_classes=0, dynamic_img_size=True)
    wanted = timm_vit_names(dict(state), network)
    ours = from_dinov2(state)
    assert ours.keys() == wanted.keys()
    for key, value in ours.items():
        torch.testing.assert_close(value, wanted[key], msg=key)


@pytest.mark.parametrize(("timm_name", "hidden"), [("vit_small_patch16", None), ("vit_small_plus_patch16", 1536)])
def test_dinov3_becomes_what_timm_makes_of_it(timm_name: str, hidden: int | None) -> None:
    state = filled(owners_shapes("dinov3", 384, 1, 16, 0, hidden=hidden)) | {"rope_embed.periods": periods()}
    network = timm.create_model(f"{timm_name}_dinov3_qkvb", depth=1, num_classes=0, dynamic_img_size=True)
    wanted = timm_eva_names(dict(state), network)
    ours = from_dinov3(state)
    assert ours.keys() == wanted.keys()
    for key, value in ours.items():
        torch.testing.assert_close(value, wanted[key], msg=key)


def test_gated_layers_compute_what_the_owners_do() -> None:
    sizes = VitArchitecture(patch_size=4, width=12, depth=1, heads=2, mlp_ratio=8 / 3, image_size=8)
    network = Dinov2Vit(sizes, gated=True)
    state = filled(owners_shapes("dinov2", 12, 1, 4, 4, hidden=32))
    load_strictly(network, from_dinov2(state), "x")
    tokens = torch.rand(1, 5, 12)
    gate, value = (tokens @ state["blocks.0.mlp.w12.weight"].T + state["blocks.0.mlp.w12.bias"]).chunk(2, dim=-1)
    hidden = gate * torch.sigmoid(gate) * value
    wanted = hidden @ state["blocks.0.mlp.w3.weight"].T + state["blocks.0.mlp.w3.bias"]
    torch.testing.assert_close(network.blocks[0].mlp(tokens), wanted)


def test_the_scale_after_a_branch_counts() -> None:
    sizes = VitArchitecture(patch_size=4, width=12, depth=1, heads=2, image_size=8)
    state = filled(owners_shapes("dinov2", 12, 1, 4, 4))
    off = {name: torch.zeros_like(value) if "gamma" in name else value for name, value in state.items()}
    network = Dinov2Vit(sizes)
    load_strictly(network, from_dinov2(off), "x")
    tokens = torch.rand(1, 5, 12)
    torch.testing.assert_close(network.blocks[0](tokens), tokens)  # without branches a block is the identity


def test_a_network_keeps_our_own_names() -> None:
    for name in ("dinov2_vits14_reg", "dinov3_vits16plus", "msn_vits16"):
        with torch.device("meta"):
            network = build_backbone(VitConfig(name=name)).network
        assert isinstance(network, nn.Module)
        own = network.state_dict()
        assert owners_layout(BY_NAME[name], own).keys() == own.keys()


def test_rotary_positions_of_another_network_are_refused_and_rounding_is_not() -> None:
    state = {"rope_embed.periods": periods().bfloat16().float()}
    assert from_dinov3(state) == {}
    with pytest.raises(WeightsError, match="rotary positions"):
        from_dinov3({"rope_embed.periods": periods() * 2})
    with pytest.raises(WeightsError, match="rotary positions"):
        from_dinov3({"rope_embed.periods": torch.full((16,), torch.nan)})


def test_a_file_of_another_family_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(filled(owners_shapes("dino", 384, 2, 14, 37 * 37)), tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"missing: .*blocks\.0\.ls1\.gamma"):
        load_backbone(VitConfig(name="dinov2_vits14"), tmp_path / "weights.pth")


def test_satellite_images_are_normalised_in_their_own_way() -> None:
    with torch.device("meta"):
        satellite, usual = (build_backbone(VitConfig(name=f"dinov3_vitl16{end}")) for end in ("_sat", ""))
    assert satellite.mean == pytest.approx((0.430, 0.411, 0.296))
    assert satellite.std == pytest.approx((0.213, 0.156, 0.143))
    assert usual.mean == pytest.approx((0.485, 0.456, 0.406))


def test_registers_take_positions_as_their_owners_do() -> None:
    # DINOv2 with registers: bicubic to the wanted grid, antialiased, without the offset of DINO.
    network: Any = timm.create_model("vit_small_patch14_reg4_dinov2", depth=1, num_classes=0, dynamic_img_size=True)
    table = torch.rand(1, 37 * 37, 384, generator=torch.Generator().manual_seed(0))
    network.load_state_dict(network.state_dict() | {"pos_embed": table, "cls_token": torch.zeros(1, 1, 384)})
    used = network._pos_embed(torch.zeros(1, 16, 12, 384))[:, 5:]
    square = table.reshape(1, 37, 37, 384).permute(0, 3, 1, 2)
    wanted = nn.functional.interpolate(square, size=(16, 12), mode="bicubic", antialias=True)
    torch.testing.assert_close(used, wanted.flatten(2).transpose(1, 2))
