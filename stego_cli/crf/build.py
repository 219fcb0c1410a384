"""The only place that turns CRF settings into a CRF."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stego_cli.crf.reference import ReferenceCrf

if TYPE_CHECKING:
    from stego_cli.config.crf import CrfParameters
    from stego_cli.crf.base import DenseCrf


def build_crf(parameters: CrfParameters) -> DenseCrf:
    """Return the CRF that `parameters` describes.

    Raises:
        MissingDependencyError: If the package it runs on is not installed.
    """
    return ReferenceCrf(parameters)
