"""All benchmarks, one table: `make bench`, or `python tests/bench/bench_all.py [--only STAGE,...] [--json FILE]`.

Each stage runs as a process of its own with sizes that together take about a quarter of an hour, and is compared with
a baseline measured in the same run. A stage that fails, or takes too long, is named and the others go on. With a CUDA
device there, the stages that can use it run there. Never a test: figures do not decide over the exit code; it is 1 only
if a stage failed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
TOGETHER = 900  # seconds


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        stage: What was measured.
        baseline: What ours is compared with; empty for none.
        unit: Of both values.
        baseline_value: None without a baseline.
        value: Ours.
        ratio: How many times as good ours is; None without a baseline.
    """

    stage: str
    baseline: str
    unit: str
    baseline_value: float | None
    value: float
    ratio: float | None


Read = Callable[[str, dict[str, Any]], list[Row]]


@dataclass(frozen=True)
class Stage:
    """A benchmark: its file, its options, and how figures are read from what it prints and from its JSON file."""

    name: str
    file: str
    options: Sequence[str]
    read: Read
    writes_json: bool = True
    seconds: float = 300.0


def seconds_row(stage: str, baseline: str, theirs: float, ours: float) -> Row:
    return Row(stage, baseline, "s", theirs, ours, theirs / ours)


def rate_row(stage: str, baseline: str, unit: str, theirs: float, ours: float) -> Row:
    return Row(stage, baseline, unit, theirs, ours, ours / theirs)


def read_rows(_text: str, content: dict[str, Any]) -> list[Row]:
    """Read a file that holds rows as they are."""
    return [Row(**row) for row in content["rows"]]


def read_predict(_text: str, content: dict[str, Any]) -> list[Row]:
    rows = []
    if predict := content.get("predict"):
        theirs, unit = predict["reference images/s"], "images/s"
        rows.append(rate_row("predict, CRF", "reference order of work", unit, theirs, predict["ours images/s"]))
        rows.append(Row("predict, no CRF", "", unit, None, predict["ours, no CRF images/s"], None))
    for name, share in content.get("backbone", {}).get("share of products", {}).items():
        rows.append(Row(f"backbone, {name}", "matrix products", "share of rate", 1.0, share, share))
    if startup := content.get("startup"):
        taken = startup["seconds"]
        helps = {name: spent for name, spent in taken.items() if name.endswith("--help")}
        rows += [Row(name, "", "s", None, spent, None) for name, spent in helps.items() if spent == max(helps.values())]
        rows += [
            Row(f"stego {name}, one image, start-up included", "import torch", "s", taken["import torch"], taken[name],
                taken["import torch"] / taken[name])
            for name in ("predict", "predict --crf")
        ]  # fmt: skip
    return rows


def read_neighbors(_text: str, content: dict[str, Any]) -> list[Row]:
    taken = {name: median(each) for name, each in content["time"]["seconds"].items()}
    stage = f"neighbours of {content['time']['images']}"
    return [seconds_row(stage, name, spent, taken["ours"]) for name, spent in taken.items() if name != "ours"]


def read_store(_text: str, content: dict[str, Any]) -> list[Row]:
    theirs = content["forward"]
    return [
        rate_row(f"features, {name}", "forward pass", "images/s", theirs, rate)
        for name, rate in content["reads"].items()
    ]


def read_crop(text: str, _content: dict[str, Any]) -> list[Row]:
    """Read lines such as `plain loop  12.3 images/s (best 13.0), 1.00 times the loop` below the name of a folder."""
    rows, folder, loop = [], "", 0.0
    for line in text.splitlines()[1:]:
        found = re.match(r"\s+(\S.*?)\s+([\d.]+) images/s \(", line)
        if not found:
            folder = line.strip()
        elif found[1] == "plain loop":
            loop = float(found[2])
        else:
            rows.append(rate_row(f"crop {folder}, {found[1]}", "plain loop", "images/s", loop, float(found[2])))
    return rows


def read_eval(text: str, _content: dict[str, Any]) -> list[Row]:
    theirs, ours = (
        float(re.search(rf"^{start}.*?([\d.]+) s\b", text, re.MULTILINE)[1])  # type: ignore[index]
        for start in ("reference order", "ours, with and without")
    )
    return [seconds_row("eval, with and without CRF", "reference order, CRF only", theirs, ours)]


def read_losses(text: str, _content: dict[str, Any]) -> list[Row]:
    found = re.findall(r"^(.+?)\s+ours\s+([\d.]+) ms.*?plain\s+([\d.]+) ms", text, re.MULTILINE)
    return [seconds_row(f"loss, {name}", "plain", float(slow) / 1e3, float(fast) / 1e3) for name, fast, slow in found]


def read_train(text: str, _content: dict[str, Any]) -> list[Row]:
    found = re.search(r"kept features ([\d.]+) ms, live ([\d.]+) ms", text)
    fast, slow = (float(value) / 1e3 for value in found.groups())  # type: ignore[union-attr]
    return [rate_row("training, cached features", "live features", "steps/s", 1 / slow, 1 / fast)]


def stages(device: str) -> list[Stage]:
    """Return what is run: the accelerator's own stages too where there is one."""
    on = ("--device", device)
    images = "4" if device == "cpu" else "64"
    known = [
        Stage("startup", "bench_predict.py", ("--only", "startup", "--runs", "3"), read_predict),
        Stage("losses", "bench_losses.py", ("--runs", "3", *on), read_losses, writes_json=False),
        Stage("neighbors", "bench_neighbors.py", ("--runs", "3", "--count", "10000"), read_neighbors),
        Stage("store", "bench_store.py", ("--runs", "2", "--count", "480"), read_store),
        Stage(
            "crop", "bench_crop.py", ("--rounds", "2", "--times", "1", "--large", "24", "--workers", "0", "4"),
            read_crop, writes_json=False,
        ),
        Stage(
            "train", "bench_train.py", ("--runs", "1", "--batch", "8", "--steps", "300", *on), read_train,
            writes_json=False,
        ),
        Stage("crf", "bench_crf.py", ("--runs", "3"), read_rows),
        Stage("eval", "bench_eval.py", ("--runs", "1", "--images", "8", *on), read_eval, writes_json=False),
        Stage("backbone", "bench_predict.py", ("--only", "backbone", "--runs", "2", *on), read_predict),
        Stage(
            "predict", "bench_predict.py", ("--only", "predict", "--runs", "2", "--images", images, *on), read_predict,
        ),
    ]  # fmt: skip
    if device != "cpu":
        known.append(Stage("accelerator", "bench_gpu.py", on, read_rows))
    return known


class FailedError(Exception):
    """A stage that gave no figures, and why in words."""


def run_stage(stage: Stage, folder: Path, seconds: float) -> list[Row]:
    """Run one stage and read its figures.

    Raises:
        FailedError: If it ended with an error, took too long, or its figures cannot be read.
    """
    file = folder / f"{stage.name}.json"
    command = [sys.executable, str(HERE / stage.file), *stage.options]
    if stage.writes_json:
        command += ["--json", str(file)]
    run = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=os.name == "posix"
    )
    try:
        text, errors = run.communicate(timeout=min(stage.seconds, seconds))
    except subprocess.TimeoutExpired:
        raise FailedError(f"took longer than {min(stage.seconds, seconds):.0f} s") from None
    finally:
        if run.poll() is None:  # its helpers, too
            os.killpg(run.pid, signal.SIGKILL) if os.name == "posix" else run.kill()
            run.communicate()
    if run.returncode:
        last = next((line for line in reversed(errors.splitlines()) if line.strip()), f"exit code {run.returncode}")
        raise FailedError(last.strip())
    try:
        rows = stage.read(text, json.loads(file.read_text("utf-8")) if stage.writes_json else {})
    except (KeyError, TypeError, ValueError, AttributeError, OSError, ZeroDivisionError) as error:
        raise FailedError(f"its figures could not be read: {error!r}") from None
    if not rows:
        raise FailedError("gave no figures")
    return rows


def run_all(chosen: Sequence[Stage], seconds: float) -> tuple[list[Row], dict[str, str]]:
    """Run stage after stage; return the figures, and for each stage that failed why."""
    rows: list[Row] = []
    failed: dict[str, str] = {}
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        for stage in chosen:
            left = seconds - (time.monotonic() - begin)
            print(f"{stage.name} ...", file=sys.stderr, flush=True)  # noqa: T201
            try:
                if left <= 0:
                    raise FailedError(f"left out: the others took the {seconds:.0f} s that all may take together")
                rows += run_stage(stage, Path(name), left)
            except FailedError as error:
                failed[stage.name] = str(error)
                print(f"{stage.name} failed: {error}", file=sys.stderr, flush=True)  # noqa: T201
    return rows, failed


def table(rows: Sequence[Row], failed: dict[str, str]) -> str:
    """Lay the figures out in columns, failures below."""
    lines = [("stage", "baseline", "baseline's", "ours", "unit", "ratio")]
    for row in rows:
        theirs = "" if row.baseline_value is None else f"{row.baseline_value:.4g}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        lines.append((row.stage, row.baseline, theirs, f"{row.value:.4g}", row.unit, ratio))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    shown.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*shown, *(f"failed: {name}: {why}" for name, why in failed.items())])


def machine(device: str) -> str:
    """Say what this runs on."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"^model name\s*:\s*(.+)$", info.read_text("utf-8"), re.MULTILINE)):
        name = found[1].strip()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    said = f"{name}, {cores} cores, {platform.system()}, Python {platform.python_version()}"
    if device != "cpu":
        import torch

        said += f", {torch.cuda.get_device_name(0)}"
    return said


def best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", metavar="STAGE,...", help="Leave out the others.")
    options.add_argument("--device", help="Of the stages that can use one; by default a CUDA device that is there.")
    options.add_argument("--seconds", type=float, default=TOGETHER, help="What all may take together.")
    options.add_argument("--json", type=Path, default=Path("bench.json"), metavar="FILE")
    chosen = options.parse_args()
    device = chosen.device or best_device()
    known = stages(device)
    wanted = chosen.only.split(",") if chosen.only else [stage.name for stage in known]
    if unknown := set(wanted) - {stage.name for stage in known}:
        options.error(f"no such stage: {', '.join(sorted(unknown))}; there are {', '.join(s.name for s in known)}")
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    where, load = machine(device), f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    rows, failed = run_all([stage for stage in known if stage.name in wanted], chosen.seconds)
    print(f"{where}\n{now}, load before {load}\n\n{table(rows, failed)}")  # noqa: T201
    content = {"machine": where, "date": now, "load": load, "rows": [asdict(row) for row in rows], "failed": failed}
    partial = chosen.json.with_name(chosen.json.name + ".part")
    partial.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    partial.replace(chosen.json)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
