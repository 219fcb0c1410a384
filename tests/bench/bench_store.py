"""How much faster features are read from the cache than computed again: `python tests/bench/bench_store.py`.

Batches of records in random order, against the forward pass of ViT-S/8 (random weights) at 224 on the same machine:
from files that the system has in memory, from files that it has just been told to forget (Linux only), and held in
memory. Never a test: it prints and does not fail.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from stego_cli.backbones.registry import build_backbone
from stego_cli.config.model import VitConfig
from stego_cli.features.fingerprint import Fingerprint
from stego_cli.features.reader import FeatureReader
from stego_cli.features.store import FeatureStore

PATCH, CHANNELS = 8, 384


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def empty_store(folder: Path, count: int, side: int) -> FeatureStore:
    fingerprint = Fingerprint(
        kind="maps",
        dataset="noise",
        split="train",
        crop="none",
        count=count,
        images="",
        backbone="dino_vits8",
        weights="",
        feature_type="feat",
        block=-1,
        patch_size=PATCH,
        resolution=side * PATCH,
        loader_crop="center",
        protocol="paper",
        dtype="float16",
        shape=(CHANNELS, side, side),
    )
    return FeatureStore.create(folder, fingerprint)


def fill(store: FeatureStore, noise: np.ndarray) -> None:
    for number in store.missing():
        store.write(number, noise[: len(store.shards[number])])


def forget(folder: Path) -> None:
    """Ask the system to drop the files from its memory."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def rates(reader: FeatureReader, batch: int, runs: int, before: Callable[[], object] = lambda: None) -> float:
    """Return the median of records per second over passes through all records in random order."""
    memory = np.empty((batch, *reader.fingerprint.shape), np.float16)
    found = []
    for run in range(runs):
        order = np.random.default_rng(run).permutation(len(reader))
        batches = [order[start : start + batch] for start in range(0, len(order) - batch + 1, batch)]
        before()
        taken = seconds(lambda batches=batches: [reader.read(each, memory) for each in batches])
        found.append(len(batches) * batch / taken)
    return statistics.median(found)


def forward_rate(batch: int, resolution: int, runs: int) -> float:
    """Return the median of images per second through the backbone."""
    backbone = build_backbone(VitConfig(name="dino_vits8")).eval()
    images = torch.randn(batch, 3, resolution, resolution, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        backbone(images[:1])
        return batch / statistics.median(seconds(lambda: backbone(images)) for _ in range(runs))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--count", type=int, default=960, help="Records, 0.6 MB each at the default resolution.")
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--resolution", type=int, default=224)
    options.add_argument("--folder", help="Where the cache is written; by default the folder for temporary files.")
    options.add_argument("--json", metavar="FILE", help="Write the figures there as well.")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as temporary:
        folder = Path(temporary)
        store = empty_store(folder, chosen.count, chosen.resolution // PATCH)
        shape = (len(store.shards[0]), *store.fingerprint.shape)
        noise = np.random.default_rng(0).standard_normal(shape, np.float32).astype(np.float16)
        writing = seconds(lambda: fill(store, noise))
        opening = statistics.median(seconds(lambda: FeatureStore.open(folder)) for _ in range(chosen.runs))
        store = FeatureStore.open(folder)
        figures = {"files in memory": rates(store, chosen.batch, chosen.runs)}
        if hasattr(os, "posix_fadvise"):
            figures["files on disk"] = rates(store, chosen.batch, chosen.runs, lambda: forget(folder))
        figures["in memory"] = rates(store.in_memory(), chosen.batch, chosen.runs)
        size = sum(path.stat().st_size for path in folder.iterdir())
    forward = forward_rate(chosen.batch, chosen.resolution, chosen.runs)
    threads = torch.get_num_threads()
    print(  # noqa: T201
        f"{chosen.count} records, {size / 1e6:.0f} MB, written at {size / 1e6 / writing:.0f} MB/s, opened in "
        f"{opening * 1e3:.1f} ms; batches of {chosen.batch}, {threads} threads, load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'forward pass':16s} {forward:8.1f} samples/s")  # noqa: T201
    for name, rate in figures.items():
        print(f"{name:16s} {rate:8.0f} samples/s   {rate / forward:.0f} times as fast as the forward pass")  # noqa: T201
    if chosen.json:
        content = {"forward": forward, "reads": figures, "write_mb_s": size / 1e6 / writing, "open_s": opening}
        Path(chosen.json).write_text(
            json.dumps(content | {"options": vars(chosen), "threads": threads}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
