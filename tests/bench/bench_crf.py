"""How many times as fast as pydensecrf our CRF is: `python tests/bench/bench_crf.py [--images DIR]`.

Both bring the logits to energies, build their lattices and run ten iterations; what ours keeps for the image's size
is warm, as in any folder of images. First one image in one process. Then a folder: ours takes it as one batch, against
a pool of processes that run pydensecrf for one image and probe at a time and send the probabilities back, as the STEGO
reference does, or only the label map. The pool is started before the clock. All are taken by turns, so that other
load on the machine hits each. Never a test: it prints and does not fail on time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
from PIL import Image

from stego_cli.config.crf import CrfParameters
from stego_cli.crf.base import resize_bilinear
from stego_cli.crf.fast import FastCrf
from stego_cli.crf.reference import ReferenceCrf
from stego_cli.crf.team import thread_count

Task = tuple[np.ndarray, np.ndarray]


def scene(side: int, seed: int) -> np.ndarray:
    """Return soft areas of colour with the noise of a photograph."""
    random = np.random.default_rng(seed)
    areas = resize_bilinear(random.uniform(0, 255, (3, 9, 9)).astype(np.float32), side, side)
    return (areas.transpose(1, 2, 0) + random.normal(scale=1, size=(side, side, 3))).clip(0, 255).astype(np.uint8)


def pictures(folder: str | None, count: int, side: int) -> list[np.ndarray]:
    """Return photographs, or drawn scenes where there is no folder."""
    if folder is None:
        return [scene(side, seed) for seed in range(count)]
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    paths = paths[:: max(1, len(paths) // count)][:count]
    return [np.asarray(Image.open(path).convert("RGB").resize((side, side))) for path in paths]


def answers(classes: int, side: int, seed: int) -> np.ndarray:
    """Return soft areas of classes, as a network's upsampled logits are."""
    coarse = np.random.default_rng(seed).normal(scale=2, size=(classes, 40, 40)).astype(np.float32)
    return resize_bilinear(coarse, side, side)


def one_crf(task: Task) -> np.ndarray:
    """What a process of the pool does: one image, one probe."""
    return ReferenceCrf(CrfParameters()).refine(task[0], [task[1]])[0]


def one_label_map(task: Task) -> np.ndarray:
    return one_crf(task).argmax(0).astype(np.uint8)


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure(name: str, unit: str, works: dict[str, Callable[[], object]], runs: int) -> list[dict[str, object]]:
    """Time works by turns and print each against the first, which is ours."""
    times = {way: [] for way in works}
    for _ in range(runs):
        for way, work in works.items():
            times[way].append(seconds(work))
    medians = {way: statistics.median(taken) for way, taken in times.items()}
    ours, *others = medians
    rows = []
    for other in others:
        ratio = medians[other] / medians[ours]
        print(  # noqa: T201
            f"{name:32s} ours {medians[ours]:6.3f} s   {other:42s} {medians[other]:6.3f} s   {ratio:.1f} times as fast"
        )
        rows.append(
            {"stage": f"CRF, {name}", "baseline": other, "unit": unit, "baseline_value": medians[other],
             "value": medians[ours], "ratio": ratio}
        )  # fmt: skip
    return rows


def one_image(image: np.ndarray, probes: list[np.ndarray], kind: str, runs: int) -> list[dict[str, object]]:
    ours, theirs = FastCrf(CrfParameters()), ReferenceCrf(CrfParameters())
    ours.refine(image, probes)
    one = {
        "ours": lambda: ours.refine(image, probes[:1]),
        "one pydensecrf call": lambda: theirs.refine(image, probes[:1]),
    }
    both = {
        "ours": lambda: ours.refine(image, probes),
        "two pydensecrf calls": lambda: [theirs.refine(image, [probe]) for probe in probes],
        "pydensecrf with shared lattices": lambda: theirs.refine(image, probes),
    }
    return [*measure(f"one probe, {kind}", "s", one, runs), *measure(f"both probes, {kind}", "s", both, runs)]


def folder(images: list[np.ndarray], classes: int, pool: Pool, kind: str, runs: int) -> list[dict[str, object]]:
    side = len(images[0])
    stacks = [[answers(classes, side, 2 * number + probe) for probe in (0, 1)] for number in range(len(images))]
    tasks = [(image, stack) for image, both in zip(images, stacks, strict=True) for stack in both]
    ours = FastCrf(CrfParameters())
    works = {
        "ours": lambda: ours.refine_batch(images, stacks),
        "pool of four, probabilities": lambda: pool.map(one_crf, tasks, chunksize=1),
        "pool of four, label maps": lambda: pool.map(one_label_map, tasks, chunksize=1),
    }
    return measure(f"both probes, {len(images)} times {kind}", "s", works, runs)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=7)
    options.add_argument("--images", metavar="DIR", help="Photographs in place of drawn scenes.")
    options.add_argument("--count", type=int, default=24, help="Images of the folder; 0 leaves it out.")
    options.add_argument("--side", type=int, default=320)
    options.add_argument("--classes", type=int, default=27)
    options.add_argument("--json", type=Path, metavar="FILE", help="Write the figures there as well.")
    chosen = options.parse_args()
    images = pictures(chosen.images, max(chosen.count, 1), chosen.side)
    print(  # noqa: T201
        f"{chosen.side}x{chosen.side}x{chosen.classes}, {thread_count()} threads, load {os.getloadavg()[0]:.1f}"
    )
    kind = "drawn scene" if chosen.images is None else "photograph"
    rows = one_image(images[0], [answers(chosen.classes, chosen.side, seed) for seed in (1, 2)], kind, chosen.runs)
    if chosen.count:
        with multiprocessing.get_context("spawn").Pool(4) as pool:
            pool.map(one_crf, [(images[0][:8, :8], np.zeros((2, 8, 8), np.float32))] * 8)
            rows += folder(images, chosen.classes, pool, kind, min(3, chosen.runs))
    if chosen.json:
        content = {"options": {name: str(value) for name, value in vars(chosen).items()}, "rows": rows}
        chosen.json.write_text(json.dumps(content | {"threads": thread_count()}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
