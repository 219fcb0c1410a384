"""The only place that turns CRF settings into a CRF."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from stego_cli.crf.reference import ReferenceCrf
from stego_cli.errors import MissingDependencyError

if TYPE_CHECKING:
    import torch

    from stego_cli.config.crf import CrfParameters
    from stego_cli.crf.base import DenseCrf
    from stego_cli.crf.torch_crf import TorchCrf


def build_crf(parameters: CrfParameters, device: torch.device | str = "cpu") -> DenseCrf:
    """Return the CRF that `parameters` describes.

    Args:
        parameters: Its settings; `auto` takes PyTorch on CUDA devices, our own for the CPU elsewhere, and pydensecrf
            where that one cannot run.
        device: Where the log-probabilities come from.

    Raises:
        MissingDependencyError: If the package it runs on is not installed.
    """
    match parameters.implementation:
        case "reference":
            return ReferenceCrf(parameters)
        case "fast":
            return _fast(parameters)
        case "torch":
            return build_torch_crf(parameters, device)
        case "auto":
            if str(device).startswith("cuda"):
                return build_torch_crf(parameters, device)
            try:
                return _fast(parameters)
            except MissingDependencyError:
                return ReferenceCrf(parameters)
        case _:
            assert_never(parameters.implementation)


def build_torch_crf(parameters: CrfParameters, device: torch.device | str) -> TorchCrf:
    """Return the CRF that also takes and gives tensors, whatever `parameters.implementation` says."""
    import torch

    from stego_cli.crf.torch_crf import TorchCrf

    return TorchCrf(parameters, torch.device(device))


def _fast(parameters: CrfParameters) -> DenseCrf:
    """Import Numba, which takes a moment, only now that a CRF is wanted."""
    try:
        from stego_cli.crf.fast import FastCrf
    except ImportError as error:  # also a Numba that does not fit the installed NumPy
        raise MissingDependencyError(
            f"the fast CRF needs the package `numba`, which cannot be used here ({error})"
            "\n\nhint: pip install -U numba, or pass --set crf_parameters.implementation=reference"
        ) from error
    return FastCrf(parameters)
