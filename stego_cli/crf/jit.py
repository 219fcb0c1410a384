"""How the inner loops of the CRF are compiled: on first use, and kept on disk for the next process.

Importing this module imports Numba.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba

if TYPE_CHECKING:
    from collections.abc import Callable


def compiled(function: Callable[..., Any]) -> Any:
    """Compile `function` when it is first called; it runs without Python's lock and sums in the order written."""
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # Numba finds no folder to write to: compile anew in every process
        return numba.njit(nogil=True, error_model="numpy")(function)
