"""`stego ablate` as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from stego_cli.cli import app

GRID = ["--backbones", "filterbank", "--methods", "dino,stego", "--dims", "3,192", "--seeds", "2", "--classes", "2"]
FAST = ["--steps", "2", "--batch-size", "4", "--res", "32", "--protocol", "native", "--set", "train.eval_resolution=32"]
HERE = ["--jobs", "1", "--workers", "0", "--device", "cpu"]


@pytest.fixture(autouse=True)
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 2)):
        for kind in ("imgs", "labels"):
            (tmp_path / "scenes" / kind / split).mkdir(parents=True)
        for number in range(count):
            pixels = draw.integers(0, 60, (40, 48, 3), dtype=np.uint8)
            pixels[20:] += 150
            labels = np.repeat([[0]] * 20 + [[1]] * 20, 48, axis=1).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "scenes" / "imgs" / split / f"{number}.png")
            Image.fromarray(labels).save(tmp_path / "scenes" / "labels" / split / f"{number}.png")
    return tmp_path / "scenes"


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["ablate", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_a_grid_is_run_and_drawn() -> None:
    code, out, err = run("run", "--datasets", "scenes/", *GRID, *FAST, *HERE)
    assert code == 0, err
    assert "4 cells in" in out
    assert "next: stego ablate plot runs/ablate-scenes" in out
    assert Path("runs/ablate-scenes/results.jsonl").read_text().count("\n") == 4
    code, out, err = run("plot", "runs/ablate-scenes")
    assert code == 0, err
    assert "runs/ablate-scenes/figures/miou-scenes-filterbank.pdf" in out.splitlines()
    code, out, err = run("run", "--datasets", "scenes/", *GRID, *FAST, *HERE)
    assert code == 0, err
    assert "all cells were done" in out


def test_a_dry_run_shows_the_plan_and_writes_nothing() -> None:
    code, out, err = run("run", "--datasets", "scenes/", *GRID, *FAST, *HERE, "--dry-run")
    assert code == 0, err
    for words in ("stego", "3 ", "left out: 192, as filterbank has 108 channels", "4 of 4 cells", "estimated time"):
        assert words in out
    assert not Path("runs").exists()
    code, out, _ = run("run", "--datasets", "scenes/", *GRID, *FAST, *HERE, "--dry-run", "--json")
    assert json.loads(out)["grounds"][0]["left_out_dims"] == [192]


def test_json_is_one_object() -> None:
    code, out, err = run("run", "--datasets", "scenes/", *GRID, *FAST, *HERE, "--json", "--out", "here")
    assert code == 0, err
    found = json.loads(out)
    assert found["cells"] == len(found["results"]) == 4
    code, out, _ = run("plot", "here", "--json")
    assert "here/figures/ablation.md" in json.loads(out)["written"]


def test_several_files_are_several_grids_and_one_that_cannot_be_done_does_not_stop_the_others() -> None:
    for name, dataset in (("a", "scenes"), ("b", "nowhere")):
        settings = {"datasets": [dataset], "backbones": ["filterbank"], "methods": ["dino"], "classes": 2, "out": name}
        Path(f"{name}.yaml").write_text(json.dumps(settings))
    code, _, err = run("run", "--config", "b.yaml", "a.yaml", "--seeds", "1", *FAST, *HERE)
    assert code == 1
    assert "nowhere" in err
    assert Path("a/results.jsonl").read_text().count("\n") == 1
    code, _, err = run("run", "--config", "b.yaml", "--seeds", "1", *FAST, *HERE)
    assert code == 2
    assert "nowhere" in err


def test_a_missing_model_names_its_download_and_ends_with_1() -> None:
    rows = [{"model": "potsdam_test", "dataset": "scenes"}]
    Path("t.yaml").write_text(json.dumps({"methods": [], "checkpoints": rows, "out": "t"}))
    code, out, _ = run("run", "--config", "t.yaml", *HERE)
    assert code == 1
    assert "failed: scenes/checkpoint/potsdam_test" in out
    assert "stego download models potsdam_test" in out


def test_mistakes_are_listed_at_once() -> None:
    code, _, err = run(
        "run", "--datasets", "scenes/", "--methods", "dino,pac", "--dims", "3,x", "--set", "train.stps=3"
    )
    assert code == 2
    for words in ("pac", "dims", "did you mean `steps`"):
        assert words in err


def test_no_results_are_no_traceback() -> None:
    code, _, err = run("plot", "nowhere")
    assert code == 2
    assert "stego ablate run" in err


def test_help_is_quick() -> None:
    command = (
        "import sys; from stego_cli.cli import ablate; print({'torch', 'matplotlib', 'pydantic'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
