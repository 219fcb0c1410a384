"""The registry and the words that the command line suggests are the same list, written twice for a reason."""

from __future__ import annotations

import pytest

from stego_cli.backbones.registry import ROWS, backbone_names, build_backbone
from stego_cli.catalog.locate import catalog
from stego_cli.config.model import FilterbankConfig, VitArchitecture, VitConfig
from stego_cli.config.words import BACKBONE_NAMES
from stego_cli.errors import ConfigError


def test_shells_suggest_exactly_the_registered_backbones() -> None:
    # Written twice because the registry's neighbours import torch, which completion must not wait for.
    assert list(BACKBONE_NAMES) == backbone_names()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_has_weights_in_the_catalog_and_one_way_to_be_built(row) -> None:
    assert row.weights in catalog()["backbones"]
    assert (row.sizes is None) != (row.timm_name is None)


def test_a_config_is_built_into_its_backbone() -> None:
    sizes = VitArchitecture(patch_size=4, width=12, depth=1, heads=2, image_size=8)
    vit = build_backbone(VitConfig(name="home-made", architecture=sizes))
    assert (vit.patch_size, vit.channels) == (4, 12)
    assert build_backbone(FilterbankConfig()).patch_size == 8


@pytest.mark.parametrize(
    ("name", "words"),
    [("dino_vits_8", "did you mean `dino_vits8`"), ("resnet18", "vision transformer"), ("qqqq", "stego info")],
)
def test_what_is_no_backbone_is_answered_with_what_is(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_backbone(VitConfig(name=name))
