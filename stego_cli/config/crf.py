"""Settings of the dense conditional random field."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from stego_cli.config.base import Block

Strength = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CrfParameters(Block):
    """Strengths and reaches of the two kernels; the defaults are those of the STEGO reference."""

    iterations: PositiveInt = Field(10, description="Rounds of mean-field inference.")
    gaussian_weight: Strength = Field(3.0, description="Strength of the kernel on position alone.")
    gaussian_xy: Strength = Field(1.0, description="Reach of that kernel, in pixels.")
    bilateral_weight: Strength = Field(4.0, description="Strength of the kernel on position and colour.")
    bilateral_xy: Strength = Field(67.0, description="Reach of that kernel in position, in pixels.")
    bilateral_rgb: Strength = Field(3.0, description="Reach of that kernel in colour, in levels of 0 to 255.")
    implementation: Literal["auto", "fast", "torch", "reference"] = Field(
        "auto",
        description="What computes it: our own for the CPU (fast) or in PyTorch on any device (torch), or pydensecrf "
        "(reference). auto: torch on CUDA, else the first of fast and reference that is installed.",
    )
