"""The two functions of the Python API; `stego_cli` passes them on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stego_cli.catalog.models import choose_model
from stego_cli.checkpoints.describe import load_any
from stego_cli.config.load import load_config
from stego_cli.config.predict import PredictConfig
from stego_cli.engine.device import choose_device
from stego_cli.engine.predict import predict_folder
from stego_cli.progress import Silence
from stego_cli.segmenter import Segmenter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stego_cli.engine.predict import PredictResult
    from stego_cli.progress import Report


def load(model: str | Path | None = None, device: str = "auto") -> Segmenter:
    """Load a model, ready to predict.

    Args:
        model: `embedded`, the name of a published model, or a checkpoint file (ours or a released `.ckpt`); None takes
            the best one present, as `stego predict` does.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.

    Raises:
        StegoError: If there is no such model or device, or the file is damaged or hostile.
    """
    choice = choose_model(None if model is None else str(model))
    return Segmenter.from_checkpoint(load_any(choice.path), choose_device(device))


def predict(paths: Sequence[str | Path], report: Report | None = None, **options: Any) -> PredictResult:
    """Segment files, folders and globs into a folder of masks, as `stego predict` does.

    Args:
        paths: What to segment.
        report: Told about progress; silent by default.
        options: The fields of `PredictConfig`, such as `out="masks", crf=True, probe="both"`.

    Raises:
        StegoError: If options or paths are wrong. Single images that cannot be read are in the result instead.
    """
    return predict_folder(load_config(PredictConfig, options=options), paths, report or Silence())
