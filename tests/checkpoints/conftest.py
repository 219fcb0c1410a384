"""Small models in the files that the research code and torch write."""

from __future__ import annotations

import sys
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def vit_shapes(width: int = 12, depth: int = 2, patch: int = 4, side: int = 3) -> Shapes:
    """Names and shapes of a plain vision transformer."""
    shapes: Shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + side * side, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for i in range(depth):
        for name, out, into in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", 4 * width, width),
            ("mlp.fc2", width, 4 * width),
        ):
            shapes |= {f"blocks.{i}.{name}.weight": (out, into), f"blocks.{i}.{name}.bias": (out,)}
        for name in ("norm1", "norm2"):
            shapes |= {f"blocks.{i}.{name}.weight": (width,), f"blocks.{i}.{name}.bias": (width,)}
    return shapes


def random_tensors(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Random tensors of the given shapes."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.fixture
def vit() -> Callable[..., dict[str, Tensor]]:
    """Make a vision transformer's tensors; see `vit_shapes` for the sizes."""
    return lambda **sizes: random_tensors(vit_shapes(**sizes))


@pytest.fixture
def meta_vit() -> Callable[..., dict[str, Tensor]]:
    """Make a vision transformer's tensors without values, for sizes that would take time."""
    return lambda **sizes: {name: torch.empty(shape, device="meta") for name, shape in vit_shapes(**sizes).items()}


@pytest.fixture
def stego_state() -> Callable[..., dict[str, Tensor]]:
    """Make the state dict of a STEGO model as the research code names it."""

    def make(
        projection: str | None = "nonlinear", code_dim: int = 5, clusters: int = 4, classes: int = 3, **sizes: int
    ) -> dict[str, Tensor]:
        width = sizes.get("width", 12)
        shapes: Shapes = {f"net.model.{name}": shape for name, shape in vit_shapes(**sizes).items()}
        layers = {None: {}, "linear": {"1.0": code_dim}}.get(
            projection, {"1.0": code_dim, "2.0": width, "2.2": code_dim}
        )
        for layer, out in layers.items():
            shapes |= {f"net.cluster{layer}.weight": (out, width, 1, 1), f"net.cluster{layer}.bias": (out,)}
        dim = code_dim if projection else width
        shapes |= {
            "train_cluster_probe.clusters": (classes, dim),
            "cluster_probe.clusters": (clusters, dim),
            "linear_probe.weight": (classes, dim, 1, 1),
            "linear_probe.bias": (classes,),
            "decoder.weight": (width, dim, 1, 1),
            "decoder.bias": (width,),
        }
        return random_tensors(shapes, seed=1)

    return make


@contextmanager
def fake_modules() -> Iterator[dict[str, type]]:
    """Make omegaconf and Lightning importable for writing, and gone again for reading."""
    names = (
        "omegaconf.dictconfig.DictConfig",
        "omegaconf.listconfig.ListConfig",
        "omegaconf.nodes.AnyNode",
        "omegaconf.base.ContainerMetadata",
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    )
    before = dict(sys.modules)
    classes = {}
    for name in names:
        module, _, short = name.rpartition(".")
        kind = type(short, (), {"__module__": module})
        for depth in range(1, module.count(".") + 2):
            part = ".".join(module.split(".")[:depth])
            sys.modules.setdefault(part, ModuleType(part))
        setattr(sys.modules[module], short, kind)
        classes[short] = kind
    try:
        yield classes
    finally:
        for name in sys.modules.keys() - before.keys():
            del sys.modules[name]


def as_omegaconf(value: Any, classes: Mapping[str, type]) -> Any:
    """Wrap plain values as a pickled omegaconf does."""
    if isinstance(value, dict):
        made = classes["DictConfig"]()
        made._content = {key: as_omegaconf(item, classes) for key, item in value.items()}
    elif isinstance(value, list):
        made = classes["ListConfig"]()
        made._content = [as_omegaconf(item, classes) for item in value]
    else:
        made = classes["AnyNode"]()
        made._val = value
    made._metadata = classes["ContainerMetadata"]()
    made._metadata.__dict__ |= {"ref_type": Any, "object_type": dict, "resolver_cache": defaultdict(dict)}
    made._parent = None
    return made


@pytest.fixture
def write_lightning() -> Callable[..., Path]:
    """Write a Lightning checkpoint around a state dict, with a config as omegaconf pickles it."""

    def write(
        path: Path,
        state: Mapping[str, Tensor],
        cfg: Mapping[str, Any],
        n_classes: int | None = 3,
        *,
        class_as_key: bool = False,
        **how: Any,
    ) -> Path:
        with fake_modules() as classes:
            callback = classes["ModelCheckpoint"] if class_as_key else "ModelCheckpoint{'monitor': 'x'}"
            content = {
                "epoch": 2,
                "global_step": 6,
                "pytorch-lightning_version": "1.4.9" if class_as_key else "1.5.10",
                "state_dict": dict(state),
                "callbacks": {callback: {"best_model_score": torch.tensor(0.5), "dirpath": "/somewhere"}},
                "optimizer_states": [{"state": {0: {"step": 6, "exp_avg": torch.ones(2)}}, "param_groups": []}],
                "lr_schedulers": [],
                "hparams_name": "kwargs",
                "hyper_parameters": {"n_classes": n_classes, "cfg": as_omegaconf(dict(cfg), classes)},
            }
            torch.save(content, path, **how)
        return path

    return write


@pytest.fixture
def torch_zip(tmp_path: Path) -> Callable[..., Path]:
    """Write a torch file around a pickle made by hand; storages by name."""

    def write(
        pickle: bytes,
        storages: Mapping[str, bytes] | None = None,
        name: str = "made.ckpt",
        compression: int = zipfile.ZIP_STORED,
        **members: bytes,
    ) -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("archive/data.pkl", pickle)
            for member, data in {"version": b"3\n", **members}.items():
                archive.writestr(f"archive/{member}", data)
            for key, data in (storages or {}).items():
                archive.writestr(f"archive/data/{key}", data)
        return path

    return write
