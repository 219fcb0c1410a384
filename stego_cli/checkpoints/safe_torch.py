"""Files of `torch.save`, and the weights of networks in whatever wrapping they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from stego_cli.checkpoints.filetypes import AGAIN, identify
from stego_cli.checkpoints.pickles import ForbiddenNameError
from stego_cli.checkpoints.plain import harmless
from stego_cli.checkpoints.storages import as_float32, read_legacy, read_zip
from stego_cli.errors import CheckpointError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

# Where training programs keep the network inside a larger dictionary, the one to prefer first.
_NESTS = ("teacher", "target_encoder", "state_dict", "model", "student", "momentum_encoder", "network", "net")
# Which of several networks in one state dict is meant, the one to prefer first.
_PREFERRED = ("teacher", "base_encoder", "target_encoder", "backbone", "student", "encoder", "model")
# Wrappings in which self-supervised training leaves a projection head beside the network, and how the head is called.
_WITH_HEAD = frozenset({"teacher", "student", "target_encoder", "base_encoder", "momentum_encoder"})
_HEADS = ("head.", "fc.")
_ANCHOR = "patch_embed.proj.weight"


@dataclass(frozen=True)
class Weights:
    """The tensors of one network.

    Attributes:
        tensors: By the network's own names, such as `blocks.0.attn.qkv.weight`; floating ones as float32.
        dropped: Names of what the file holds beside them, such as a projection head or an optimiser.
        layout: How they were wrapped: the nesting and the prefix, or nothing.
    """

    tensors: dict[str, Tensor]
    dropped: tuple[str, ...] = ()
    layout: str = ""


def read_torch_file(path: Path) -> Any:
    """Read a file of `torch.save`, of any version, without executing or importing anything that it names.

    Tensors come to the CPU wherever they were; classes of configs and callbacks become `StandIn` and `Name`.

    Raises:
        CheckpointError: If the file names anything else (which is said), is damaged, or is no such file.
    """
    found = identify(path)
    readers = {"torch": read_zip, "torch-legacy": read_legacy}
    if found.kind not in readers:
        raise CheckpointError(f"`{printable(path)}` is {found.words}\n\nhint: {found.hint or 'give a torch file'}")
    try:
        return readers[found.kind](path)
    except ForbiddenNameError as error:
        raise CheckpointError(
            f"`{printable(path)}` wants to call or load `{harmless(error)}`, which no model needs; "
            "it was refused, and nothing in the file was executed\n\n"
            "hint: do not open it with other tools; if you trust its makers, ask for safetensors or a plain state dict"
        ) from error
    except Exception as error:  # a malformed file can raise anything; it is never more than data
        raise CheckpointError(
            f"`{printable(path)}` is damaged or not made by torch: {harmless(_reason(error))}\n\nhint: {AGAIN}"
        ) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the weights of one network from a `.safetensors`, `.pth` or `.ckpt` file; see `read_weights`.

    Raises:
        CheckpointError: If the file is hostile or damaged, or holds no weights.
    """
    return read_weights(path).tensors


def read_weights(path: Path) -> Weights:
    """Read the weights of one network, and say what else the file holds.

    Dictionaries such as `teacher` or `state_dict` are opened and prefixes such as `module.backbone.` removed, so that
    the names are the network's own. Everything beside the network, and the projection head where the wrapping is one
    of self-supervised training, is left out and named in `dropped`; a plain state dict is returned whole.

    Raises:
        CheckpointError: If the file is hostile or damaged, or holds no weights.
    """
    from stego_cli.checkpoints.native import read_safetensors

    if identify(path).kind == "safetensors":
        values: Any = read_safetensors(path)[1]
    else:
        values = read_torch_file(path)
    return find_weights(values, path)


def find_weights(values: Any, path: Path) -> Weights:
    """Find the weights of one network in the content of a file; see `read_weights`.

    Raises:
        CheckpointError: If there are none.
    """
    inner, nests, dropped = _open_nests(values)
    tensors = {key: value for key, value in inner.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors:
        keys = ", ".join(f"`{key}`" for key in list(values)[:8]) if isinstance(values, dict) else type(values).__name__
        raise CheckpointError(
            f"`{printable(path)}` holds no network weights; at the top it has: {harmless(keys)}\n\n"
            "hint: give the file of a backbone or of a whole model"
        )
    dropped += [_full_name(nests, str(key)) for key in inner if key not in tensors]
    return _strip(tensors, nests, dropped)


def _reason(error: Exception) -> str:
    """Say what went wrong, in the words of whoever noticed it."""
    if isinstance(error, KeyError):
        return f"its part {error} is missing"
    return str(error) or type(error).__name__


def _open_nests(values: Any) -> tuple[Mapping[Any, Any], list[str], list[str]]:
    """Go down to the network's dictionary; return it, the way there, and what was left aside."""
    nests: list[str] = []
    dropped: list[str] = []
    while isinstance(values, dict) and len(nests) < 3:
        nest = next((key for key in _NESTS if isinstance(values.get(key), dict)), None)
        if nest is None:
            break
        dropped += [_full_name(nests, str(key)) for key in values if key != nest]
        nests.append(nest)
        values = values[nest]
    return (values if isinstance(values, dict) else {}), nests, dropped


def _strip(tensors: dict[str, Tensor], nests: list[str], dropped: list[str]) -> Weights:
    """Remove the common prefix and, where the wrapping has one, the projection head."""
    prefix = _prefix(tensors)
    owners = _WITH_HEAD & {*nests, *prefix.split(".")}
    kept: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = key.removeprefix(prefix)
        if key.startswith(prefix) and not (owners and name.startswith(_HEADS)):
            kept[name] = as_float32(tensor)
        else:
            dropped.append(_full_name(nests, key))
    words = [f"under `{nest}`" for nest in nests] + ([f"prefix `{prefix}`"] if prefix else [])
    return Weights(kept, tuple(dropped), ", ".join(words))


def _prefix(names: Iterable[str]) -> str:
    """Return what stands before the names of the vision transformer that is meant; nothing if there is none."""
    names = list(names)
    found = {name.removesuffix(_ANCHOR) for name in names if name == _ANCHOR or name.endswith("." + _ANCHOR)}
    if not found:
        return "module." if all(name.startswith("module.") for name in names) else ""
    return min(found, key=lambda prefix: (_rank(prefix), prefix))


def _rank(prefix: str) -> int:
    """Return how early a prefix comes among the networks of one file; none at all comes first."""
    parts = prefix.split(".")
    ranks = [_PREFERRED.index(part) for part in parts if part in _PREFERRED]
    return -1 if not prefix else min(ranks, default=len(_PREFERRED))


def _full_name(nests: list[str], key: str) -> str:
    return ".".join([*nests, key])
