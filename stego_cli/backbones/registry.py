"""Which backbones there are, and how one is built. A new backbone is one row here."""

from __future__ import annotations

import difflib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, assert_never, cast

from stego_cli.config.model import BackboneConfig, FilterbankConfig, VitArchitecture, VitConfig
from stego_cli.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from stego_cli.backbones.base import Backbone


Family = Literal["dino", "msn", "dinov2", "dinov3"]


@dataclass(frozen=True)
class BackboneRow:
    """One registered vision transformer.

    Attributes:
        name: What people type.
        summary: One line for lists.
        weights: Name of the weight file in the catalog.
        sizes: The architecture, for networks that follow DINO's rules for positions, or nearly so.
        timm_name: The timm model, for all others.
        family: What else there is to the network, and how its owners name its tensors.
        gated: Whether the two layers of each block are gated ones; only with `sizes`.
    """

    name: str
    summary: str
    weights: str
    sizes: VitArchitecture | None = None
    timm_name: str | None = None
    family: Family = "dino"
    gated: bool = False


def _small(patch_size: int, image_size: int = 224, heads: int = 6) -> VitArchitecture:
    return VitArchitecture(patch_size=patch_size, width=384, depth=12, heads=heads, image_size=image_size)


def _base(patch_size: int, image_size: int = 224) -> VitArchitecture:
    return VitArchitecture(patch_size=patch_size, width=768, depth=12, heads=12, image_size=image_size)


def _large(patch_size: int, image_size: int = 224) -> VitArchitecture:
    return VitArchitecture(patch_size=patch_size, width=1024, depth=24, heads=16, image_size=image_size)


def _dinov2(size: str, sizes: VitArchitecture, timm_size: str, *, gated: bool = False) -> tuple[BackboneRow, ...]:
    """Return the rows of one size, without and with registers; these have positions as timm samples them."""
    plain, timm_name = f"dinov2_vit{size.lower()}14", f"vit_{timm_size}_patch14_reg4_dinov2.lvd142m"
    return (
        BackboneRow(plain, f"DINOv2 ViT-{size}/14", plain, sizes, family="dinov2", gated=gated),
        BackboneRow(
            f"{plain}_reg", f"DINOv2 ViT-{size}/14, 4 registers", f"{plain}_reg", timm_name=timm_name, family="dinov2"
        ),
    )


def _dinov3(name: str, size: str, timm_name: str) -> BackboneRow:
    return BackboneRow(name, f"DINOv3 ViT-{size}", name, timm_name=timm_name, family="dinov3")


# Heads, and what the files hold, are as in the owners' code. MAE and MoCo-v3 have no rule for other resolutions than
# 224 of their own; DINO's is what CAUSE takes for both.
_GIANT2 = VitArchitecture(patch_size=14, width=1536, depth=40, heads=24, mlp_ratio=8 / 3, image_size=518)
_HUGE = VitArchitecture(patch_size=14, width=1280, depth=32, heads=16)
ROWS = (
    BackboneRow("dino_vits8_300ep", "DINO ViT-S/8, 300 epochs: what STEGO and HP use", "dino_vits8_300ep", _small(8)),
    BackboneRow("dino_vits8", "DINO ViT-S/8, the longer training: what PriMaPs uses", "dino_vits8", _small(8)),
    BackboneRow("dino_vits16", "DINO ViT-S/16", "dino_vits16", _small(16)),
    BackboneRow("dino_vitb8", "DINO ViT-B/8", "dino_vitb8", _base(8)),
    BackboneRow("dino_vitb16", "DINO ViT-B/16", "dino_vitb16", _base(16)),
    *_dinov2("S", _small(14, 518), "small"),
    *_dinov2("B", _base(14, 518), "base"),
    *_dinov2("L", _large(14, 518), "large"),
    *_dinov2("g", _GIANT2, "giant", gated=True),
    # The variants of timm that keep the biases; the largest network has none.
    _dinov3("dinov3_vits16", "S/16", "vit_small_patch16_dinov3_qkvb.lvd1689m"),
    _dinov3("dinov3_vits16plus", "S+/16", "vit_small_plus_patch16_dinov3_qkvb.lvd1689m"),
    _dinov3("dinov3_vitb16", "B/16", "vit_base_patch16_dinov3_qkvb.lvd1689m"),
    _dinov3("dinov3_vitl16", "L/16", "vit_large_patch16_dinov3_qkvb.lvd1689m"),
    _dinov3("dinov3_vitl16_sat", "L/16, satellite images", "vit_large_patch16_dinov3_qkvb.sat493m"),
    _dinov3("dinov3_vith16plus", "H+/16", "vit_huge_plus_patch16_dinov3_qkvb.lvd1689m"),
    _dinov3("dinov3_vit7b16", "7B/16", "vit_7b_patch16_dinov3.lvd1689m"),
    _dinov3("dinov3_vit7b16_sat", "7B/16, satellite images", "vit_7b_patch16_dinov3.sat493m"),
    BackboneRow("mae_vitb16", "MAE ViT-B/16", "mae_vitb16", _base(16)),
    BackboneRow("mae_vitl16", "MAE ViT-L/16", "mae_vitl16", _large(16)),
    BackboneRow("mae_vith14", "MAE ViT-H/14", "mae_vith14", _HUGE),
    BackboneRow("mocov3_vits16", "MoCo-v3 ViT-S/16, with 12 heads", "mocov3_vits16", _small(16, heads=12)),
    BackboneRow("mocov3_vitb16", "MoCo-v3 ViT-B/16", "mocov3_vitb16", _base(16)),
    BackboneRow("ibot_vits16", "iBOT ViT-S/16", "ibot_vits16", _small(16)),
    BackboneRow("ibot_vitb16", "iBOT ViT-B/16", "ibot_vitb16", _base(16)),
    BackboneRow("ibot_vitb16_rand", "iBOT ViT-B/16, random masks", "ibot_vitb16_rand", _base(16)),
    BackboneRow("ibot_vitl16", "iBOT ViT-L/16", "ibot_vitl16", _large(16)),
    BackboneRow("ibot_vitl16_rand", "iBOT ViT-L/16, random masks", "ibot_vitl16_rand", _large(16)),
    BackboneRow("ibot_vitb16_22k", "iBOT ViT-B/16, ImageNet-22K", "ibot_vitb16_22k", _base(16)),
    BackboneRow("ibot_vitl16_22k", "iBOT ViT-L/16, ImageNet-22K", "ibot_vitl16_22k", _large(16)),
    BackboneRow("msn_vits16", "MSN ViT-S/16", "msn_vits16", _small(16), family="msn"),
    BackboneRow("msn_vitb16", "MSN ViT-B/16", "msn_vitb16", _base(16), family="msn"),
    BackboneRow("msn_vitl16", "MSN ViT-L/16", "msn_vitl16", _large(16), family="msn"),
    BackboneRow("msn_vitb4", "MSN ViT-B/4", "msn_vitb4", _base(4), family="msn"),
    BackboneRow("msn_vitl7", "MSN ViT-L/7", "msn_vitl7", _large(7), family="msn"),
)
BY_NAME = {row.name: row for row in ROWS}


def backbone_names() -> list[str]:
    """Return the names of all registered backbones, those without weights last."""
    return [*BY_NAME, "filterbank"]


def build_backbone(config: BackboneConfig) -> Backbone:
    """Build the backbone that `config` describes, without weights.

    Raises:
        ConfigError: If the name is neither registered nor a vision transformer of timm; names near ones.
    """
    match config:
        case VitConfig():
            from stego_cli.backbones.vit import VitBackbone

            return VitBackbone(_vit_network(config), feature_type=config.feature_type, block=config.block)
        case FilterbankConfig():
            from stego_cli.backbones.filterbank import Filterbank

            return Filterbank()
        case _:
            assert_never(config)


def _vit_network(config: VitConfig) -> nn.Module:
    """Build the network of a vision transformer: explicit sizes, a registry row, or a timm name."""
    row = BY_NAME.get(config.name)
    if config.architecture is not None:
        row = BackboneRow(config.name, "", "", config.architecture)
    if row is None or row.timm_name:
        return _timm_network(row.timm_name if row and row.timm_name else config.name)
    from stego_cli.backbones.family import Dinov2Vit, MsnVit
    from stego_cli.backbones.vit import DinoVit

    sizes = cast("VitArchitecture", row.sizes)
    if row.family == "dinov2":
        return Dinov2Vit(sizes, gated=row.gated)
    return MsnVit(sizes) if row.family == "msn" else DinoVit(sizes)


def _timm_network(name: str) -> nn.Module:
    """Build any vision transformer of timm by its name."""
    import timm
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    if not timm.is_model(name.split(".", maxsplit=1)[0]):
        near = difflib.get_close_matches(name, [*backbone_names(), *timm.list_models("*vit*")], n=3)
        hint = f"did you mean {' or '.join(f'`{other}`' for other in near)}?" if near else "`stego info` lists them"
        raise ConfigError(f"no backbone is called `{name}`\n\nhint: {hint}")
    network: Any = None
    with suppress(TypeError, RuntimeError):  # other families do not know the option for any image size
        network = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
    if not isinstance(network, VisionTransformer | Eva):
        raise ConfigError(
            f"`{name}` of timm is not a vision transformer that takes images of any size\n\n"
            f"hint: use one of {', '.join(backbone_names())}, or any `vit_*` of timm"
        )
    return network
