"""What a file is, in words: a model of ours or of others, weights, or none; and models of whatever origin."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from stego_cli.checkpoints.filetypes import AGAIN, FileType, identify
from stego_cli.checkpoints.native import CONFIG_KEY, Checkpoint, load_checkpoint, parse_config, read_safetensors
from stego_cli.checkpoints.plain import harmless
from stego_cli.checkpoints.released import backbone_hash, convert_content, convert_released, is_released
from stego_cli.checkpoints.safe_torch import Weights, find_weights, read_torch_file
from stego_cli.checkpoints.storages import as_float32, not_finite
from stego_cli.checkpoints.vit_sizes import in_words, vit_sizes
from stego_cli.config.backbone_file import BACKBONE_KEY
from stego_cli.config.model import ProjectionConfig, VitConfig
from stego_cli.errors import CheckpointError
from stego_cli.files import as_typed, printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from stego_cli.config.model import MethodConfig, ModelConfig, VitArchitecture

_TORCH = ("torch", "torch-legacy")
_SHOWN = 12


@dataclass(frozen=True)
class Description:
    """What a file is.

    Attributes:
        title: One line for people.
        kind: What sort of file: `model`, `released STEGO checkpoint`, `backbone weights`, or another in words.
        rows: Facts, by name, in the order to show them.
        problems: What is wrong with it; empty for a sound file.
        next_step: What to do now.
    """

    title: str
    kind: str
    rows: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    next_step: str = ""

    def __post_init__(self) -> None:
        """Make what comes out of the file fit to be shown."""
        object.__setattr__(self, "title", harmless(self.title))
        object.__setattr__(self, "rows", [(name, harmless(value)) for name, value in self.rows])
        object.__setattr__(self, "problems", [harmless(problem) for problem in self.problems])

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain values, with `sound` added, for `--json`."""
        return {
            "title": self.title,
            "kind": self.kind,
            "sound": not self.problems,
            "facts": dict(self.rows),
            "problems": list(self.problems),
            "next_step": self.next_step,
        }


def load_any(path: Path, heads: int | None = None) -> Checkpoint:
    """Load a model of ours or a released STEGO checkpoint; the content decides which, never the file's name.

    Args:
        path: The file.
        heads: Attention heads of the backbone, for released files that do not tell.

    Raises:
        CheckpointError: If the file is missing, damaged, hostile or no model.
    """
    found = identify(path)
    if found.kind == "safetensors":
        return load_checkpoint(path)
    if found.kind in _TORCH:
        return convert_released(path, heads)
    raise CheckpointError(f"`{printable(path)}` is {found.words}\n\nhint: {found.hint}")


def describe_checkpoint(path: Path, heads: int | None = None) -> Description:
    """Say what a file is, whether it is sound, and what to do next.

    Args:
        path: Any file; what is wrong with it becomes a part of the answer.
        heads: Attention heads of the backbone, for released files that do not tell.

    Raises:
        CheckpointError: Only if there is no such file or it may not be read.
    """
    found = identify(path)
    size = ("size", _bytes(path.stat().st_size))
    try:
        if found.kind == "safetensors":
            return _safetensors(path, size, heads)
        if found.kind in _TORCH:
            return _torch(path, size, heads)
    except CheckpointError as error:
        problem, _, hint = str(error).partition("\n\nhint: ")
        return Description(f"{printable(path.name)}: not usable", found.words, [size], [problem], hint)
    return _no_model(path, found, size)


def _safetensors(path: Path, size: tuple[str, str], heads: int | None) -> Description:
    """Describe a model of ours or bare tensors."""
    metadata, tensors = read_safetensors(path)
    if BACKBONE_KEY in metadata:
        return _own_backbone(path, metadata[BACKBONE_KEY], tensors, size)
    if CONFIG_KEY not in metadata:
        return _weights(path, find_weights(tensors, path), size, heads)
    checkpoint = Checkpoint(parse_config(metadata, path), {key: as_float32(value) for key, value in tensors.items()})
    kinds = sorted({str(value.dtype).removeprefix("torch.") for value in tensors.values()})
    about = checkpoint.config.about
    rows = [*_model_rows(checkpoint.config), ("stored as", ", ".join(kinds))]
    if about.stego_version:
        rows.append(("written by", f"stego {about.stego_version}"))
    problems = _value_problems(checkpoint.tensors)
    # Weights stored in half precision are no longer the ones that were hashed.
    if about.backbone_sha256 not in {"", backbone_hash(checkpoint.tensors)} and kinds == ["float32"]:
        problems.append("the backbone's weights are not those that the config names: their SHA-256 is another")
    step = "fetch or make the file again" if problems else f"stego predict IMAGES --model {as_typed(path)}"
    return Description(about.title, "model", [*rows, size], problems, step)


def _own_backbone(path: Path, built: str, tensors: Mapping[str, Tensor], size: tuple[str, str]) -> Description:
    """Describe the weights of a backbone that say themselves how their network is built."""
    try:
        config = VitConfig.model_validate_json(built)
    except ValidationError as error:
        raise CheckpointError(
            f"`{printable(path)}` does not say how its network is built: {error.errors()[0]['msg']}"
            "\n\nhint: make the file again, or use a newer stego"
        ) from error
    network = in_words(config.architecture) if config.architecture else config.name
    values = sum(tensor.numel() for tensor in tensors.values())
    rows = [
        ("network", network),
        ("tensors", f"{len(tensors)}, with {values:,} values"),
        ("SHA-256 of the weights", backbone_hash(tensors)),
        size,
    ]
    problems = _value_problems(tensors)
    step = AGAIN if problems else f"stego train FOLDER --classes N --backbone {as_typed(path)}"
    return Description(f"{printable(path.name)}: weights of a {network}", "backbone weights", rows, problems, step)


def _torch(path: Path, size: tuple[str, str], heads: int | None) -> Description:
    """Describe a released checkpoint or bare weights."""
    content = read_torch_file(path)
    if not is_released(content):
        return _weights(path, find_weights(content, path), size, heads)
    checkpoint = convert_content(content, path, heads)
    problems = _value_problems(checkpoint.tensors)
    made = [
        (name, str(content[key]))
        for name, key in (("Lightning", "pytorch-lightning_version"), ("epoch", "epoch"), ("steps", "global_step"))
        if isinstance(content.get(key), str | int)
    ]
    step = f"stego predict IMAGES --model {as_typed(path)}; `stego convert` makes a file without pickle of it"
    return Description(
        checkpoint.config.about.title,
        "released STEGO checkpoint",
        [*_model_rows(checkpoint.config), *made, size],
        problems,
        AGAIN if problems else step,
    )


def _model_rows(config: ModelConfig) -> list[tuple[str, str]]:
    """Say what a model is made of."""
    about, names = config.about, config.label_space.names
    matched = "never matched to classes" if config.cluster_to_class is None else "matched to classes"
    rows = [
        ("about", about.description),
        ("limits", about.limits),
        ("backbone", _backbone_words(config)),
        ("code", _code_words(config.method)),
        ("cluster probe", f"{config.num_clusters} clusters, {matched}"),
        ("linear probe", f"{len(names)} classes" if config.has_linear_probe else "none"),
        ("classes", f"{config.label_space.name}: {', '.join(names[:_SHOWN])}{' ...' if len(names) > _SHOWN else ''}"),
        ("works at", f"{config.resolution} pixels on the shorter side"),
        ("trained on", about.trained_on),
        *((f"score {name}", f"{100 * value:.1f} %") for name, value in about.scores.items()),
        ("licence", about.licence),
        ("source", about.source),
        ("seed", "" if about.seed is None else str(about.seed)),
        ("backbone SHA-256", about.backbone_sha256),
    ]
    return [(name, value) for name, value in rows if value]


def _code_words(method: MethodConfig) -> str:
    """Say what a method makes of the features."""
    if method.code_dim is None:
        return "the features themselves"
    if isinstance(method, ProjectionConfig):
        by = "their batch" if method.standardise == "batch" else "the training images"
        return f"{method.code_dim} dimensions by {method.kind}, of features standardised by {by}"
    return f"{method.code_dim} dimensions"


def _backbone_words(config: ModelConfig) -> str:
    """Name the backbone of a model."""
    if config.backbone.kind == "filterbank":
        return "filterbank, without weights"
    sizes = config.backbone.architecture
    name = in_words(sizes) if sizes else config.backbone.name
    return f"{name}, feature type {config.backbone.feature_type}"


def _weights(path: Path, weights: Weights, size: tuple[str, str], heads: int | None) -> Description:
    """Describe the weights of one network."""
    values = sum(tensor.numel() for tensor in weights.tensors.values())
    rows = [("tensors", f"{len(weights.tensors)}, with {values:,} values"), ("found", weights.layout)]
    if weights.dropped:
        more = f" and {len(weights.dropped) - _SHOWN} more" if len(weights.dropped) > _SHOWN else ""
        rows.append(("left out", ", ".join(weights.dropped[:_SHOWN]) + more))
    try:
        sizes = vit_sizes(weights.tensors, heads)
    except CheckpointError as error:
        reason, _, step = str(error).partition("\n\nhint: ")
        kind, title, rows = "network weights", "weights of a network", [*rows, ("network", reason)]
    else:
        names, step = _registered(path, sizes)
        kind, title = "backbone weights", f"weights of a {in_words(sizes)}"
        rows += [("network", in_words(sizes)), ("fits the backbones", ", ".join(names) or "none that is registered")]
    rows += [("SHA-256 of the weights", backbone_hash(weights.tensors)), size]
    problems = _value_problems(weights.tensors)
    return Description(
        f"{printable(path.name)}: {title}", kind, [row for row in rows if row[1]], problems, AGAIN if problems else step
    )


def _registered(path: Path, sizes: VitArchitecture) -> tuple[list[str], str]:
    """Find the registered backbones of these sizes, and say how one of them finds the file."""
    from stego_cli.backbones.registry import ROWS
    from stego_cli.catalog.locate import target

    rows = [row for row in ROWS if row.sizes == sizes]
    named = [row for row in rows if target("backbones", row.weights).name == path.name]
    if not rows:
        return [], "a backbone alone, with sizes that no registered one has; a model needs a head and probes as well"
    row = (named or rows)[0]
    return [row.name for row in rows], (
        f"a backbone alone, not a model; put it at {target('backbones', row.weights)} for `{row.name}` to find it"
    )


def _no_model(path: Path, found: FileType, size: tuple[str, str]) -> Description:
    """Describe a file that is no model."""
    arrays = _arrays(path) if found.kind == "numpy" else []
    rows = [("content", found.words), *arrays]
    if found.kind != "folder":
        rows.append(size)
    # Arrays are what they are called; everything else was taken for what it is not.
    problems = [] if arrays else [f"it is {found.words}"]
    step = f"{found.hint}; for a dataset: stego info dataset {as_typed(path)}" if found.kind == "folder" else found.hint
    return Description(f"{printable(path.name)}: not a model file", found.words, rows, problems, step)


def _arrays(path: Path) -> list[tuple[str, str]]:
    """Name the arrays of a NumPy archive without reading them."""
    if not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
    return [("arrays", ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else ""))]


def _value_problems(tensors: Mapping[str, Tensor]) -> list[str]:
    """Name tensors with values that are not finite."""
    broken = not_finite(tensors)
    return [f"values that are not finite in {', '.join(broken[:_SHOWN])}"] if broken else []


def _bytes(count: int) -> str:
    """Write a file size.

    Example:
        >>> _bytes(1_300_000)
        '1.3 MB'
    """
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"
