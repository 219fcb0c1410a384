"""All benchmarks, one table: `make bench`, or `python tests/bench/bench_all.py [--only STAGE,...] [--json FILE]`.

Each stage runs as a process of its own with sizes that together stay within a quarter of an hour, and is compared with
a baseline measured in the same run. A stage that fails, or takes too long, is named and the others go on. With a CUDA
device there, the stages that can use it run there. Photographs of `STEGO_TESTDATA` (default `../shared/data`) are used
where there are any. `--quick` shows that every stage works; its figures say little. Never a test: figures do not decide
over the exit code; it is 1 only if a stage failed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

HERE = Path(__file__).parent
TOGETHER = 900  # seconds
WIDTH = 170  # of the table, where it goes to a file


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
        command: What measures it again, from the root of the repository.
    """

    stage: str
    baseline: str
    unit: str
    baseline_value: float | None
    value: float
    ratio: float | None
    command: str = ""


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

    @property
    def command(self) -> str:
        """What runs it by hand, from the root of the repository."""
        return shlex.join(["python", f"tests/bench/{self.file}", *self.options])


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
        bound = predict["bound in fp32"]
        rows.append(
            seconds_row(
                f"predict at best in fp32: two forwards at {bound['GFLOP/s']:.0f} GFLOP/s",
                "reference order of work, per image", 1 / theirs, bound["s per image"],
            )
        )  # fmt: skip
    for name, share in content.get("backbone", {}).get("share of products", {}).items():
        rows.append(Row(f"backbone, {name}", "matrix products", "share of rate", 1.0, share, share))
    if startup := content.get("startup"):
        taken = startup["seconds"]
        helps = {name: spent for name, spent in taken.items() if name.endswith("--help")}
        rows += [Row(name, "", "s", None, spent, None) for name, spent in helps.items() if spent == max(helps.values())]
        torch, stage = taken["import torch"], "one image, beyond `import torch`"
        rows += [
            Row(f"stego {name}, {stage}", "import torch", "s", torch, more, None)
            for name, more in startup["more than torch"].items()
        ]
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


def photographs() -> Path | None:
    """Return the folder of real images, if there are any."""
    folder = Path(os.environ.get("STEGO_TESTDATA") or HERE.parents[2] / "shared" / "data") / "photos"
    return folder if any(folder.glob("*.jpg")) else None


def stages(device: str, photos: Path | None = None, *, quick: bool = False) -> list[Stage]:
    """Return what is run: the accelerator's own stages too where there is one.

    Args:
        device: Of the stages that can use one.
        photos: Folder of real images for the CRF.
        quick: With the smallest sizes.
    """
    on = ("--device", device)

    def stage(name: str, file: str, read: Read, usual: str, small: str, *more: str, writes_json: bool = True) -> Stage:
        return Stage(name, file, (*(small if quick else usual).split(), *more), read, writes_json)

    once = "--runs 1"
    images = "4" if device == "cpu" else "64"
    many, few = (0, 0) if photos else (12, 2)  # a folder of photographs is enough
    known = [
        stage("startup", "bench_predict.py", read_predict, "--only startup --runs 3", "--only startup --runs 1"),
        stage("crf", "bench_crf.py", read_rows, f"--runs 3 --count {many}", f"{once} --count {few} --side 160"),
        stage(
            "predict", "bench_predict.py", read_predict, f"--only predict --runs 2 --images {images}",
            "--only predict --runs 1 --images 1", *on,
        ),
        stage(
            "backbone", "bench_predict.py", read_predict, "--only backbone --runs 2", "--only backbone --runs 1", *on
        ),
        stage("neighbors", "bench_neighbors.py", read_neighbors, "--runs 3 --count 10000", once + " --count 3000"),
        stage(
            "crop", "bench_crop.py", read_crop, "--rounds 2 --times 1 --large 24 --workers 0 4",
            "--rounds 1 --times 1 --large 0 --workers 4", writes_json=False,
        ),
        stage(
            "train", "bench_train.py", read_train, "--runs 1 --batch 8 --steps 50 --without-compiled",
            once + " --batch 2 --steps 10 --without-compiled", *on, writes_json=False,
        ),
        stage(
            "eval", "bench_eval.py", read_eval, "--runs 1 --images 8", once + " --images 1 --backbone filterbank",
            *on, writes_json=False,
        ),
        stage("store", "bench_store.py", read_store, "--runs 2 --count 480", once + " --count 64"),
        stage("losses", "bench_losses.py", read_losses, "--runs 3", once, *on, writes_json=False),
    ]  # fmt: skip
    if photos:
        usual, small = "--runs 3 --count 12", once + " --count 2 --side 160"
        known.insert(2, stage("photographs", "bench_crf.py", read_rows, usual, small, "--images", str(photos)))
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
    return [replace(row, command=stage.command) for row in rows]


def run_all(chosen: Sequence[Stage], seconds: float) -> tuple[list[Row], dict[str, str], dict[str, float]]:
    """Run stage after stage; return the figures, for each stage that failed why, and how long each took."""
    rows: list[Row] = []
    failed: dict[str, str] = {}
    taken: dict[str, float] = {}
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        for stage in chosen:
            started = time.monotonic()
            left = seconds - (started - begin)
            print(f"{stage.name} ...", file=sys.stderr, flush=True)  # noqa: T201
            try:
                if left <= 0:
                    raise FailedError(f"left out: the others took the {seconds:.0f} s that all may take together")
                rows += run_stage(stage, Path(name), left)
            except FailedError as error:
                failed[stage.name] = str(error)
                print(f"{stage.name} failed: {error}", file=sys.stderr, flush=True)  # noqa: T201
            taken[stage.name] = time.monotonic() - started
            print(f"{stage.name} took {taken[stage.name]:.0f} s", file=sys.stderr, flush=True)  # noqa: T201
    return rows, failed, taken


def table(rows: Sequence[Row]) -> Table:
    """Lay the figures out; one stage after the other, each with its command."""
    laid_out = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("stage", "baseline", "ours", "ratio", "command"):
        laid_out.add_column(name, justify="right" if name == "ratio" else "left", overflow="fold")
    last = None
    for row in rows:
        theirs = row.baseline if row.baseline_value is None else f"{row.baseline}: {row.baseline_value:.4g} {row.unit}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        again = escape(row.command) if row.command != last else "the same"
        laid_out.add_row(escape(row.stage), escape(theirs), f"{row.value:.4g} {row.unit}", ratio, again)
        last = row.command
    return laid_out


def machine(device: str) -> str:
    """Say what this runs on."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"^model name\s*:\s*(.+)$", info.read_text("utf-8"), re.MULTILINE)):
        name = found[1].strip()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    said = f"{name}, {cores} cores, {platform.system()}, Python {platform.python_version()}, torch {version('torch')}"
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
    options.add_argument("--quick", action="store_true", help="The smallest sizes, to see that all works.")
    chosen = options.parse_args()
    device = chosen.device or best_device()
    known = stages(device, photographs(), quick=chosen.quick)
    wanted = chosen.only.split(",") if chosen.only else [stage.name for stage in known]
    if unknown := set(wanted) - {stage.name for stage in known}:
        options.error(f"no such stage: {', '.join(sorted(unknown))}; there are {', '.join(s.name for s in known)}")
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    where, load = machine(device), f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    rows, failed, taken = run_all([stage for stage in known if stage.name in wanted], chosen.seconds)
    total = f"load before {load}, all stages together {sum(taken.values()):.0f} s"
    print("\n".join([where, now, total, *(f"failed: {name}: {why}" for name, why in failed.items())]))  # noqa: T201
    console = Console()
    console.width = max(console.width, 0 if console.is_terminal else WIDTH)
    console.print(table(rows))
    content = {
        "machine": where, "date": now, "load": load, "rows": [asdict(row) for row in rows], "failed": failed,
        "seconds": taken,
    }  # fmt: skip
    partial = chosen.json.with_name(chosen.json.name + ".part")
    partial.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    partial.replace(chosen.json)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that a stage under way is ended, too
    main()
