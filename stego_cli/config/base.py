"""The base of every config model."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Block(BaseModel):
    """A group of settings: unknown keys are errors, loaded values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
