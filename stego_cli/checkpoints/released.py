"""Checkpoints of the STEGO research code (Hamilton et al., ICLR 2022) and of its kin, turned into ours."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
from torch import Tensor

from stego_cli import __version__
from stego_cli.checkpoints.native import Checkpoint
from stego_cli.checkpoints.plain import harmless, to_plain
from stego_cli.checkpoints.safe_torch import read_torch_file
from stego_cli.checkpoints.storages import as_float32
from stego_cli.checkpoints.vit_sizes import in_words, vit_config, vit_sizes
from stego_cli.config.model import About, DinoConfig, LabelSpace, MethodConfig, ModelConfig, StegoConfig
from stego_cli.config.words import FeatureType
from stego_cli.errors import CheckpointError, ConfigError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stego_cli.config.model import VitArchitecture

# Their names for parts of the model, and ours.
_MOVES = {
    "net.model.": "backbone.",
    "net.cluster1.0.": "head.linear.",
    "net.cluster2.0.": "head.hidden.",
    "net.cluster2.2.": "head.output.",
    "cluster_probe.clusters": "cluster_probe.centroids",
    "linear_probe.": "linear_probe.",
}
# A second cluster probe that nothing reads, and the layer of a loss that only training has.
_LEFT_OUT = ("train_cluster_probe.", "decoder.")
_SIGN = "cluster_probe.clusters"
_EVALUATED_AT = 320  # shorter side in pixels that the reference scores at, whatever it trained at
_LICENCE = "code MIT; weights not separately stated; contain Apache-2.0 DINO weights"
_SHOWN = 6


def convert_released(path: Path, heads: int | None = None, label_space: LabelSpace | None = None) -> Checkpoint:
    """Read a released STEGO checkpoint as one of ours; nothing in it is executed.

    Sizes come from the tensors wherever they show there, so that files with an older config, or with none, load too.

    Args:
        path: The Lightning `.ckpt` file, or a bare state dict of the same model.
        heads: Attention heads of the backbone, if the file does not say; by default those of its `model_type`, else
            the usual number for the backbone's width.
        label_space: Names and colours of the classes; by default those of the data set that the file names, else
            `class 0`, `class 1` ...

    Raises:
        CheckpointError: If the file is hostile, damaged or of another model; tensors that are missing or not known are
            named.
    """
    return convert_content(read_torch_file(path), path, heads, label_space)


def convert_content(
    content: Any, path: Path, heads: int | None = None, label_space: LabelSpace | None = None
) -> Checkpoint:
    """Do what `convert_released` does with what was read from `path` already.

    Raises:
        CheckpointError: If the content is not that of a STEGO model, or incomplete.
    """
    try:
        state = _state(content)
        hyper = to_plain(content.get("hyper_parameters")) if "hyper_parameters" in content else {}
        return _convert(state, hyper if isinstance(hyper, dict) else {}, path.name, heads, label_space)
    except CheckpointError as error:
        raise CheckpointError(f"`{printable(path)}`: {harmless(error)}") from error


def is_released(content: Any) -> bool:
    """Tell whether the content of a torch file is a STEGO model."""
    try:
        return bool(_state(content))
    except CheckpointError:
        return False


def backbone_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a backbone's weights, or nothing if it has none.

    It covers sorted names, shapes and values as float32, so it is the same for a checkpoint and for a file of bare
    weights, in whatever order and precision they are stored, as long as the values are equal.

    Args:
        tensors: Those of a checkpoint, of which the ones named `backbone.` count, or bare weights.
    """
    own = {key.removeprefix("backbone."): value for key, value in tensors.items() if key.startswith("backbone.")}
    weights = own or ({} if "cluster_probe.centroids" in tensors else tensors)
    if not weights:
        return ""
    digest = hashlib.sha256()
    for key in sorted(weights):
        values = as_float32(weights[key].detach()).cpu().contiguous().numpy()
        digest.update(f"{key}{list(values.shape)}".encode())
        digest.update(np.ascontiguousarray(values, dtype="<f4").tobytes())
    return digest.hexdigest()


def _state(content: Any) -> dict[str, Tensor]:
    """Find the state dict of a STEGO model."""
    inner = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(inner, dict) or _SIGN not in inner:
        raise CheckpointError(
            f"no STEGO checkpoint: it has no `{_SIGN}`\n\n"
            "hint: if it holds the weights of a backbone, give it as such; models of other methods cannot be read"
        )
    return {str(key): value for key, value in inner.items() if isinstance(value, Tensor)}


def _convert(
    state: Mapping[str, Tensor],
    hyper: Mapping[str, Any],
    source: str,
    heads: int | None,
    label_space: LabelSpace | None,
) -> Checkpoint:
    """Turn the state dict and the hyper-parameters into config and tensors."""
    inner = hyper.get("cfg", hyper)
    cfg: dict[str, Any] = inner if isinstance(inner, dict) else {}
    tensors = _rename(state)
    backbone = {key.removeprefix("backbone."): value for key, value in tensors.items() if key.startswith("backbone.")}
    sizes = vit_sizes(backbone, heads, _text(cfg, "model_type"))
    method = _method(tensors, cfg)
    clusters = _rows(tensors, "cluster_probe.centroids", 2)
    classes = _classes(tensors, hyper) or clusters
    config = ModelConfig(
        backbone=vit_config(sizes, _feature_type(cfg)),
        method=method,
        num_clusters=clusters,
        label_space=label_space or _label_space(_text(cfg, "dataset_name"), classes),
        has_linear_probe="linear_probe.weight" in tensors,
        resolution=_EVALUATED_AT,
        about=_about(sizes, method, cfg, source, backbone_hash(backbone)),
    )
    return Checkpoint(config, tensors)


def _rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give every tensor our name; refuse names that mean nothing here."""
    tensors: dict[str, Tensor] = {}
    unknown = []
    for key, value in state.items():
        old = next((old for old in _MOVES if key.startswith(old)), None)
        if old is not None:
            tensors[_MOVES[old] + key.removeprefix(old)] = as_float32(value)
        elif not key.startswith(_LEFT_OUT):
            unknown.append(key)
    if unknown:
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        raise CheckpointError(
            f"{len(unknown)} tensors have no place in a STEGO model: {', '.join(unknown[:_SHOWN])}{more}\n\n"
            "hint: the file may come from a variant of the research code that this tool does not know"
        )
    weight = tensors.get("linear_probe.weight")
    if weight is not None and weight.ndim == 4:
        tensors["linear_probe.weight"] = weight.flatten(1)  # a 1x1 convolution (n, D, 1, 1) -> (n, D)
    return tensors


def _method(tensors: Mapping[str, Tensor], cfg: Mapping[str, Any]) -> MethodConfig:
    """Tell from its tensors which projection the model has: none, a linear one, or also a two-layer one."""
    own = {key for key in tensors if key.startswith("head.")}
    if not own:
        return DinoConfig()
    projection = "linear" if all(key.startswith("head.linear.") for key in own) else "nonlinear"
    layers = ("linear",) if projection == "linear" else ("linear", "hidden", "output")
    if missing := {f"head.{layer}.{part}" for layer in layers for part in ("weight", "bias")} - own:
        theirs = {new: old for old, new in _MOVES.items()}
        names = sorted(theirs[key[: key.rindex(".") + 1]] + key.rpartition(".")[2] for key in missing)
        raise CheckpointError(
            f"the head lacks {', '.join(names)}\n\nhint: the file is incomplete; fetch or copy it again"
        )
    return StegoConfig(
        code_dim=_rows(tensors, "head.linear.weight", 4),
        projection=cast("Any", projection),
        dropout=0.0 if cfg.get("dropout") is False else 0.1,
    )


def _rows(tensors: Mapping[str, Tensor], key: str, dimensions: int) -> int:
    """Return how many rows a tensor has: clusters, classes or channels of the code."""
    shape = tuple(tensors[key].shape)
    if len(shape) != dimensions or 0 in shape:
        raise CheckpointError(
            f"what becomes `{key}` has the shape {shape}; {dimensions} dimensions are needed\n\n"
            "hint: the file may come from a variant of the research code that this tool does not know"
        )
    return shape[0]


def _classes(tensors: Mapping[str, Tensor], hyper: Mapping[str, Any]) -> int | None:
    """Return the number of classes, if the file tells; its config must agree with its linear probe."""
    stated = hyper.get("n_classes")
    stated = stated if type(stated) is int and stated > 0 else None
    shown = _rows(tensors, "linear_probe.weight", 2) if "linear_probe.weight" in tensors else None
    if stated and shown and stated != shown:
        raise CheckpointError(
            f"the config says {stated} classes, the linear probe has {shown}\n\nhint: the file was put together wrongly"
        )
    return shown or stated


def _feature_type(cfg: Mapping[str, Any]) -> FeatureType:
    """Return which features the head was trained on; the research code calls keys `KK`."""
    found = cfg.get("dino_feat_type") or "feat"
    if found not in get_args(FeatureType):
        raise CheckpointError(
            f"its features are of the type `{found}`; known are {', '.join(get_args(FeatureType))}\n\n"
            "hint: this variant of the research code cannot be read"
        )
    return cast("FeatureType", found)


def _label_space(dataset: str | None, classes: int) -> LabelSpace:
    """Return the classes of the data set that the file names, if they are known and as many."""
    from stego_cli.data.labels import anonymous_label_space, load_label_space

    try:
        space = load_label_space(dataset or "")
    except ConfigError:
        return anonymous_label_space(classes, "class")
    return space if len(space) == classes else anonymous_label_space(classes, "class")


def _about(sizes: VitArchitecture, method: MethodConfig, cfg: Mapping[str, Any], source: str, sha256: str) -> About:
    """Say what the model is and where it comes from."""
    dataset = _text(cfg, "dataset_name")
    crops = _text(cfg, "crop_type")
    name = f"STEGO with {method.code_dim} code dimensions" if isinstance(method, StegoConfig) else "DINO baseline"
    return About(
        title=f"{name} on {in_words(sizes)}" + (f", {dataset}" if dataset else ""),
        description="Converted from a checkpoint of the STEGO research code (Hamilton et al., ICLR 2022)."
        + ("" if cfg else " The file carries no config: feature type `feat` is assumed."),
        trained_on=(dataset or "") + (f", crops: {crops}" if dataset and crops else ""),
        licence=_LICENCE,
        source=printable(source),
        stego_version=__version__,
        backbone_sha256=sha256,
    )


def _text(cfg: Mapping[str, Any], key: str) -> str | None:
    """Return a config value if it is text."""
    value = cfg.get(key)
    return value if isinstance(value, str) else None
