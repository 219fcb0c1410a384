"""Weights load strictly, in every layout they are published in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from stego_cli.backbones.registry import backbone_names, build_backbone
from stego_cli.backbones.weights import load_backbone, load_strictly
from stego_cli.catalog.models import embedded_path
from stego_cli.config.model import FilterbankConfig, VitConfig
from stego_cli.errors import ConfigError, ShapeError, StegoError, WeightsError


def dino_state(width: int, depth: int, patch: int) -> dict[str, Tensor]:
    """A state dict with the keys and shapes of the published DINO backbone files, written down by hand."""
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, (224 // patch) ** 2 + 1, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for i in range(depth):
        shapes |= {
            f"blocks.{i}.norm1.weight": (width,),
            f"blocks.{i}.norm1.bias": (width,),
            f"blocks.{i}.attn.qkv.weight": (3 * width, width),
            f"blocks.{i}.attn.qkv.bias": (3 * width,),
            f"blocks.{i}.attn.proj.weight": (width, width),
            f"blocks.{i}.attn.proj.bias": (width,),
            f"blocks.{i}.norm2.weight": (width,),
            f"blocks.{i}.norm2.bias": (width,),
            f"blocks.{i}.mlp.fc1.weight": (4 * width, width),
            f"blocks.{i}.mlp.fc1.bias": (4 * width,),
            f"blocks.{i}.mlp.fc2.weight": (width, 4 * width),
            f"blocks.{i}.mlp.fc2.bias": (width,),
        }
    generator = torch.Generator().manual_seed(0)
    return {key: torch.randn(shape, generator=generator) * 0.02 for key, shape in shapes.items()}


@pytest.fixture(scope="module")
def small16() -> dict[str, Tensor]:
    return dino_state(width=384, depth=12, patch=16)


@pytest.mark.parametrize("layout", ["plain", "full checkpoint"])
def test_published_layouts_load(tmp_path: Path, small16: dict[str, Tensor], layout: str) -> None:
    path = tmp_path / "weights.pth"
    content = small16
    if layout == "full checkpoint":
        head = {"module.head.mlp.0.weight": torch.zeros(2, 384)}
        content = {"teacher": {f"module.backbone.{key}": value for key, value in small16.items()} | head, "epoch": 3}
    torch.save(content, path)
    backbone = load_backbone(VitConfig(name="dino_vits16"), path)
    assert not backbone.training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    torch.testing.assert_close(backbone.state_dict()["network.pos_embed"], small16["pos_embed"])
    assert backbone(torch.zeros(1, 3, 32, 48)).shape == (1, 384, 2, 3)


def test_weights_of_another_size_are_refused_by_name(tmp_path: Path, small16: dict[str, Tensor]) -> None:
    path = tmp_path / "weights.pth"
    torch.save({key: value for key, value in small16.items() if key != "norm.bias"} | {"odd": torch.zeros(1)}, path)
    with pytest.raises(WeightsError) as caught:
        load_backbone(VitConfig(name="dino_vits8"), path)
    message = str(caught.value)
    assert "1 missing: norm.bias" in message
    assert "1 unexpected: odd" in message
    assert "patch_embed.proj.weight (384, 3, 16, 16), needs (384, 3, 8, 8)" in message


def test_missing_weights_name_the_address_and_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        load_backbone(VitConfig(name="dino_vits8_300ep"))
    assert "https://dl.fbaipublicfiles.com/dino/dino_deitsmall8_300ep_pretrain" in str(caught.value)
    assert str(tmp_path / "backbones" / "dino_deitsmall8_300ep_pretrain.pth") in str(caught.value)


def test_weights_are_found_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small16: dict[str, Tensor]
) -> None:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path))
    (tmp_path / "backbones").mkdir()
    torch.save(small16, tmp_path / "backbones" / "dino_deitsmall16_pretrain.pth")
    assert load_backbone(VitConfig(name="dino_vits16")).patch_size == 16


def test_the_filterbank_takes_its_scales_from_the_embedded_model() -> None:
    backbone = load_backbone(FilterbankConfig())
    embedded = load_file(embedded_path())
    for name, value in backbone.state_dict().items():
        torch.testing.assert_close(value, embedded[f"backbone.{name}"], msg=name)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_the_filterbank_takes_its_scales_from_the_model_that_is_given(tiny_model: Path) -> None:
    backbone = load_backbone(FilterbankConfig(), tiny_model)
    given, embedded = load_file(tiny_model), load_file(embedded_path())
    state = backbone.state_dict()
    assert all(torch.equal(value, given[f"backbone.{name}"]) for name, value in state.items())
    assert not all(torch.equal(value, embedded[f"backbone.{name}"]) for name, value in state.items())


def test_a_model_with_another_backbone_is_no_source_of_scales(tmp_path: Path, small16: dict[str, Tensor]) -> None:
    torch.save(small16, tmp_path / "vit.pth")
    with pytest.raises(StegoError) as caught:
        load_backbone(FilterbankConfig(), tmp_path / "vit.pth")
    assert str(tmp_path / "vit.pth") in str(caught.value)
    with pytest.raises(StegoError, match="nowhere"):
        load_backbone(FilterbankConfig(), tmp_path / "nowhere.safetensors")


def test_missing_weights_name_the_backbone_that_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match="--backbone filterbank, which needs no download"):
        load_backbone(VitConfig(name="dino_vitb8"))


def test_missing_weights_behind_a_form_say_that_the_command_tells_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with (
        torch.device("meta"),
        pytest.raises(WeightsError, match="`stego download backbones dinov3_vits16`, which tells"),
    ):
        load_backbone(VitConfig(name="dinov3_vits16"))


def test_a_typo_in_a_name_is_answered() -> None:
    with pytest.raises(ConfigError, match="did you mean `dino_vits8`"):
        build_backbone(VitConfig(name="dino_vit_s8"))


def test_other_networks_of_timm_are_refused() -> None:
    with pytest.raises(ConfigError, match="not a vision transformer"):
        build_backbone(VitConfig(name="resnet18"))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2"])
def test_any_vision_transformer_of_timm_gives_a_map(name: str) -> None:
    backbone = build_backbone(VitConfig(name=name)).eval()
    side = backbone.patch_size
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, 3 * side, 2 * side))
    assert features.shape == (1, backbone.channels, 3, 2)


def test_every_registered_name_is_listed_once() -> None:
    names = backbone_names()
    assert len(set(names)) == len(names)
    assert "filterbank" in names


def test_a_size_that_does_not_fit_names_those_that_do() -> None:
    backbone = build_backbone(FilterbankConfig())
    with pytest.raises(ShapeError, match="width 30 is not a multiple of the patch size 8") as caught:
        backbone(torch.zeros(1, 3, 32, 30))
    assert "24 or 32" in str(caught.value)


def test_a_block_that_does_not_exist_is_refused() -> None:
    with pytest.raises(StegoError, match="block -13 does not exist"):
        build_backbone(VitConfig(name="vit_tiny_patch16_224", block=-13))


def test_loading_does_not_touch_the_module_when_it_fails() -> None:
    module = torch.nn.Linear(2, 2)
    before = module.weight.clone()
    with pytest.raises(WeightsError):
        load_strictly(module, {"weight": torch.zeros(2, 2)}, "x")
    torch.testing.assert_close(module.weight, before)
