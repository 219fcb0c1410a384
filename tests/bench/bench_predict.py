"""How fast prediction is beside the reference's order of work: `python tests/bench/bench_predict.py [--only PART,...]`.

Parts: `predict`, a folder of images to label maps of both probes with mirror averaging and CRF, against the reference
written as the baseline (attention materialised, a forward for the image and one for its mirror, the code upsampled for
each probe, a pool of four processes with pydensecrf for each probe), and beside that how fast anything in fp32 could be
at best: the time that the two forwards alone take at the machine's measured matrix-multiply rate; `backbone`, the share
of that rate that the network reaches; `startup`; `seams`, what windows change; `precision`, how many pixels bfloat16
changes. Weights are random. Never a test: it prints and does not fail on time.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from stego_cli.checkpoints.native import Checkpoint, save_checkpoint
from stego_cli.config.crf import CrfParameters
from stego_cli.config.model import ModelConfig, StegoConfig, VitConfig
from stego_cli.config.predict import PredictConfig
from stego_cli.crf.base import resize_bilinear
from stego_cli.crf.reference import ReferenceCrf
from stego_cli.data.images import read_image
from stego_cli.data.labels import load_label_space
from stego_cli.data.views import apply, normalise, restore_labels
from stego_cli.engine.predict import predict_folder
from stego_cli.probes.kmeans import spherical_kmeans
from stego_cli.probes.linear import fit_linear_probe
from stego_cli.progress import Silence
from stego_cli.report.masks import read_label_png, write_label_png
from stego_cli.segmenter import Segmenter, Settings

CLASSES = 27
SIDE = 320
PROBES = ("cluster", "linear")
SETTINGS = Settings(PROBES, resolution=SIDE, crf=CrfParameters())
POOL = 4
COMMANDS = (
    "", "predict", "fit", "train", "eval", "info", "crop", "knn build", "features build", "download", "convert",
    "ablate run", "pretrain",
)  # fmt: skip
SQUARES = (1024, 2048, 4096)
REPOSITORY = Path(__file__).parents[2]
SAMPLES = REPOSITORY / "stego_cli" / "assets" / "samples"

Rows = list[tuple[str, str]]
Part = tuple[Rows, dict[str, Any]]


def scenes(folder: Path, count: int, side: int = SIDE) -> list[Path]:
    """Write images of soft areas with noise."""
    random, paths = np.random.default_rng(0), []
    for index in range(count):
        areas = resize_bilinear(random.uniform(0, 255, (3, 9, 9)).astype(np.float32), side, side).transpose(1, 2, 0)
        pixels = (areas + random.normal(scale=1, size=areas.shape)).clip(0, 255).astype(np.uint8)
        paths.append(folder / f"{index}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def network(backbone: str) -> Segmenter:
    """Return a model with random weights, whose probes tell apart what its codes of the sample photographs tell."""
    torch.manual_seed(0)
    config = ModelConfig(
        backbone=VitConfig(name=backbone),
        method=StegoConfig(),
        num_clusters=CLASSES,
        label_space=load_label_space("cocostuff27"),
        resolution=SIDE,
    )
    model = Segmenter(config)
    for name, values in model.named_parameters():  # models are built without weights
        if values.ndim > 1:
            torch.nn.init.normal_(values.data, std=0.02)
        else:
            values.data.fill_(float(name.endswith("weight")))
    images = normalise(np.stack(squares(SAMPLES.glob("*.jpg"), SIDE)[:3]), model.backbone.mean, model.backbone.std)
    with torch.inference_mode():
        codes = model.eval().code(images, mirror=True).movedim(1, -1).flatten(0, 2)
    points = functional.normalize(codes.clone(), dim=1)
    clusters = spherical_kmeans(points[::5], CLASSES, seed=0, restarts=2).centroids
    model.cluster_probe.centroids.data.copy_(clusters)
    fitted = fit_linear_probe(codes.clone()[::5], (points[::5] @ clusters.T).argmax(1), CLASSES, iterations=30)
    model.linear_probe = fitted
    return model


def squares(paths: Any, side: int) -> list[np.ndarray]:
    return [np.asarray(Image.open(path).convert("RGB").resize((side, side))) for path in sorted(paths)]


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def by_turns(works: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Return the median seconds of each; by turns, so that the load of the machine hits all."""
    for work in works.values():
        work()  # what is done once is not counted
    times = [[seconds(work) for work in works.values()] for _ in range(runs)]
    return dict(zip(works, map(statistics.median, zip(*times, strict=True)), strict=True))


# --- predict ---------------------------------------------------------------------------------------------------------


class Reference:
    """The reference's order of work, with a clock for each stage."""

    def __init__(self, model: Segmenter, out: Path, batch_size: int, pool: Pool) -> None:
        self.model = copy.deepcopy(model)
        for block in self.model.backbone.network.blocks:
            block.attn.fused_attn = False  # softmax(q k) v, with the matrix in memory
        self.out = out
        self.batch_size = batch_size
        self.pool = pool
        self.crf = ReferenceCrf(CrfParameters())
        self.spent: dict[str, float] = {}

    @torch.inference_mode()
    def __call__(self, paths: list[Path]) -> None:
        self.spent = {}
        for start in range(0, len(paths), self.batch_size):
            self._batch(paths[start : start + self.batch_size])

    def _batch(self, paths: list[Path]) -> None:
        model, clock = self.model, time.perf_counter()
        loaded = [read_image(path).pixels for path in paths]
        found = [model.view(*pixels.shape[:2], SETTINGS) for pixels in loaded]
        working = [apply(view, pixels) for view, pixels in zip(found, loaded, strict=True)]
        images = normalise(np.stack(working), model.backbone.mean, model.backbone.std).to(model.device)
        clock = self._step("read", clock)
        straight = model.head(model.backbone(images))
        code = (straight + model.head(model.backbone(images.flip(3))).flip(3)) / 2
        clock = self._step("two forwards", clock)
        said = {probe: self._log_probs(code, probe, images.shape[-2:]).cpu().numpy() for probe in PROBES}
        clock = self._step("probes", clock)
        for probe, maps in said.items():
            tasks = [(image, [scores]) for image, scores in zip(working, maps, strict=True)]
            refined = self.pool.starmap(self.crf.refine, tasks)
            clock = self._step("CRF", clock)
            for path, view, (scores,) in zip(paths, found, refined, strict=True):
                labels = restore_labels(view, scores)[0]
                write_label_png(self.out / f"{path.stem}_{probe}.png", labels, model.label_space(probe))
            clock = self._step("write", clock)

    def _log_probs(self, code: torch.Tensor, probe: Any, size: Any) -> torch.Tensor:
        code = functional.interpolate(code, size, mode="bilinear", align_corners=False)
        return self.model.log_probs(code, probe)

    def _step(self, stage: str, since: float) -> float:
        now = time.perf_counter()
        self.spent[stage] = self.spent.get(stage, 0.0) + now - since
        return now


def stages(model: Segmenter, path: Path, folder: Path) -> dict[str, float]:
    """Return what each stage of ours takes for one image on one core, in seconds."""
    pixels = read_image(path).pixels
    view = model.view(*pixels.shape[:2], SETTINGS)
    working = apply(view, pixels)
    bare = replace(SETTINGS, crf=None)
    images = normalise(working, model.backbone.mean, model.backbone.std).to(model.device)
    scored, before = model.scores([working], bare)[0], torch.get_num_threads()
    maps = model.answer(scored, working, view, bare)
    with torch.inference_mode():
        code = model.code(images, mirror=True)

        def write() -> None:
            for probe, said in maps.items():
                write_label_png(folder / f"{probe}.png", said.label_map, model.label_space(probe))

        torch.set_num_threads(1)
        try:
            times = by_turns(
                {
                    "read": lambda: apply(view, read_image(path).pixels),
                    "network": lambda: model.code(images, mirror=True),
                    "probes": lambda: [model.log_probs(code, probe, view.size).cpu() for probe in PROBES],
                    "labels": lambda: model.answer(scored, working, view, bare),
                    "CRF and labels": lambda: model.answer(scored, working, view, SETTINGS),
                    "write": write,
                },
                3,
            )
        finally:
            torch.set_num_threads(before)
    times["CRF"] = times.pop("CRF and labels") - times["labels"]
    return times


def predict_part(model: Segmenter, chosen: argparse.Namespace, folder: Path) -> Part:
    """Time a whole run over a folder of images, from files to files."""
    paths, file = scenes(folder, chosen.images), folder / "model.safetensors"
    tensors = {name.replace("backbone.network.", "backbone."): values for name, values in model.state_dict().items()}
    save_checkpoint(Checkpoint(model.config, tensors), file)
    moved = model.to(chosen.device)
    config = PredictConfig(
        model=str(file),
        out=folder / "ours",
        probe="both",
        save=("labels",),
        crf=True,
        overwrite=True,
        device=chosen.device,
        precision=chosen.precision,
        batch_size=chosen.batch_size,
    )
    with multiprocessing.get_context("spawn").Pool(POOL) as pool:
        tiny = np.zeros((8, 8, 3), np.uint8), [np.zeros((2, 8, 8), np.float32)]
        pool.starmap(ReferenceCrf(CrfParameters()).refine, [tiny] * POOL)  # imports, before the clock
        theirs = Reference(moved, folder, chosen.batch_size, pool)
        works: dict[str, Callable[[], object]] = {
            "reference": lambda: theirs(paths),
            "ours": lambda: predict_folder(config, list(paths), Silence()),
            "ours, no CRF": lambda: predict_folder(
                config.model_copy(update={"crf": False, "out": folder / "bare"}), list(paths), Silence()
            ),
        }
        with products(torch.device(chosen.device)) as (multiply, sizes):
            times = by_turns(works | multiply, chosen.runs)
        rate = max(sizes[name] / times.pop(name) for name in sizes)
    per_image = {name: spent / len(paths) for name, spent in theirs.spent.items()}
    equal = agreement(folder, paths)
    ours = stages(moved, paths[0], folder)
    ratio = times["reference"] / times["ours"]
    least = operations(model, 2) / rate
    most = times["reference"] / len(paths) / least
    at_best = f"two forwards at {rate / 1e9:.0f} GFLOP/s: {least:.2f} s per image, {most:.2f} times as fast"
    rows = [
        *((f"predict, {name}", f"{len(paths) / spent:7.2f} images/s") for name, spent in times.items()),
        ("ours beside reference", f"{ratio:7.2f} times as fast, {100 * equal:.3f} % of pixels equal"),
        ("anything in fp32, at best", at_best),
        ("reference, s per image", ", ".join(f"{name} {spent:.2f}" for name, spent in per_image.items())),
        ("ours, s per image on one core", ", ".join(f"{name} {spent:.3f}" for name, spent in ours.items())),
    ]
    rates = {f"{name} images/s": len(paths) / spent for name, spent in times.items()}
    bound = {"GFLOP/s": rate / 1e9, "s per image": least, "ratio": most}
    parts = {"reference s": per_image, "ours s on one core": ours}
    return rows, {**rates, "ratio": ratio, "equal": equal, "bound in fp32": bound, **parts}


def agreement(folder: Path, paths: list[Path]) -> float:
    """Return the share of pixels for which both say the same."""
    same = []
    for path in paths:
        for probe, place in (("cluster", "labels"), ("linear", "labels_linear")):
            one = read_label_png(folder / "ours" / place / f"{path.stem}.png")
            same.append((one == read_label_png(folder / f"{path.stem}_{probe}.png")).mean())
    return float(np.mean(same))


# --- backbone --------------------------------------------------------------------------------------------------------


def operations(model: Segmenter, images: int) -> float:
    """Return the multiplications and additions of a vision transformer's matrix products, from their real shapes."""
    network: Any = model.backbone.network
    patches = (SIDE // model.backbone.patch_size) ** 2
    tokens = patches + network.num_prefix_tokens
    found = 2.0 * patches * network.patch_embed.proj.weight.numel()
    for block in network.blocks:
        linear = [layer.weight.numel() for layer in block.modules() if isinstance(layer, torch.nn.Linear)]
        width = block.attn.num_heads * block.attn.head_dim
        found += 2.0 * tokens * sum(linear) + 4.0 * tokens**2 * width  # then queries by keys, and that by values
    return images * found


def waited(work: Callable[[], object], device: torch.device) -> Callable[[], object]:
    def run() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


@contextmanager
def products(device: torch.device) -> Iterator[tuple[dict[str, Callable[[], object]], dict[str, float]]]:
    """Give plain matrix products in fp32 and the operations of each; on a CPU also one for each core."""
    cores = torch.get_num_threads()
    works: dict[str, Callable[[], object]] = {}
    sizes: dict[str, float] = {}
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for side in SQUARES:
            square = torch.randn(side, side, device=device)
            works[f"product {side}"] = waited(lambda square=square: square @ square, device)
            sizes[f"product {side}"] = 2.0 * side**3
        if device.type == "cpu":
            side = SQUARES[1]
            square = torch.randn(side, side)
            works["product on each core"] = lambda: list(pool.map(lambda _: square @ square, range(cores)))
            sizes["product on each core"] = 2.0 * side**3 * cores
        yield works, sizes
    torch.set_num_threads(cores)  # what threads that are started later begin with


def backbone_part(model: Segmenter, chosen: argparse.Namespace) -> Part:
    """Compare the rate of the network's forward with that of plain matrix products."""
    device, cores = torch.device(chosen.device), torch.get_num_threads()
    model = model.to(device)
    with torch.inference_mode(), products(device) as (works, work):
        for count in (2, 4, 8):
            images = torch.randn(count, 3, SIDE, SIDE, device=device)
            works[f"forward {count}"] = waited(lambda images=images: model.code(images), device)
            work[f"forward {count}"] = operations(model, count)
        pool = ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,))
        if device.type == "cpu":
            pair = torch.randn(2, 3, SIDE, SIDE)
            works["a pair on each core"] = lambda: list(pool.map(in_thread(model, pair), range(cores)))
            work["a pair on each core"] = operations(model, 2 * cores)
        times = by_turns(works, chosen.runs)
        pool.shutdown()
    rates = {name: work[name] / spent / 1e9 for name, spent in times.items()}
    ceiling = max(rate for name, rate in rates.items() if name.startswith("product"))
    forward = {name: rate / ceiling for name, rate in rates.items() if not name.startswith("product")}
    rows = [("matrix products, fp32", f"{ceiling:7.0f} GFLOP/s")]
    rows += [(f"backbone, {name}", f"{rates[name]:7.0f} GFLOP/s, {100 * part:.0f} %") for name, part in forward.items()]
    return rows, {"GFLOP/s": rates, "share of products": forward}


def in_thread(model: Segmenter, images: torch.Tensor) -> Callable[[int], object]:
    def run(_: int) -> object:
        with torch.inference_mode():
            return model.code(images)

    return run


# --- start-up --------------------------------------------------------------------------------------------------------


def startup_part(chosen: argparse.Namespace, folder: Path) -> Part:
    """Time whole processes: help, and one image with the embedded model beside importing torch."""
    environment = os.environ | {"STEGO_HOME": str(folder / "home")}

    def process(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *arguments], env=environment, check=True, capture_output=True)

    def one(*more: str) -> Callable[[], object]:
        command = ["-m", "stego_cli", "predict", str(SAMPLES / "cat.jpg"), "--model", "embedded", "--overwrite"]
        return process(*command, "--out", str(folder / "one"), *more)

    helps = {f"stego {name} --help": process("-m", "stego_cli", *name.split(), "--help") for name in COMMANDS}
    works = {"import torch": process("-c", "import torch"), "predict": one(), "predict --crf": one("--crf")}
    times = by_turns(helps | works, max(chosen.runs, 3))
    slowest = max(helps, key=times.__getitem__)
    more = {name: times[name] - times["import torch"] for name in ("predict", "predict --crf")}
    rows = [
        ("slowest help", f"{times[slowest]:7.3f} s  ({slowest})"),
        ("import torch", f"{times['import torch']:7.3f} s"),
    ]
    rows += [(f"stego {name}, one image", f"{spent:7.3f} s more than that") for name, spent in more.items()]
    return rows, {"seconds": times, "more than torch": more}


# --- seams and precision ---------------------------------------------------------------------------------------------


def label_maps(model: Segmenter, image: np.ndarray, settings: Settings) -> dict[str, np.ndarray]:
    view = model.view(*image.shape[:2], settings)
    return {p: said.label_map for p, said in model.segment([apply(view, image)], [view], settings)[0].items()}


def seams_part(model: Segmenter) -> Part:
    """Compare images of 640x640 seen in windows with the same seen whole, along the edges of windows and elsewhere."""
    side, tile = 2 * SIDE, SIDE
    photographs = squares(SAMPLES.glob("*.jpg"), side)[:3]
    whole = replace(SETTINGS, crf=None, resolution=side)
    edges = np.zeros((side, side), bool)
    for edge in (160, 320, 480):  # windows begin at 0, 160 and 320 and end at 320, 480 and 640
        edges[edge - 8 : edge + 8] = edges[:, edge - 8 : edge + 8] = True
    rows: Rows = []
    figures: dict[str, Any] = {}
    for probe in PROBES:
        at_edges, elsewhere = [], []
        for image in photographs:
            one, other = (label_maps(model, image, how)[probe] for how in (whole, replace(whole, tile=tile)))
            at_edges.append(float((one != other)[edges].mean()))
            elsewhere.append(float((one != other)[~edges].mean()))
        mean, most = statistics.mean(at_edges), max(at_edges)
        figures[probe] = {"along edges": mean, "most along edges": most, "elsewhere": statistics.mean(elsewhere)}
        said = f"{100 * mean:.1f} % (most {100 * most:.1f} %), elsewhere {100 * figures[probe]['elsewhere']:.1f} %"
        rows.append((f"windows of {tile} in {side}, {probe}", f"labels that differ along edges {said}"))
    return rows, figures


def precision_part(model: Segmenter) -> Part:
    """Compare bfloat16 with float32, label by label."""
    images = squares(SAMPLES.glob("*.jpg"), SIDE)[3:6]  # not those that the probes were fitted to
    plain = replace(SETTINGS, crf=None)
    equal: dict[str, list[float]] = {probe: [] for probe in PROBES}
    for image in images:
        one, other = (label_maps(model, image, how) for how in (plain, replace(plain, autocast=torch.bfloat16)))
        for probe in PROBES:
            equal[probe].append(float((one[probe] == other[probe]).mean()))
    figures = {probe: statistics.mean(values) for probe, values in equal.items()}
    return [(f"bf16 as fp32, {probe}", f"{100 * value:7.2f} % of pixels") for probe, value in figures.items()], figures


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", default="predict,backbone,startup,seams,precision", metavar="PART,...")
    options.add_argument("--backbone", default="dino_vits8_300ep", help="A vision transformer of one of the presets.")
    options.add_argument("--images", type=int, default=8)
    options.add_argument("--batch-size", type=int, default=8)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--device", default="cpu")
    options.add_argument("--precision", default="fp32", help="Of ours; the reference computes in fp32.")
    options.add_argument("--json", type=Path, metavar="FILE", help="Write the figures there as well.")
    chosen = options.parse_args()
    wanted = chosen.only.split(",")
    machine = (
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    content: dict[str, Any] = {"machine": machine, "load": os.getloadavg()[0], "options": vars(chosen) | {"json": None}}
    print(f"{chosen.backbone}, {SIDE}, {chosen.device}, {machine}, load {os.getloadavg()[0]:.1f}")  # noqa: T201
    with tempfile.TemporaryDirectory() as name:
        for part, (rows, figures) in parts(wanted, chosen, Path(name)):
            content[part] = figures
            for what, said in rows:
                print(f"{what:34s} {said}", flush=True)  # noqa: T201
    if chosen.json:
        chosen.json.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def parts(wanted: list[str], chosen: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Part]]:
    """Run the parts that are wanted, one after another."""
    model = network(chosen.backbone) if set(wanted) - {"startup"} else None
    if "startup" in wanted:
        yield "startup", startup_part(chosen, folder)
    if model is None:
        return
    if "seams" in wanted:
        yield "seams", seams_part(model)
    if "precision" in wanted:
        yield "precision", precision_part(model)
    if "backbone" in wanted:
        yield "backbone", backbone_part(model, chosen)
    if "predict" in wanted:
        yield "predict", predict_part(model, chosen, folder)


if __name__ == "__main__":
    main()
