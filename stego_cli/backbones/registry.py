"""Which backbones there are, and how one is built. A new backbone is one row here."""

from __future__ import annotations

import difflib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never

from stego_cli.config.model import BackboneConfig, FilterbankConfig, VitArchitecture, VitConfig
from stego_cli.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from stego_cli.backbones.base import Backbone


@dataclass(frozen=True)
class BackboneRow:
    """One registered vision transformer.

    Attributes:
        name: What people type.
        summary: One line for lists.
        sizes: The architecture, for networks that follow DINO's rules for positions.
        timm_name: The timm model, for all others.
        weights: Name of the weight file in the catalog.
    """

    name: str
    summary: str
    weights: str
    sizes: VitArchitecture | None = None
    timm_name: str | None = None


def _small(patch_size: int) -> VitArchitecture:
    return VitArchitecture(patch_size=patch_size, width=384, depth=12, heads=6)


def _base(patch_size: int) -> VitArchitecture:
    return VitArchitecture(patch_size=patch_size, width=768, depth=12, heads=12)


ROWS = (
    BackboneRow("dino_vits8_300ep", "DINO ViT-S/8, 300 epochs: what STEGO and HP use", "dino_vits8_300ep", _small(8)),
    BackboneRow("dino_vits8", "DINO ViT-S/8, the longer training: what PriMaPs uses", "dino_vits8", _small(8)),
    BackboneRow("dino_vits16", "DINO ViT-S/16", "dino_vits16", _small(16)),
    BackboneRow("dino_vitb8", "DINO ViT-B/8", "dino_vitb8", _base(8)),
    BackboneRow("dino_vitb16", "DINO ViT-B/16", "dino_vitb16", _base(16)),
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

            return Filterbank(config.dim)
        case _:
            assert_never(config)


def _vit_network(config: VitConfig) -> nn.Module:
    """Build the network of a vision transformer: explicit sizes, a registry row, or a timm name."""
    row = BY_NAME.get(config.name)
    sizes = config.architecture or (row.sizes if row else None)
    if sizes is not None:
        from stego_cli.backbones.vit import DinoVit

        return DinoVit(sizes)
    return _timm_network(row.timm_name if row and row.timm_name else config.name)


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
