"""From the names that the owners of a network give its tensors to ours, and nothing left over unnoticed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from stego_cli.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

# What training needs and features do not: stand-ins for hidden patches, MAE's decoder, and a norm of DINOv3 for crops.
_ONLY_FOR_TRAINING = ("mask_token", "masked_embed", "decoder_", "local_cls_norm.")
# Rotary positions are computed, not loaded; this says whether the file was made with the same ones. It may hold them
# in half precision.
_ROPE_BASE, _ROPE_TOLERANCE = 100.0, 0.01


def from_dino(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a network with DINO's names (DINO, MAE, MoCo-v3, iBOT, MSN), without what only trains."""
    return {name: value for name, value in tensors.items() if not name.startswith(_ONLY_FOR_TRAINING)}


def from_dinov2(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of DINOv2, with or without registers.

    The registers have no position. The class token does, and here its position is a part of it.
    """
    found = from_dino({_gated(name): value for name, value in tensors.items()})
    if "register_tokens" in found and {"cls_token", "pos_embed"} <= found.keys():
        table = found["pos_embed"]
        found["reg_token"] = found.pop("register_tokens")
        found["cls_token"] = found["cls_token"] + table[:, :1]
        found["pos_embed"] = table[:, 1:]
    return found


def from_dinov3(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of DINOv3: registers, scales, gated layers, and the biases of queries and values.

    Raises:
        WeightsError: If it was trained with other rotary positions than those that are computed here.
    """
    found: dict[str, Tensor] = {}
    for name, value in from_dino(tensors).items():
        if name == "rope_embed.periods":
            _check_periods(value)
        elif name.endswith(".attn.qkv.bias"):
            query, _, values = value.chunk(3)  # keys have none: the owner's mask makes it zero
            found[name.replace("qkv.bias", "q_bias")] = query
            found[name.replace("qkv.bias", "v_bias")] = values
        elif not name.endswith(".attn.qkv.bias_mask"):
            found[_dinov3_name(name)] = value
    return found


def _gated(name: str) -> str:
    return re.sub(r"^(blocks\.\d+\.mlp)\.w3\.", r"\1.fc2.", re.sub(r"^(blocks\.\d+\.mlp)\.w12\.", r"\1.fc1.", name))


def _dinov3_name(name: str) -> str:
    name = re.sub(r"^(blocks\.\d+)\.ls([12])\.gamma$", r"\1.gamma_\2", name)
    for theirs, ours in (("w1", "fc1_g"), ("w2", "fc1_x"), ("w3", "fc2")):
        name = re.sub(rf"^(blocks\.\d+\.mlp)\.{theirs}\.", rf"\1.{ours}.", name)
    return "reg_token" if name == "storage_tokens" else name


def _check_periods(periods: Tensor) -> None:
    count = periods.numel()
    usual = _ROPE_BASE ** (torch.arange(count) / count)
    if not torch.allclose(periods.flatten().float().cpu(), usual, rtol=_ROPE_TOLERANCE, atol=0):
        raise WeightsError(
            f"the weights were trained with rotary positions of other periods than {usual[0]:.3g} to {usual[-1]:.3g}"
            "\n\nhint: this is no published DINOv3 network; its features would be wrong"
        )
