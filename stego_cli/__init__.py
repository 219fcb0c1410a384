"""Give every pixel a meaningful class, without labels: STEGO and its family.

>>> import stego_cli
>>> model = stego_cli.load("embedded")  # doctest: +SKIP
>>> result = model.predict("street.jpg", crf=True)  # doctest: +SKIP
>>> result.shares  # doctest: +SKIP
{'road': 0.41, 'sky': 0.22, ...}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stego_cli.api import load, predict
    from stego_cli.segmenter import Prediction, Segmenter

__version__ = "0.1.0"

__all__ = ["Prediction", "Segmenter", "__version__", "load", "predict"]

_HOMES = {"load": "api", "predict": "api", "Segmenter": "segmenter", "Prediction": "segmenter"}


def __getattr__(name: str) -> Any:
    """Import the Python API on first use: it needs torch, which takes seconds to load."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
