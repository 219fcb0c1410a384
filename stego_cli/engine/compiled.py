"""The backbone through `torch.compile`, for those who want it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from stego_cli.engine.device import is_out_of_memory
from stego_cli.errors import StegoError

if TYPE_CHECKING:
    from stego_cli.progress import Report
    from stego_cli.segmenter import Segmenter

_TRIAL_PATCHES = 4


def compile_backbone(model: Segmenter, report: Report) -> None:
    """Compile the backbone, and try it on a small image, so that what is missing is said before the run begins.

    It is compiled again for each new size of image, which takes about half a minute for a vision transformer.

    Raises:
        StegoError: If nothing can be compiled here.
    """
    report.note("compiling the network; every new size of image takes this time once more")
    side = _TRIAL_PATCHES * model.backbone.patch_size
    before = torch.get_num_threads()
    try:
        if model.device.type == "cpu":
            torch.set_num_threads(1)  # the compiler writes the number into its code; images get a core each later
        model.backbone.compile()
        with torch.inference_mode():
            model.backbone(torch.zeros(1, 3, side, side, device=model.device))
    except Exception as error:  # the compiler's errors have no common ancestor
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise StegoError(
            f"the network cannot be compiled here: {reason}\n\n"
            "hint: leave out --compile; torch.compile needs a C++ compiler (g++ or clang) on a CPU and Triton on CUDA"
        ) from error
    finally:
        torch.set_num_threads(before)
