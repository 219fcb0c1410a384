"""The only place that turns CRF settings into a CRF."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from stego_cli.crf.reference import ReferenceCrf
from stego_cli.errors import MissingDependencyError

if TYPE_CHECKING:
    from stego_cli.config.crf import CrfParameters
    from stego_cli.crf.base import DenseCrf


def build_crf(parameters: CrfParameters) -> DenseCrf:
    """Return the CRF that `parameters` describes.

    Raises:
        MissingDependencyError: If the package it runs on is not installed.
    """
    match parameters.implementation:
        case "reference":
            return ReferenceCrf(parameters)
        case "fast":
            return _fast(parameters)
        case "auto":
            try:
                return _fast(parameters)
            except MissingDependencyError:
                return ReferenceCrf(parameters)
        case _:
            assert_never(parameters.implementation)


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
