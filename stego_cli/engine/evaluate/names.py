"""What was found about a model's clusters, written into the model, so that `predict` shows names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from stego_cli.catalog.models import embedded_path
from stego_cli.checkpoints.describe import load_any
from stego_cli.checkpoints.filetypes import identify
from stego_cli.checkpoints.native import Checkpoint, read_safetensors, save_checkpoint
from stego_cli.config.model import ModelConfig
from stego_cli.errors import OutputError, StegoError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from stego_cli.config.model import LabelSpace
    from stego_cli.progress import Report

_SUFFIX = ".safetensors"


def target_for_names(source: Path, out: Path | None, *, overwrite: bool) -> Path:
    """Return the file that names go into, before anything long starts.

    Args:
        source: The checkpoint.
        out: The file that was asked for; None means the checkpoint itself.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        OutputError: If something would be replaced that may not be.
    """
    if out is None:
        if identify(source).kind != "safetensors":
            raise OutputError(
                f"`{printable(source)}` is a released file, which is never changed\n\n"
                f"hint: name a copy, such as --out {printable(source.with_suffix(_SUFFIX).name)}"
            )
        if source.samefile(embedded_path()):
            raise OutputError(
                "the embedded model is never changed\n\nhint: name a copy, such as --out named.safetensors"
            )
        if not overwrite:
            raise OutputError(
                f"names would go into `{printable(source)}` itself\n\n"
                "hint: add --overwrite if they may, or name a copy with --out"
            )
        return source
    if out.is_dir() or out.suffix != _SUFFIX:
        better = printable(out / "named.safetensors" if out.is_dir() else out.with_suffix(_SUFFIX))
        raise OutputError(f"`{printable(out)}` is no name of a model file\n\nhint: use --out {better}")
    if out.exists() and not overwrite:
        raise OutputError(f"`{printable(out)}` exists\n\nhint: add --overwrite, or choose another file with --out")
    return out


def check_names_fit(config: ModelConfig, space: LabelSpace, *, in_place: bool) -> None:
    """See that a model loses nothing when it gets the names of these classes; a copy may.

    Raises:
        StegoError: If it would lose its linear probe; names both numbers of classes.
    """
    if in_place and (lost := _lost(config, space)):
        raise StegoError(
            f"with the names of {len(space)} classes (`{printable(space.name)}`) the model would lose {lost}\n\n"
            "hint: write them into a copy with --out FILE"
        )


def save_names(
    source: Path,
    target: Path,
    space: LabelSpace,
    cluster_to_class: Sequence[int],
    scores: Mapping[str, float],
    report: Report,
) -> None:
    """Write a copy of a model whose clusters have the classes that were found for them.

    The linear probe goes along if its classes are these; a copy for other classes is without.

    Args:
        source: The model.
        target: The file to write; may be `source`.
        space: The classes.
        cluster_to_class: Class of each cluster, -1 for none.
        scores: Added to those that the model carries.
        report: Told about what the copy does not have.

    Raises:
        OutputError: If the file cannot be written.
    """
    checkpoint = load_any(source)
    config, tensors = checkpoint.config, checkpoint.tensors
    lost = _lost(config, space)
    if lost:
        report.note(f"{printable(target)} is without {lost}")
        tensors = {key: value for key, value in tensors.items() if not key.startswith("linear_probe.")}
    about = config.about.model_copy(update={"scores": {**config.about.scores, **scores}})
    changes = {
        "label_space": space.model_dump(),
        "cluster_to_class": tuple(cluster_to_class),
        "has_linear_probe": config.has_linear_probe and not lost,
        "about": about.model_dump(),
    }
    named = ModelConfig.model_validate({**config.model_dump(), **changes})
    save_checkpoint(Checkpoint(named, tensors), target, _stored_type(source))


def _lost(config: ModelConfig, space: LabelSpace) -> str:
    """Say what of a model speaks of other classes; nothing if all fits."""
    own = config.label_space
    if not config.has_linear_probe or own.names == space.names:
        return ""
    return f"its linear probe, which knows {len(own)} other classes (`{printable(own.name)}`)"


def _stored_type(path: Path) -> torch.dtype | None:
    """Return the half precision that a file of ours is stored in, None for any other."""
    if identify(path).kind != "safetensors":
        return None
    kinds = {tensor.dtype for tensor in read_safetensors(path)[1].values() if tensor.is_floating_point()}
    return kinds.pop() if len(kinds) == 1 and kinds <= {torch.float16, torch.bfloat16} else None
