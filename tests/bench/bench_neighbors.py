"""How fast, how large and how complete the neighbour search is: `python tests/bench/bench_neighbors.py [--json FILE]`.

* time: the exact search against what the STEGO reference does (`torch.einsum` and `topk` in 16 chunks) and against
  FAISS' flat index, by turns in one process with the same number of threads;
* memory (`--memory`, minutes): the peak of a process that searches 20,000 and one that searches 200,000 vectors;
* recall (`--images DIR`, minutes): `ivf` and `hnsw` on pooled filter bank features of random half-size crops of real
  photographs, `--crops` from each. Every recall is counted over all images, against the exact search.

Time and memory take random directions, which is no advantage: real vectors keep fewer candidates busy.
Never a test: it prints and does not fail.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stego_cli.checkpoints.native import load_checkpoint
from stego_cli.data.images import read_image
from stego_cli.data.inputs import collect_inputs
from stego_cli.data.views import normalise
from stego_cli.neighbors.pooling import pool
from stego_cli.neighbors.search import COLUMNS, search
from stego_cli.segmenter import Segmenter

EMBEDDED = Path(__file__).parents[2] / "stego_cli" / "assets" / "embedded.safetensors"
CHANNELS = 384
SIDE = 160


def directions(count: int, seed: int = 0) -> np.ndarray:
    """Return random vectors of unit length."""
    vectors = np.random.default_rng(seed).standard_normal((count, CHANNELS), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def in_chunks(vectors: np.ndarray) -> torch.Tensor:
    """Do what the reference does."""
    features = torch.from_numpy(vectors)
    step = len(features) // 16
    found = [
        torch.topk(torch.einsum("nf,mf->nm", features[begin : begin + step], features), COLUMNS)[1]
        for begin in range(0, len(features), step)
    ]
    return torch.cat(found)


def flat_of_faiss(vectors: np.ndarray) -> np.ndarray:
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index.search(vectors, COLUMNS)[1]


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure_time(count: int, runs: int) -> dict[str, Any]:
    """Time the three exact searches by turns: the load of the machine hits all of them."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    vectors = directions(count)
    search(vectors[:2000])  # compiles the loops
    ways = {
        "ours": lambda: search(vectors),
        "einsum+topk": lambda: in_chunks(vectors),
        "faiss flat": lambda: flat_of_faiss(vectors),
    }
    times = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            times[name].append(seconds(way))
    medians = {name: statistics.median(each) for name, each in times.items()}
    print(f"{count} x {CHANNELS}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")  # noqa: T201
    for name, median in medians.items():
        runs_shown = " ".join(f"{each:.2f}" for each in times[name])
        print(f"  {name:12s} {median:6.2f} s   ours {median / medians['ours']:.2f} times as fast   ({runs_shown})")  # noqa: T201
    same = float((search(vectors).neighbors == in_chunks(vectors).numpy()).mean())
    print(f"  same neighbours in the same order: {same:.5%}")  # noqa: T201
    return {"images": count, "seconds": times, "same": same}


def resident(which: str) -> int:
    """Return `VmRSS` (now) or `VmHWM` (peak) of this process in bytes, as Linux tells them."""
    status = Path("/proc/self/status").read_text("utf-8")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(which))


def peak(count: int, sender: Any) -> None:
    """Send what a search adds to the memory of this process at its peak, in bytes, and the time that it took."""
    vectors = directions(count)
    search(vectors[:2000])  # compiles the loops
    Path("/proc/self/clear_refs").write_text("5", "utf-8")  # the peak begins anew
    before = resident("VmRSS")
    took = seconds(lambda: search(vectors))
    sender.send((resident("VmHWM") - before, resident("VmHWM"), took))


def measure_memory(counts: list[int]) -> list[dict[str, Any]]:
    """Search in processes of their own."""
    rows = []
    for count in counts:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("spawn").Process(target=peak, args=(count, sender))
        process.start()
        added, whole, took = receiver.recv()
        process.join()
        rows.append({"images": count, "added_bytes": added, "peak_bytes": whole, "seconds": took})
        table, square = count * COLUMNS * 12 / 2**20, count * count * 4 / 2**20
        print(  # noqa: T201
            f"{count} x {CHANNELS}: the search adds {added / 2**20:.0f} MiB at its peak (its result {table:.0f} MiB, "
            f"all similarities {square:.0f} MiB), the process has {whole / 2**20:.0f} MiB, {took:.1f} s"
        )
    return rows


def real_vectors(folders: list[str], crops: int) -> np.ndarray:
    """Pool the filter bank's features of random half-size crops of every image below some folders."""
    backbone = Segmenter.from_checkpoint(load_checkpoint(EMBEDDED)).backbone
    random, found = np.random.default_rng(0), []
    for image in collect_inputs(folders).images:
        pixels = read_image(image.path).pixels
        height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
        room = (pixels.shape[0] - height + 1, pixels.shape[1] - width + 1)
        corners = [(random.integers(room[0]), random.integers(room[1])) for _ in range(crops)]
        views = np.stack([pixels[top : top + height, left : left + width] for top, left in corners])
        tensors = normalise(views, backbone.mean, backbone.std)
        tensors = torch.nn.functional.interpolate(tensors, (SIDE, SIDE), mode="bilinear", antialias=True)
        with torch.inference_mode():
            found.append(pool(backbone(tensors)).numpy())
    return np.concatenate(found)


def measure_recall(vectors: np.ndarray, runs: int) -> list[dict[str, Any]]:
    """Compare the approximate searches with the exact one."""
    exact = search(vectors)
    print(f"{vectors.shape[0]} x {vectors.shape[1]}, real crops")  # noqa: T201
    rows = []
    for kind in ("ivf", "hnsw"):
        found = search(vectors, kind=kind)
        recall = float((found.similarities >= exact.similarities[:, -1:])[:, 1:].mean())
        times = [
            (seconds(lambda kind=kind: search(vectors, kind=kind)), seconds(lambda: search(vectors)))
            for _ in range(runs)
        ]
        ours, flat = (statistics.median(column) for column in zip(*times, strict=True))
        rows.append({"kind": kind, "images": len(vectors), "recall": recall, "stated": found.recall, "seconds": times})
        print(  # noqa: T201
            f"  {kind:5s} recall@{COLUMNS} {recall:.4f} (stated from a sample: {found.recall:.4f}), {ours:.2f} s, "
            f"flat {flat:.2f} s: {flat / ours:.2f} times as fast"
        )
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--count", type=int, default=20_000)
    options.add_argument("--memory", action="store_true", help="Also measure the peak at 20,000 and 200,000.")
    options.add_argument("--images", nargs="+", metavar="DIR", help="Photographs for the recall.")
    options.add_argument("--crops", type=int, default=20)
    options.add_argument("--json", type=Path, metavar="FILE")
    chosen = options.parse_args()
    results: dict[str, Any] = {"threads": torch.get_num_threads(), "time": measure_time(chosen.count, chosen.runs)}
    if chosen.memory:
        results["memory"] = measure_memory([20_000, 200_000])
    if chosen.images:
        results["recall"] = measure_recall(real_vectors(chosen.images, chosen.crops), chosen.runs)
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
