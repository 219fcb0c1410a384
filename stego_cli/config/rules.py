"""Rules between settings that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from stego_cli.config.fields import Conflict

if TYPE_CHECKING:
    from stego_cli.config import words


class Segmenting(Protocol):
    """Settings of a command that segments images."""

    @property
    def protocol(self) -> words.Protocol:
        """Which protocol."""
        ...

    @property
    def precision(self) -> words.Precision:
        """Arithmetic of the backbone."""
        ...

    @property
    def mirror(self) -> bool:
        """Whether the code is averaged over the image and its mirror."""
        ...

    @property
    def device(self) -> str:
        """Where the backbone runs."""
        ...


def segmenting_conflicts(config: Segmenting) -> list[Conflict]:
    """Return what would make results of the paper protocol differ from the published ones, and what cannot work."""
    conflicts = []
    if config.protocol == "paper" and config.precision not in {"auto", "fp32"}:
        rule = f"the paper protocol computes in fp32, got {config.precision}; use fp32, auto, or protocol native"
        conflicts.append(Conflict(("protocol", "precision"), rule))
    if config.protocol == "paper" and not config.mirror:
        rule = "the paper protocol always averages over the image and its mirror; use protocol native without it"
        conflicts.append(Conflict(("protocol", "mirror"), rule))
    if config.precision == "fp16" and config.device == "cpu":
        conflicts.append(Conflict(("precision", "device"), "fp16 is too slow and coarse on a CPU; use bf16 or fp32"))
    return conflicts
