"""The loss curve of a training run."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
from PIL import Image

from stego_cli.errors import MissingDependencyError
from stego_cli.report.loss_curve import draw_loss_curve

ROWS = [{"step": 20, "total": 1.0, "self_corr": 0.2}, {"step": 40, "total": math.inf, "linear": 2.0}]


def test_rows_become_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw_loss_curve(ROWS, tmp_path / "c.png", "run")
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(10**6) or ()) > 10
    draw_loss_curve([], tmp_path / "empty.png")
    assert (tmp_path / "empty.png").is_file()


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match="pip install matplotlib"):
        draw_loss_curve(ROWS, tmp_path / "c.png")
    assert list(tmp_path.iterdir()) == []
