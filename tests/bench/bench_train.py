"""How fast a training step is on kept features beside a live one and beside a compiled one; whether memory stays flat.

Run `python tests/bench/bench_train.py`.
Both steps do all that training does: images or features are read, draws drawn, the step trained, its loss looked at.
The backbone is a ViT-S/8 with random weights; images are files on disk. Both are run by turns in one process. Then a
small setting runs for `--steps` as `stego train` runs them, while the memory of the process is watched.
Never a test: it prints and does not fail on time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from stego_cli.backbones.registry import build_backbone
from stego_cli.config.model import FilterbankConfig, VitConfig
from stego_cli.config.train import TrainConfig
from stego_cli.engine.train.batches import Supply, prepared_steps
from stego_cli.engine.train.compiled import compile_step
from stego_cli.engine.train.loop import Job, Place, run_job
from stego_cli.engine.train.measure import Yardstick
from stego_cli.engine.train.ranks import Ranks
from stego_cli.engine.train.setup import make_plan, make_yardstick
from stego_cli.engine.train.step import TrainState, build_train_state, train_step
from stego_cli.progress import Silence

T = TypeVar("T")


def draw_dataset(folder: Path, count: int, side: int) -> Path:
    draw = np.random.default_rng(0)
    for kind in ("imgs", "labels"):
        (folder / kind).mkdir(parents=True)
    for number in range(count):
        coarse = draw.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((side * 4 // 3, side), Image.Resampling.BICUBIC)
        image.save(folder / "imgs" / f"{number}.jpg")
        labels = Image.fromarray(coarse[..., 0] // 10).resize(image.size, Image.Resampling.NEAREST)
        labels.save(folder / "labels" / f"{number}.png")
    return folder


def opened(config: TrainConfig, device: torch.device) -> tuple[Yardstick, TrainState]:
    yardstick, loss = make_yardstick(make_plan(config, Silence()), Ranks(device), Silence())
    channels = yardstick.supply.backbone.channels
    state = build_train_state(
        config.method, loss, config.optimiser, channels, yardstick.clusters, len(yardstick.space), 0
    )
    state.trainee.to(device)
    state.first_bad = state.first_bad.to(device)
    return yardstick, state


def steps_per_second(supply: Supply, state: TrainState, steps: int, device: torch.device) -> float:
    """Return the median seconds of a step, its input made ready beside it as in training."""
    times = []
    for prepared in prepared_steps(supply, 0, steps + 1, 2, device):
        started = time.perf_counter()
        float(train_step(state, supply.given(prepared, device), prepared.number)["total"])
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def speed(folder: Path, options: argparse.Namespace) -> None:
    device = torch.device(options.device)
    backbone = VitConfig()
    torch.manual_seed(0)
    weights = folder / "vit.safetensors"
    network: Any = build_backbone(backbone)
    save_file(network.network.state_dict(), weights)
    dataset = draw_dataset(folder / "images", options.batch + 8, 320)
    config = TrainConfig(
        dataset=str(dataset), classes=27, backbone=backbone, weights=weights, features="memory", workers=2,
        batch_size=options.batch, device=options.device,
    )  # fmt: skip
    yardstick, state = opened(config, device)
    live = replace(yardstick.supply, features=None)
    kept, anew = [], []
    for _ in range(options.runs):
        kept.append(steps_per_second(yardstick.supply, state, 5, device))
        anew.append(steps_per_second(live, state, 1, device))
    fast, slow = statistics.median(kept), statistics.median(anew)
    if not options.without_compiled:
        compiled(yardstick.supply, state, options)
    print(  # noqa: T201
        f"ViT-S/8, batch {options.batch}, 224 x 224, {options.device}, {torch.get_num_threads()} threads: "
        f"kept features {1000 * fast:.1f} ms, live {1000 * slow:.1f} ms per step, {slow / fast:.1f} times as fast"
    )


def compiled(supply: Supply, state: TrainState, options: argparse.Namespace) -> None:
    """Say what compiling the step takes, and after how many steps that is won back."""
    device, notes, as_it_was = torch.device(options.device), Notes(), state.model
    started = time.perf_counter()
    compile_step(state, lambda: supply.given(supply.prepare(0), device), notes)
    taken = time.perf_counter() - started
    turns = []
    for _ in range(options.runs):
        program, state.model = state.model, as_it_was
        before = steps_per_second(supply, state, 5, device)
        state.model = program
        turns.append((before, steps_per_second(supply, state, 5, device)))
    state.model = as_it_was
    before, after = (statistics.median(each) for each in zip(*turns, strict=True))
    back = f"won back after {taken / (before - after):.0f} steps" if after < before else "never won back"
    print(  # noqa: T201
        f"compiled: {1000 * after:.1f} ms beside {1000 * before:.1f} ms per step, {before / after:.2f} times as fast; "
        f"compiling took {taken:.0f} s, {back} {' '.join(notes.said)}"
    )


class Notes(Silence):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


class Scale(Silence):
    """Weighs the process after every step, in MiB."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def track(self, items: Iterable[T], doing: str, total: int) -> Iterator[T]:
        for item in super().track(items, doing, total):
            yield item
            if doing == "Training":
                self.seen.append(resident())


def resident() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def memory(folder: Path, options: argparse.Namespace) -> None:
    dataset = draw_dataset(folder / "small", 64, 96)
    config = TrainConfig(
        dataset=str(dataset), classes=27, backbone=FilterbankConfig(), features="auto", resolution=96, workers=2,
        method={"kind": "stego", "code_dim": 16}, steps=options.steps, eval_every=0, device="cpu",
    )  # fmt: skip
    device = torch.device("cpu")
    yardstick, _ = opened(config, device)
    job = Job(
        config, 0, config.loss, yardstick.supply, yardstick, Place(folder / "m.safetensors", folder / "m.run"),
        Ranks(device), {},
    )  # fmt: skip
    scale = Scale()
    run_job(job, scale)
    early = max(scale.seen[: max(options.steps // 10, 1)])
    print(  # noqa: T201
        f"memory over {options.steps} steps: {early:.0f} MiB in the first tenth, {max(scale.seen):.0f} MiB at most"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--without-compiled", action="store_true", help="Leave the compiled step out: a minute or so.")
    options = parser.parse_args()
    if options.steps < 10:
        parser.error("--steps must be 10 or more: the memory of the first tenth is compared with that of all")
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STEGO_HOME"] = f"{folder}/home"
        memory(Path(folder), options)
        speed(Path(folder), options)


if __name__ == "__main__":
    main()
