"""Images per second of `stego crop` and of a plain loop: `python tests/bench/bench_crop.py [--dataset DIR]`.

The loop is what anybody would write first: Pillow opens, crops and saves, one image after another. Ours is the whole
run, from looking at the folder to the written record. All take turns, so that the load of the machine hits all alike.
Never a test: it prints and does not fail.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from stego_cli.config.crops import CropsConfig
from stego_cli.config.load import load_config
from stego_cli.data.crops import crop_size, five_boxes
from stego_cli.engine.crop.run import make_crops
from stego_cli.progress import Silence

CAMVID = Path(__file__).parents[3] / "shared" / "data" / "camvid"


def drawn(root: Path, images: int, height: int, width: int) -> Path:
    """Write soft areas of colour with noise, and areas of classes, as JPEG and PNG."""
    chance = np.random.default_rng(0)
    for number in range(images):
        areas = chance.integers(0, 19, (height // 32 + 1, width // 32 + 1)).astype(np.uint8)
        labels = areas.repeat(32, 0).repeat(32, 1)[:height, :width]
        noise = chance.normal(scale=4, size=(height, width, 3))
        pixels = (labels[..., None] * 12.0 + noise).clip(0, 255).astype(np.uint8)
        for kind, content, name in (("imgs", pixels, f"{number}.jpg"), ("labels", labels, f"{number}.png")):
            (root / kind / "train").mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(root / kind / "train" / name)
    return root


def enlarged(source: Path, root: Path, images: int, height: int, width: int) -> Path:
    """Write images of a folder at another size."""
    for path in sorted((source / "imgs" / "train").iterdir())[:images]:
        for kind, name, how in (
            ("imgs", path.name, Image.Resampling.BICUBIC),
            ("labels", f"{path.stem}.png", Image.Resampling.NEAREST),
        ):
            (root / kind / "train").mkdir(parents=True, exist_ok=True)
            with Image.open(source / kind / "train" / name) as image:
                image.resize((width, height), how).save(root / kind / "train" / name, quality=92)
    return root


def repeated(source: Path, root: Path, times: int) -> Path:
    """Link the images of a folder several times, so that starting processes counts as little as in a large dataset."""
    for path in sorted((source / "imgs" / "train").iterdir()):
        for number in range(times):
            for kind, name in (("imgs", path.name), ("labels", f"{path.stem}.png")):
                place = root / kind / "train"
                place.mkdir(parents=True, exist_ok=True)
                (place / f"{number}_{name}").symlink_to((source / kind / "train" / name).resolve())
    return root


def plain_loop(source: Path, out: Path) -> None:
    """Crop as a script would."""
    for kind in ("img", "label"):
        (out / kind / "train").mkdir(parents=True)
    for index, path in enumerate(sorted((source / "imgs" / "train").iterdir())):
        with Image.open(path) as image:
            pixels = image.convert("RGB")
        with Image.open(source / "labels" / "train" / f"{path.stem}.png") as image:
            labels = Image.fromarray((np.asarray(image).astype(np.int64) + 1).astype(np.uint8))
        size = crop_size(pixels.height, pixels.width, 0.5)
        for place, box in enumerate(five_boxes(pixels.height, pixels.width, *size)):
            edges = (box.left, box.top, box.left + box.width, box.top + box.height)
            pixels.crop(edges).save(out / "img" / "train" / f"{5 * index + place}.jpg")
            labels.crop(edges).save(out / "label" / "train" / f"{5 * index + place}.png")


def ours(workers: int) -> Callable[[Path, Path], None]:
    def run(source: Path, out: Path) -> None:
        options = {"dataset": str(source), "out": out, "splits": ("train",), "workers": workers}
        make_crops(load_config(CropsConfig, options=options), Silence())

    return run


def measure(source: Path, rounds: int, workers: list[int], place: Path) -> None:
    images = len(list((source / "imgs" / "train").iterdir()))
    ways = {"plain loop": plain_loop, **{f"workers {count}": ours(count) for count in workers}}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            # Each in a folder of its own: ext4 is slow to make files where many were removed just before.
            out = Path(tempfile.mkdtemp(dir=place)) / "crops"
            begin = time.perf_counter()
            run(source, out)
            seconds[name].append(time.perf_counter() - begin)
    for name, times in seconds.items():
        ratio = statistics.median(slow / fast for slow, fast in zip(seconds["plain loop"], times, strict=True))
        rate, best = images / statistics.median(times), images / min(times)
        print(f"  {name:12s} {rate:7.1f} images/s (best {best:.1f}), {ratio:.2f} times the loop")  # noqa: T201


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--dataset", type=Path, default=CAMVID, help="Folder with `imgs/train` and `labels/train`.")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4])
    options.add_argument("--large", type=int, default=120, help="Images of 2048x1024; 0 for none.")
    options.add_argument("--times", type=int, default=4, help="How often the folder is taken.")
    chosen = options.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, medians of {chosen.rounds} rounds")  # noqa: T201
    with tempfile.TemporaryDirectory() as folder:
        place, source = Path(folder), chosen.dataset
        if not source.is_dir():
            source = drawn(place / "drawn", 200, 360, 480)
        many = repeated(source, place / "many", chosen.times)
        print(f"{source.name}, {chosen.times} times")  # noqa: T201
        measure(many, chosen.rounds, chosen.workers, place)
        if chosen.large:
            large = enlarged(source, place / "large", chosen.large, 1024, 2048)
            print(f"{source.name} at 2048x1024")  # noqa: T201
            measure(large, chosen.rounds, chosen.workers, place)


if __name__ == "__main__":
    main()
