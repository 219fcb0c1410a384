"""How fast and how lean the losses are beside the plain way of writing them: `python tests/bench/bench_losses.py`.

The plain way follows the order of operations that the published descriptions suggest: whole maps copied for every
random image, one product per comparison, all pairs of the CRF loss at once, scores of the whole batch at full size.
Both sides are run by turns on the same inputs, forward and backward; peak memory is taken in a process of its own.
On a CPU the time is that of the processor, which other programs on the machine hardly touch, in one thread.
Never a test: it prints and does not fail on time. It does check that both sides agree.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from stego_cli.config.losses import LossConfig, OptimiserConfig
from stego_cli.config.model import StegoConfig
from stego_cli.engine.train.probe_terms import linear_loss
from stego_cli.engine.train.step import build_train_state, train_step
from stego_cli.methods.stego.correspondence import Compared, correspondence
from stego_cli.methods.stego.draws import draw_step, plan_draws
from stego_cli.methods.stego.losses import crf_loss
from stego_cli.methods.stego.sampling import map_source
from stego_cli.methods.stego.step import StepInput
from stego_cli.probes.linear import LinearProbe

CONFIG = LossConfig()


def unit(vectors: Tensor) -> Tensor:
    return functional.normalize(vectors, dim=1, eps=1e-10)


def sample(maps: Tensor, coords: Tensor) -> Tensor:
    return functional.grid_sample(maps, coords.permute(0, 2, 1, 3), padding_mode="border", align_corners=True)


def plain_comparison(signals: tuple[Tensor, Tensor], codes: tuple[Tensor, Tensor], shift: float) -> Tensor:
    with torch.no_grad():
        pull = torch.einsum("nchw,ncij->nhwij", unit(signals[0]), unit(signals[1]))
        whole = pull.mean()
        pull = pull - pull.mean([3, 4], keepdim=True)
        pull = pull - pull.mean() + whole
    corr = torch.einsum("nchw,ncij->nhwij", unit(codes[0]), unit(codes[1]))
    return -corr.clamp(min=0) * (pull - shift)


def plain_correspondence(step: StepInput, code: Tensor, neighbor_code: Tensor) -> Tensor:
    draws = step.draws
    first, first_code = sample(step.features, draws.coords1), sample(code, draws.coords1)
    second, second_code = sample(step.neighbor_features, draws.coords2), sample(neighbor_code, draws.coords2)
    own = plain_comparison((first, first), (first_code, first_code), CONFIG.self_shift)
    knn = plain_comparison((first, second), (first_code, second_code), CONFIG.knn_shift)
    others = []
    for images in draws.negatives:
        there, there_code = sample(step.features[images], draws.coords2), sample(code[images], draws.coords2)
        others.append(plain_comparison((first, there), (first_code, there_code), CONFIG.random_shift))
    return own.mean() + knn.mean() + torch.cat(others).mean()


def our_correspondence(step: StepInput, code: Tensor, neighbor_code: Tensor) -> Tensor:
    found = correspondence(
        CONFIG,
        Compared(map_source(step.features), map_source(code)),
        Compared(map_source(step.neighbor_features), map_source(neighbor_code)),
        (step.draws.coords1, step.draws.coords2),
        step.draws.negatives,
    ).terms()
    return found["self"] + found["knn"] + found["random"]


def plain_linear(probe: LinearProbe, code: Tensor, labels: Tensor) -> Tensor:
    scores = functional.interpolate(probe.logits(code), labels.shape[1:], mode="bilinear", align_corners=False)
    scores, flat = scores.permute(0, 2, 3, 1).reshape(-1, scores.shape[1]), labels.flatten()
    return functional.cross_entropy(scores[flat >= 0], flat[flat >= 0])


def plain_crf(step: StepInput, code: Tensor) -> Tensor:
    def at(maps: Tensor) -> Tensor:
        square = functional.interpolate(maps, (56, 56), mode="bilinear", align_corners=False)
        return square[:, :, step.draws.crf_cells[0], step.draws.crf_cells[1]]

    square = functional.interpolate(code, (56, 56), mode="bilinear", align_corners=False)
    chosen = unit(square)[:, :, step.draws.crf_cells[0], step.draws.crf_cells[1]]
    cells, colours = step.draws.crf_cells, at(step.images)
    places = (cells[:, :, None] - cells[:, None]).square().sum(0)[None]
    differences = (colours[:, :, :, None] - colours[:, :, None]).square().sum(1)
    crf = CONFIG.crf
    kernel = crf.appearance_weight * torch.exp(-places / (2 * crf.alpha) - differences / (2 * crf.beta))
    kernel = kernel + crf.smoothness_weight * torch.exp(-places / (2 * crf.gamma)) - crf.shift
    return (-torch.einsum("nka,nkb->nab", chosen, chosen) * kernel).mean()


def cases(batch: int, side: int, device: torch.device) -> dict[str, tuple[Callable[[], float], Callable[[], float]]]:
    """Return, by name, ours and the plain way, each a forward and a backward pass that returns the loss."""
    torch.manual_seed(0)
    channels, dim, classes, pixels = 384, 70, 27, side * 8
    loss = LossConfig(crf_weight=1)
    step = StepInput(
        features=torch.randn(batch, channels, side, side),
        neighbor_features=torch.randn(batch, channels, side, side),
        labels=torch.randint(-1, classes, (batch, pixels, pixels)),
        images=torch.randn(batch, 3, pixels, pixels),
        draws=draw_step(plan_draws(loss, 0.0, batch, channels), seed=0, step=0),
    ).to(device)
    code, neighbor_code = (torch.randn(batch, dim, side, side, device=device).requires_grad_() for _ in range(2))
    probe = LinearProbe(classes, dim).to(device)
    torch.nn.init.normal_(probe.weight)
    frozen = code.detach()

    def both(compute: Callable[[], Tensor]) -> Callable[[], float]:
        def run() -> float:
            code.grad = neighbor_code.grad = probe.weight.grad = None
            value = compute()
            value.backward()
            return value.item()

        return run

    return {
        "correspondence": (
            both(lambda: our_correspondence(step, code, neighbor_code)),
            both(lambda: plain_correspondence(step, code, neighbor_code)),
        ),
        "linear probe": (
            both(lambda: linear_loss(probe, frozen, step.labels)),
            both(lambda: plain_linear(probe, frozen, step.labels)),
        ),
        "contrastive CRF": (
            both(lambda: crf_loss(loss.crf, step.images, code, step.draws.crf_cells)),
            both(lambda: plain_crf(step, code)),
        ),
    }


def whole_step(batch: int, side: int, device: torch.device) -> Callable[[], float]:
    """Return one training step with dropout and labels, its draws included."""
    channels, loss = 384, LossConfig()
    state = build_train_state(StegoConfig(), loss, OptimiserConfig(), channels, 27, 27, seed=0)
    state.model.to(device)
    features, neighbor = (torch.randn(batch, channels, side, side, device=device) for _ in range(2))
    labels = torch.randint(-1, 27, (batch, side * 8, side * 8), device=device)

    def run() -> float:
        draws = draw_step(plan_draws(loss, 0.1, batch, channels), 0, 0).to(device)
        step = StepInput(features, draws, neighbor_features=neighbor, labels=labels)
        return train_step(state, step, 0)["total"].item()

    return run


def seconds(work: Callable[[], object], device: torch.device) -> float:
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    begin = clock()
    work()  # returns a number, so that the device has finished
    return clock() - begin


def peak_here(work: Callable[[], float], device: torch.device) -> float:
    """Return how many MiB the work adds to what lies in memory before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the time before (Linux)
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def resident(name: str) -> float:
    """Return one of the kernel's figures on this process's memory, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def peak(options: argparse.Namespace, name: str, which: int) -> float:
    """Return the peak of one side in a fresh process."""
    sizes = ["--batch", str(options.batch), "--side", str(options.side), "--device", options.device]
    command = [sys.executable, __file__, *sizes, "--peak", name, str(which)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument(
        "--side", type=int, default=28, help="Side of the feature map; images have 8 times as many pixels."
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", nargs=2, metavar=("CASE", "SIDE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    pairs = cases(options.batch, options.side, device)
    if options.peak:
        print(peak_here(pairs[options.peak[0]][int(options.peak[1])], device))  # noqa: T201
        return
    load = f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    print(f"batch {options.batch}, {options.side} x {options.side} cells, {options.device}, {load}")  # noqa: T201
    for name, (ours, plain) in pairs.items():
        assert abs(ours() - plain()) < 1e-4 * max(1, abs(plain())), name
        times = [
            (seconds(ours, device), seconds(plain, device)) for _ in range(options.runs)
        ]  # by turns: the load hits both
        fast, slow = (statistics.median(column) * 1000 for column in zip(*times, strict=True))
        lean, fat = peak(options, name, 0), peak(options, name, 1)
        print(  # noqa: T201
            f"{name:16s} ours {fast:7.1f} ms {lean:6.0f} MiB   plain {slow:7.1f} ms {fat:6.0f} MiB   "
            f"{slow / fast:.1f} times as fast"
        )
    step = whole_step(options.batch, options.side, device)
    step()
    plan = plan_draws(CONFIG, 0.1, options.batch, 384)
    draw = statistics.median(seconds(partial(draw_step, plan, 0, number), device) for number in range(options.runs))
    whole = statistics.median(seconds(step, device) for _ in range(options.runs))
    print(f"whole step {whole * 1000:.1f} ms, of which draws {draw * 1000:.2f} ms")  # noqa: T201


if __name__ == "__main__":
    main()
