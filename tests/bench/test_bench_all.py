"""The collector of the benchmarks: what it reads, and that one failure does not end the run."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import time
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """Return the module, which looks for its stages in an empty folder."""
    module = loaded("bench_all", monkeypatch)
    monkeypatch.setattr(module, "HERE", tmp_path)
    return module


def loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a benchmark as a module."""
    specification = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, name, module)
    specification.loader.exec_module(module)
    return module


ROW = {"stage": "a", "baseline": "b", "unit": "s", "baseline_value": 6.0, "value": 2.0, "ratio": 3.0}
WRITES = f"import json, sys; json.dump({{'rows': [{ROW}]}}, open(sys.argv[-1], 'w'))"


def test_a_stage_that_fails_is_named_and_the_others_go_on(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripts = {
        "breaks": "raise ValueError('the reason')",
        "exits": "import sys; sys.exit(3)",
        "silent": "pass",
        "works": WRITES,
    }
    for name, code in scripts.items():
        (tmp_path / f"{name}.py").write_text(code)
    stages = [bench.Stage(name, f"{name}.py", (), bench.read_rows) for name in scripts]
    monkeypatch.setattr(bench, "stages", lambda device, photos, quick: stages)
    monkeypatch.setattr(sys, "argv", ["bench_all.py", "--device", "cpu", "--json", str(tmp_path / "out.json")])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 1
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["rows"] == [ROW | {"command": "python tests/bench/works.py"}]
    assert list(content["seconds"]) == list(scripts)
    assert list(content["failed"]) == ["breaks", "exits", "silent"]
    assert "the reason" in content["failed"]["breaks"]
    assert "exit code 3" in content["failed"]["exits"]
    shown = capsys.readouterr().out
    assert content["machine"] in shown
    assert content["date"] in shown
    assert "failed: breaks" in shown
    assert "3.00" in shown
    assert "python tests/bench/works.py" in shown


@pytest.mark.skipif(os.name != "posix", reason="groups of processes")
def test_a_stage_that_takes_too_long_is_ended_with_its_helpers(bench: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)"
    )
    begin = time.monotonic()
    rows, failed, _ = bench.run_all([bench.Stage("slow", "slow.py", (), bench.read_rows, seconds=3.0)], 30)
    assert (rows, list(failed)) == ([], ["slow"])
    assert "longer than 3 s" in failed["slow"]
    assert time.monotonic() - begin < 30
    child = Path("/proc") / (tmp_path / "child").read_text() / "stat"
    assert not child.exists() or child.read_text().split()[2] == "Z"


def test_stages_beyond_the_time_of_all_are_left_out_by_name(bench: ModuleType) -> None:
    rows, failed, _ = bench.run_all([bench.Stage("late", "late.py", (), bench.read_rows)], 0)
    assert not rows
    assert "left out" in failed["late"]


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("photos", [None, Path("photos")])
def test_every_stage_has_its_file_and_options_that_it_knows(
    bench: ModuleType, quick: bool, photos: Path | None
) -> None:
    stages = bench.stages("cuda", photos, quick=quick)
    names = {stage.name for stage in stages}
    assert names >= {"startup", "crf", "predict", "backbone", "neighbors", "crop", "train", "eval", "accelerator"}
    assert ("photographs" in names) == (photos is not None)
    for stage in stages:
        source = (HERE / stage.file).read_text("utf-8")
        for option in [*stage.options, *(["--json"] if stage.writes_json else [])]:
            assert not option.startswith("--") or f'"{option}"' in source, (stage.name, option)


def test_photographs_are_those_of_the_test_data(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEGO_TESTDATA", str(tmp_path))
    assert bench.photographs() is None
    (tmp_path / "photos").mkdir()
    assert bench.photographs() is None
    (tmp_path / "photos" / "a.jpg").touch()
    assert bench.photographs() == tmp_path / "photos"


def test_the_memory_of_the_first_tenth_is_known_however_few_steps_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    module = loaded("bench_train", monkeypatch)
    module.memory(tmp_path, Namespace(steps=10))
    early, most = map(int, re.findall(r"(\d+) MiB", capsys.readouterr().out))
    assert 0 < early <= most


def test_figures_are_read_from_what_the_stages_print(bench: ModuleType) -> None:
    crop = (
        "4 cores, load 0.1, medians of 2 rounds\ncamvid, 1 times\n"
        "  plain loop      10.0 images/s (best 11.0), 1.00 times the loop\n"
        "  workers 4       30.0 images/s (best 31.0), 3.00 times the loop\n"
    )
    assert [(row.stage, row.ratio) for row in bench.read_crop(crop, {})] == [("crop camvid, 1 times, workers 4", 3.0)]
    evaluation = (
        "8 images, filterbank, 320, cpu, 4 threads, pool of 4, load 0.1\n"
        "reference order, CRF only          12.00 s   (read 0.10, network and probes 1.00)\n"
        "ours, with and without CRF          3.00 s   4.00 times as fast\n"
    )
    (row,) = bench.read_eval(evaluation, {})
    assert (row.baseline_value, row.value, row.ratio) == (12.0, 3.0, 4.0)
    losses = "correspondence   ours    10.0 ms    100 MiB   plain    25.0 ms    200 MiB   2.5 times as fast"
    (row,) = bench.read_losses(losses, {})
    assert (row.stage, row.ratio) == ("loss, correspondence", 2.5)
    train = "ViT-S/8, batch 16, 224 x 224, cpu, 2 threads: kept features 50.0 ms, live 500.0 ms per step, 10.0 times"
    (row,) = bench.read_train(train, {})
    assert (row.value, row.ratio) == (pytest.approx(20.0), pytest.approx(10.0))


def test_figures_are_read_from_the_files_of_the_stages(bench: ModuleType) -> None:
    taken = {"ours": [1.0, 3.0, 2.0], "faiss flat": [8.0, 8.0, 9.0]}
    (row,) = bench.read_neighbors("", {"time": {"images": 9, "seconds": taken}})
    assert (row.baseline, row.ratio) == ("faiss flat", 4.0)
    (row,) = bench.read_store("", {"forward": 2.0, "reads": {"in memory": 50.0}})
    assert row.ratio == 25.0
    predict = {
        "predict": {
            "reference images/s": 0.5, "ours images/s": 2.0, "ours, no CRF images/s": 3.0,
            "bound in fp32": {"GFLOP/s": 230.0, "s per image": 0.25, "ratio": 8.0},
        },
        "backbone": {"share of products": {"forward 8": 0.7}},
        "startup": {
            "seconds": {"stego  --help": 0.2, "stego fit --help": 0.3, "import torch": 2.0, "predict": 3.0}
            | {"predict --crf": 4.0},
            "more than torch": {"predict": 1.0, "predict --crf": 2.0},
        },
    }  # fmt: skip
    ratios = {row.stage: row.ratio for row in bench.read_predict("", predict)}
    assert ratios["predict, CRF"] == 4.0
    assert ratios["backbone, forward 8"] == 0.7
    assert "stego fit --help" in ratios
    assert "stego  --help" not in ratios
    assert ratios["predict at best in fp32: two forwards at 230 GFLOP/s"] == 8.0
