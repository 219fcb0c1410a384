"""How many times as fast as pydensecrf our CRF is, in one process: `python tests/bench/bench_crf.py [--image FILE]`.

Both bring the logits to energies, build their lattices and run ten iterations; what ours keeps for the image's size
is warm, as in any folder of images. Never a test: it prints and does not fail.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from stego_cli.config.crf import CrfParameters
from stego_cli.crf.base import resize_bilinear
from stego_cli.crf.fast import FastCrf, thread_count
from stego_cli.crf.reference import ReferenceCrf


def scene(side: int, seed: int) -> np.ndarray:
    """Return soft areas of colour with the noise of a photograph."""
    random = np.random.default_rng(seed)
    areas = resize_bilinear(random.uniform(0, 255, (3, 9, 9)).astype(np.float32), side, side)
    return (areas.transpose(1, 2, 0) + random.normal(scale=1, size=(side, side, 3))).clip(0, 255).astype(np.uint8)


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=7)
    options.add_argument("--image", help="A photograph in place of the drawn scene.")
    options.add_argument("--side", type=int, default=320)
    options.add_argument("--classes", type=int, default=27)
    chosen = options.parse_args()
    side, classes = chosen.side, chosen.classes
    image = scene(side, 0)
    if chosen.image:
        image = np.asarray(Image.open(chosen.image).convert("RGB").resize((side, side)))
    probes = [
        resize_bilinear(
            np.random.default_rng(seed).normal(scale=2, size=(classes, 40, 40)).astype(np.float32), side, side
        )
        for seed in (1, 2)
    ]
    ours, theirs = FastCrf(CrfParameters()), ReferenceCrf(CrfParameters())
    ours.refine(image, probes)
    cases: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "one probe": (lambda: ours.refine(image, probes[:1]), lambda: theirs.refine(image, probes[:1])),
        "both probes": (
            lambda: ours.refine(image, probes),
            lambda: [theirs.refine(image, [probe]) for probe in probes],
        ),
        "both probes, shared lattices": (lambda: ours.refine(image, probes), lambda: theirs.refine(image, probes)),
    }
    print(f"{side}x{side}x{classes}, {thread_count()} threads, load {os.getloadavg()[0]:.1f}")  # noqa: T201
    for name, (fast, slow) in cases.items():
        times = [(seconds(fast), seconds(slow)) for _ in range(chosen.runs)]  # by turns: the load hits both
        fast_s, slow_s = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{name:30s} ours {fast_s:.3f} s   pydensecrf {slow_s:.3f} s   {slow_s / fast_s:.1f} times as fast")  # noqa: T201


if __name__ == "__main__":
    main()
