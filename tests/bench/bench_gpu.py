"""What a CUDA device reaches: `python tests/bench/bench_gpu.py [--device cuda]`.

Batches of images of 320 pixels through ViT-B/8 with random weights, image and mirror averaged, then both probes, then
the CRF for both, all on the device: images per second with and without CRF, and the memory at its peak. Beside that the
network's rate as a share of that of plain matrix products of the same type. Files are not part of it; `bench_predict.py
--device cuda` measures those. `--device cpu` shows that it works, no more. Never a test: it does not fail on time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from stego_cli.backbones.registry import build_backbone
from stego_cli.config.crf import CrfParameters
from stego_cli.config.model import VitConfig
from stego_cli.crf.build import build_torch_crf

CLASSES = 27
SIDE = 320


def seconds(work: Callable[[], object], device: torch.device, runs: int) -> float:
    """Return the median seconds of `work`, the device's part included."""
    work()  # what is done once is not counted
    found = []
    for _ in range(runs):
        wait(device)
        begin = time.perf_counter()
        work()
        wait(device)
        found.append(time.perf_counter() - begin)
    return statistics.median(found)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def products(device: torch.device, kind: torch.dtype, runs: int) -> float:
    """Return the highest rate of plain matrix products, in operations per second."""
    rates = []
    for side in (2048, 4096, 8192) if device.type == "cuda" else (512,):
        one, other = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
        rates.append(2 * side**3 / seconds(lambda: one @ other, device, runs))  # noqa: B023
    return max(rates)


def operations(network: torch.nn.Module, tokens: int) -> float:
    """Return the multiplications and additions of the matrix products for one image."""
    width, depth, patch = network.embed_dim, len(network.blocks), network.patch_embed.patch_size[0]
    return depth * (24 * tokens * width**2 + 4 * tokens**2 * width) + 2 * (tokens - 1) * 3 * patch**2 * width


@torch.inference_mode()
def measure(chosen: argparse.Namespace) -> list[dict[str, object]]:
    device, batch = torch.device(chosen.device), chosen.batch_size
    kind = torch.bfloat16
    torch.manual_seed(0)
    backbone = build_backbone(VitConfig(name=chosen.backbone)).eval().to(device)
    pixels = torch.nn.functional.interpolate(torch.rand(batch, 3, 9, 9) * 255, (SIDE, SIDE), mode="bilinear")
    pixels = (pixels + torch.randn_like(pixels)).clamp_(0, 255).to(torch.uint8).movedim(1, -1).contiguous().to(device)
    images = pixels.movedim(-1, 1).float() / 128 - 1
    probes = [torch.randn(CLASSES, backbone.channels, device=device) / backbone.channels for _ in range(2)]
    crf = build_torch_crf(CrfParameters(), device)

    def features() -> Tensor:
        with torch.autocast(device.type, kind):
            straight, mirrored = backbone(torch.cat([images, images.flip(-1)])).float().chunk(2)
        return (straight + mirrored.flip(-1)) / 2

    def answers() -> list[Tensor]:
        code = features()
        return [torch.einsum("bchw,nc->bnhw", code, probe) for probe in probes]

    def labels(maps: list[Tensor]) -> list[Tensor]:
        return [each.argmax(1) for each in maps]

    forward = seconds(features, device, chosen.runs)
    bare = seconds(lambda: labels(answers()), device, chosen.runs)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    sharpened = seconds(lambda: labels(crf.refine_tensors(pixels, answers())), device, chosen.runs)
    tokens = (SIDE // backbone.patch_size) ** 2 + 1
    rate = operations(backbone.network, tokens) * 2 * batch / forward
    ceiling = products(device, kind, chosen.runs)
    name = f"{chosen.backbone} on {chosen.device}, mirror, batch {batch}"
    share = {"baseline": f"matrix products, {ceiling / 1e12:.1f} TFLOP/s", "baseline_value": 1.0}
    rows = [
        row(f"{name}, CRF for both probes", "images/s", batch / sharpened),
        row(f"{name}, no CRF", "images/s", batch / bare),
        row(f"{name}, forward in bf16", "share of rate", rate / ceiling) | share | {"ratio": rate / ceiling},
    ]
    if device.type == "cuda":
        rows.append(row(f"{name}, memory at its peak", "GiB", torch.cuda.max_memory_allocated(device) / 2**30))
    return rows


def row(stage: str, unit: str, value: float) -> dict[str, object]:
    return {"stage": stage, "baseline": "", "unit": unit, "baseline_value": None, "value": value, "ratio": None}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--device", default="cuda")
    options.add_argument("--backbone", default="dino_vitb8")
    options.add_argument("--batch-size", type=int, default=16)
    options.add_argument("--json", type=Path, metavar="FILE", help="Write the figures there as well.")
    chosen = options.parse_args()
    rows = measure(chosen)
    for each in rows:
        print(f"{each['stage']:70s} {each['value']:9.3f} {each['unit']}")  # noqa: T201
    if chosen.json:
        chosen.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
