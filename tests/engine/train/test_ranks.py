"""Several processes that train one model, and one of them ends."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from stego_cli.engine.train.ranks import Ranks
from stego_cli.engine.workplace import workplace
from stego_cli.errors import StegoError

if TYPE_CHECKING:
    from pathlib import Path

GONE = "[pair.cc:561] Connection closed by peer [127.0.0.1]:34736."


def test_that_another_process_is_gone_is_said_in_words() -> None:
    ranks = Ranks(torch.device("cpu"), 1, 2, fabric=object())
    with pytest.raises(StegoError, match="another process of this run ended"), ranks.bound():
        raise RuntimeError(GONE)


@pytest.mark.parametrize(("fabric", "words"), [(object(), "shapes do not fit"), (None, GONE)])
def test_what_is_no_such_thing_stays_what_it_is(fabric: object, words: str) -> None:
    ranks = Ranks(torch.device("cpu"), fabric=fabric)
    with pytest.raises(RuntimeError) as raised, ranks.bound():
        raise RuntimeError(words)
    assert str(raised.value) == words


def test_all_processes_end_in_words_where_the_first_one_may_not_write(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(4):
        Image.fromarray(draw.integers(0, 255, (36, 40, 3), dtype=np.uint8)).save(tmp_path / "photos" / f"{number}.png")
    command = [sys.executable, "-m", "stego_cli", "train", "photos", "--classes", "2", "--backbone", "filterbank"]
    command += ["--res", "32", "--device", "cpu", "--devices", "2", "--steps", "2", "-o", "m.safetensors", "--quiet"]
    env = {**os.environ, "STEGO_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    with workplace(tmp_path / "m.run"):
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert "another run is writing to `m.run`" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Initializing" not in done.stderr  # it was to be quiet
