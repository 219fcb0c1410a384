"""A file in place of a backbone's name."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from stego_cli.config.backbone_file import BACKBONE_KEY, MODEL_KEY
from stego_cli.config.features import FeaturesConfig
from stego_cli.config.load import load_config
from stego_cli.config.model import VitConfig
from stego_cli.errors import ConfigError

SIZES = {"patch_size": 16, "width": 64, "depth": 2, "heads": 2}


def written(path: Path, metadata: dict[str, str]) -> str:
    header = json.dumps({"__metadata__": metadata}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return str(path)


@pytest.mark.parametrize("key", [BACKBONE_KEY, MODEL_KEY])
def test_a_file_says_how_its_network_is_built(tmp_path: Path, key: str) -> None:
    backbone = {"kind": "vit", "name": "mine", "architecture": SIZES}
    content = backbone if key == BACKBONE_KEY else {"backbone": backbone}
    name = written(tmp_path / "mine.safetensors", {key: json.dumps(content)})
    config = load_config(FeaturesConfig, options={"backbone": name})
    assert isinstance(config.backbone, VitConfig)
    assert config.backbone.architecture is not None
    assert config.backbone.architecture.patch_size == 16
    assert config.backbone.file == Path(name)
    assert name not in config.model_dump_json()


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 8, struct.pack("<Q", 2) + b"{}", struct.pack("<Q", 4) + b"[[[[", struct.pack("<Q", 2**62) + b"{}"],
)
def test_other_files_are_refused_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match="does not say which network"):
        load_config(FeaturesConfig, options={"backbone": str(tmp_path / "odd.safetensors")})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(FeaturesConfig, options={"backbone": str(tmp_path / "none.safetensors")})


def test_a_model_without_a_network_is_told_apart(tmp_path: Path) -> None:
    name = written(tmp_path / "fit.safetensors", {MODEL_KEY: json.dumps({"backbone": {"kind": "filterbank"}})})
    with pytest.raises(ConfigError, match="use --backbone filterbank"):
        load_config(FeaturesConfig, options={"backbone": name})
