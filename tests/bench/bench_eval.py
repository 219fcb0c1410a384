"""How fast a whole evaluation with CRF is beside the reference's order of work: `python tests/bench/bench_eval.py`.

The reference reads each image, runs the network over the image and then over its mirror, brings the code to the size
of the labels for each probe, sends image and probabilities of each probe through a pool of processes that run
pydensecrf, and counts. Ours runs image and mirror as one batch, and one CRF for both probes. Both take the same random
network, images and labels by turns, and are compared: the counts must agree to a few pixels. The pool is started before
the clock. The CRF alone is measured by `bench_crf.py`. Never a test: it prints and does not fail on time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from stego_cli.config.crf import CrfParameters
from stego_cli.config.evaluate import EvalConfig
from stego_cli.config.model import DinoConfig, FilterbankConfig, ModelConfig, StegoConfig, VitConfig
from stego_cli.crf.base import resize_bilinear, seen_by_crf
from stego_cli.crf.reference import ReferenceCrf
from stego_cli.data.dataset import Dataset, Sample
from stego_cli.data.datasets.build import open_dataset
from stego_cli.data.labels import load_label_space
from stego_cli.data.views import apply, apply_to_labels, normalise
from stego_cli.engine.evaluate.counts import count_all
from stego_cli.engine.measure import Pass
from stego_cli.metrics.confusion import ConfusionMatrix
from stego_cli.progress import Silence
from stego_cli.segmenter import PAPER_ALPHA, Segmenter, Settings

CLASSES = 27
SETTINGS = Settings(("cluster", "linear"), "paper")
STAGES = ("read", "network and probes", "CRF", "count")


def scenes(folder: Path, count: int) -> Dataset:
    """Write images of soft areas with noise, and label maps, of the size of CocoStuff's."""
    random, samples = np.random.default_rng(0), []
    for index in range(count):
        areas = resize_bilinear(random.uniform(0, 255, (3, 9, 9)).astype(np.float32), 480, 640).transpose(1, 2, 0)
        pixels = (areas + random.normal(scale=1, size=areas.shape)).clip(0, 255).astype(np.uint8)
        labels = np.kron(random.integers(0, CLASSES, (6, 8)), np.ones((80, 80))).astype(np.uint8)
        image, label = folder / f"{index}.jpg", folder / f"{index}.png"
        Image.fromarray(pixels).save(image)
        Image.fromarray(labels).save(label)
        samples.append(Sample(image.name, image, label))
    return Dataset("scenes", "scenes", "val", folder, tuple(samples))


def photographs(folder: str, count: int) -> Dataset:
    """Return labelled photographs, spread over a folder's val split."""
    dataset = open_dataset(EvalConfig(dataset=folder), "val")
    return replace(dataset, samples=dataset.samples[:: max(1, len(dataset) // count)][:count])


def network(backbone: str, device: str) -> Segmenter:
    """Return a model with random weights."""
    torch.manual_seed(0)
    config = ModelConfig(
        backbone=FilterbankConfig() if backbone == "filterbank" else VitConfig(name=backbone),
        method=DinoConfig() if backbone == "filterbank" else StegoConfig(),
        num_clusters=CLASSES,
        label_space=load_label_space("cocostuff27"),
    )
    model = Segmenter(config)
    for name, values in model.named_parameters():  # models are built without weights
        if values.ndim > 1:
            torch.nn.init.normal_(values.data, std=0.02)
        else:
            values.data.fill_(float(name.endswith("weight")))
    return model.eval().to(device)


def one_crf(task: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """What a process of the pool does: one image, one probe."""
    return ReferenceCrf(CrfParameters()).refine(task[0], [task[1]])[0]


@torch.inference_mode()
def reference(
    model: Segmenter, dataset: Dataset, batch_size: int, pool: Pool
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Evaluate in the reference's order; return the counts and the seconds of each stage."""
    counts = {probe: ConfusionMatrix(CLASSES, CLASSES) for probe in SETTINGS.probes}
    spent = dict.fromkeys(STAGES, 0.0)
    for start in range(0, len(dataset), batch_size):
        clock = time.perf_counter()
        images, labels, guides = [], [], []
        for index in range(start, min(start + batch_size, len(dataset))):
            pixels = dataset.image(index)
            view = model.view(*pixels.shape[:2], SETTINGS)
            images.append(normalise(apply(view, pixels), model.backbone.mean, model.backbone.std)[0])
            labels.append(apply_to_labels(view, dataset.labels(index, pixels.shape[:2])))
            guides.append(seen_by_crf(images[-1].numpy(), model.backbone.mean, model.backbone.std))
        batch, clock = torch.stack(images).to(model.device), step(spent, "read", clock)
        code = (model.code(batch) + model.code(batch.flip(3)).flip(3)) / 2
        code = functional.interpolate(code, batch.shape[2:], mode="bilinear", align_corners=False)
        said = {probe: model.log_probs(code, probe, None, PAPER_ALPHA).cpu().numpy() for probe in SETTINGS.probes}
        clock = step(spent, "network and probes", clock)
        refined = {probe: pool.map(one_crf, list(zip(guides, maps, strict=True))) for probe, maps in said.items()}
        clock = step(spent, "CRF", clock)
        for probe, maps in refined.items():
            counts[probe].update(torch.from_numpy(np.stack(maps).argmax(1)), torch.from_numpy(np.stack(labels)))
        step(spent, "count", clock)
    return {probe: each.counts for probe, each in counts.items()}, spent


def step(spent: dict[str, float], stage: str, since: float) -> float:
    now = time.perf_counter()
    spent[stage] += now - since
    return now


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--backbone", default="dino_vits8_300ep", help="filterbank, or a vision transformer.")
    options.add_argument("--images", type=int, default=16)
    options.add_argument("--batch-size", type=int, default=8)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--device", default="cpu")
    options.add_argument("--dataset", help="Labelled folder whose val images are used in place of drawn scenes.")
    options.add_argument("--processes", type=int, help="Size of the pool; by default as many as we have threads.")
    options.add_argument("--json", type=Path, metavar="FILE", help="Write the figures there as well.")
    chosen = options.parse_args()
    processes = chosen.processes or torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(processes) as pool:
        dataset = photographs(chosen.dataset, chosen.images) if chosen.dataset else scenes(Path(folder), chosen.images)
        model = network(chosen.backbone, chosen.device)
        tiny = np.zeros((8, 8, 3), np.uint8), np.zeros((2, 8, 8), np.float32)
        pool.map(one_crf, [tiny] * processes)  # imports, before the clock
        work = Pass(model, SETTINGS, CLASSES, chosen.batch_size, 2, CrfParameters())
        count_all(work, dataset, Silence())  # compiles the CRF
        rows = []
        for _ in range(chosen.runs):  # by turns: the load of the machine hits all
            stages: dict[str, float] = {}
            ours = seconds(lambda: count_all(work, dataset, Silence()))
            theirs = seconds(lambda: stages.update(reference(model, dataset, chosen.batch_size, pool)[1]))  # noqa: B023
            rows.append((theirs, ours, *(stages[name] for name in STAGES)))
        theirs, ours, *parts = (statistics.median(column) for column in zip(*rows, strict=True))
        mine = count_all(work, dataset, Silence()).counts
        differ = sum(
            int((mine[f"{probe}_crf"] - counts).abs().sum()) // 2
            for probe, counts in reference(model, dataset, chosen.batch_size, pool)[0].items()
        )
    print(  # noqa: T201
        f"{chosen.images} images, {chosen.backbone}, 320, {chosen.device}, {torch.get_num_threads()} threads, pool of "
        f"{processes}, load {os.getloadavg()[0]:.1f}\n"
        f"reference order, CRF only        {theirs:7.2f} s   "
        f"({', '.join(f'{name} {part:.2f}' for name, part in zip(STAGES, parts, strict=True))})\n"
        f"ours, with and without CRF       {ours:7.2f} s   {theirs / ours:.2f} times as fast\n"
        f"pixels that differ: {differ} of {2 * chosen.images * 320 * 320}"
    )
    if chosen.json:
        figures = {"reference s": theirs, "ours s": ours, "ratio": theirs / ours, "pixels that differ": differ}
        content = figures | {"reference stages s": dict(zip(STAGES, parts, strict=True)), "images": chosen.images}
        chosen.json.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
