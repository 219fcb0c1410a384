"""What `stego crop` has to do: which crops are there, which are missing, and how much space they take."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from stego_cli.data.crops import MOST_CLASSES, CropRule, label_png
from stego_cli.data.datasets.build import available_splits, open_dataset
from stego_cli.data.datasets.cropped import crops_folder
from stego_cli.engine.crop.files import IMAGES, LABELS, folder_of, names_of, sizes_in
from stego_cli.engine.crop.record import CropRecord, SplitRecord, read_record
from stego_cli.engine.crop.refusals import refuse_changed, refuse_foreign, refuse_other_settings, refuse_place
from stego_cli.errors import ImageError, OutputError, StegoError
from stego_cli.files import TEMPORARY, printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stego_cli.config.crops import CropsConfig
    from stego_cli.data.dataset import Dataset
    from stego_cli.engine.crop.record import CroppedImage

USUAL_SPLITS = ("train", "val")

_OURS = re.compile(r"\d+\.(jpg|jpeg|png)")
_SAMPLE = 8  # images that the space is estimated from
_BLOCK = 4096  # files take whole blocks
_LINE = 300  # bytes of an image in the list


@dataclass(frozen=True)
class SplitPlan:
    """What is to be done for one split.

    Attributes:
        dataset: The split.
        kept: Images whose crops are there and up to date.
        missing: Numbers of the images that are to be cut.
        stray: Files to remove: crops that are not in the record, and what a killed run left half written.
        stray_bytes: Their size.
    """

    dataset: Dataset
    kept: dict[int, CroppedImage]
    missing: tuple[int, ...]
    stray: tuple[Path, ...]
    stray_bytes: int


@dataclass(frozen=True)
class CropJob:
    """What is wanted.

    Attributes:
        config: The settings of the command.
        datasets: The images, by split.
        out: The folder of the crops.
        settings: What decides about their content, by name.
    """

    config: CropsConfig
    datasets: dict[str, Dataset]
    out: Path
    settings: dict[str, Any]

    @property
    def rule(self) -> CropRule:
        """Where the crops lie."""
        return CropRule(self.config.crop, self.config.crop_ratio, self.config.hash_rule)


@dataclass(frozen=True)
class CropPlan:
    """What is to be done.

    Attributes:
        job: What is wanted.
        splits: What is to be done for each split.
        others: Splits that are there and not asked for.
        record: What the folder says about itself; None if nothing, or nothing that is to stay.
    """

    job: CropJob
    splits: dict[str, SplitPlan]
    others: dict[str, SplitRecord]
    record: CropRecord | None

    @property
    def is_done(self) -> bool:
        """Whether nothing needs to be written at all."""
        if self.record is None or not self.record.finished or not self.splits.keys() <= self.record.splits.keys():
            return False
        same = all(self.record.splits[name].images == len(split.dataset) for name, split in self.splits.items())
        return same and not any(split.missing or split.stray for split in self.splits.values())

    def bytes_needed(self) -> int:
        """Estimate the space that the missing crops take, from a few of them."""
        return sum(_space(split, self.job.rule, self.job.config.quality) for split in self.splits.values())

    def bytes_free(self) -> int:
        """Return the space that there is, counting what is going to be removed."""
        there = next(folder for folder in (self.job.out, *self.job.out.parents) if folder.exists())
        return shutil.disk_usage(there).free + sum(split.stray_bytes for split in self.splits.values())


def open_job(config: CropsConfig) -> CropJob:
    """Find the images that are asked for, and the folder for their crops.

    Raises:
        StegoError: If the dataset or a split is not there, or has too many classes for crops.
        OutputError: If the crops would lie among the images.
    """
    datasets = _datasets(config)
    out = config.out or crops_folder(config, config.crop, config.crop_ratio)
    refuse_place(out, datasets.values())
    return CropJob(config, datasets, out, _settings(config, next(iter(datasets.values()))))


def plan_crops(job: CropJob) -> CropPlan:
    """Compare what is wanted with what is there. Writes nothing.

    Raises:
        OutputError: If the folder holds crops made in another way, from other images, or by another program.
    """
    overwrite = job.config.overwrite
    record = _record(job.out, overwrite=overwrite)
    refuse_other_settings(job.out, job.settings, record, job.datasets, overwrite=overwrite)
    splits = {}
    for split, dataset in job.datasets.items():
        known = record.splits.get(split) if record and not overwrite else None
        if not overwrite:
            refuse_foreign(job.out, split, known)
        splits[split] = _compare(job.out, dataset, known)
    others = {} if record is None else {name: one for name, one in record.splits.items() if name not in splits}
    return CropPlan(job, splits, others, None if overwrite else record)


def _datasets(config: CropsConfig) -> dict[str, Dataset]:
    """Open the splits to be cropped, themselves and not their crops."""
    whole = config.model_copy(update={"crop": None})
    splits = config.splits
    if splits is None:
        there = available_splits(whole)
        splits = tuple(split for split in USUAL_SPLITS if split in there) or there
    datasets = {split: open_dataset(whole, split) for split in dict.fromkeys(splits)}
    for dataset in datasets.values():
        if dataset.label_space is not None and len(dataset.label_space) > MOST_CLASSES:
            raise StegoError(
                f"label space `{dataset.label_space.name}` has {len(dataset.label_space)} classes; crops store them "
                f"in 8 bits, which is enough for {MOST_CLASSES}\n\nhint: train on whole images, without --crop"
            )
    return datasets


def _settings(config: CropsConfig, dataset: Dataset) -> dict[str, Any]:
    """Return what decides about the content of the crops, in words that people can compare."""
    code = repr((dataset.code.table, dataset.code.added)).encode()
    return {
        "dataset": printable(dataset.name),
        "crop": config.crop,
        "ratio": config.crop_ratio,
        "quality": config.quality,
        "hash_rule": config.hash_rule if config.crop == "random" else None,
        "label_space": dataset.label_space.name if dataset.label_space else None,
        "label_code": hashlib.sha256(code).hexdigest()[:8],
        "bands": list(config.bands) if config.bands else None,
    }


def _record(out: Path, *, overwrite: bool) -> CropRecord | None:
    """Read the record; one that is damaged does not keep anyone from starting anew."""
    try:
        return read_record(out)
    except OutputError:
        if overwrite:
            return None
        raise


def _compare(out: Path, dataset: Dataset, known: SplitRecord | None) -> SplitPlan:
    """Find out which crops of a split are there, without opening any.

    Raises:
        OutputError: If images have changed since their crops were made.
    """
    sizes = {kind: sizes_in(folder_of(out, kind, dataset.split)) for kind in (IMAGES, LABELS)}
    done = known.done if known else {}
    refuse_changed(out, dataset, done)
    kept = {index: image for index, image in done.items() if _is_whole(image, sizes)}
    expected = {
        kind: {name for index, image in kept.items() if _bytes_of(image, kind) for name in names_of(kind, index)}
        for kind in sizes
    }
    stray = {
        folder_of(out, kind, dataset.split) / name: size
        for kind, files in sizes.items()
        for name, size in files.items()
        if name not in expected[kind] and (_OURS.fullmatch(name) or name.startswith(TEMPORARY))
    }
    missing = tuple(index for index in range(len(dataset)) if index not in kept)
    return SplitPlan(dataset, kept, missing, tuple(stray), sum(stray.values()))


def _is_whole(image: CroppedImage, sizes: Mapping[tuple[str, str], Mapping[str, int]]) -> bool:
    """Say whether all files of an image are there with the sizes that were written."""
    return all(
        files.get(name) == size
        for kind, files in sizes.items()
        for name, size in zip(names_of(kind, image.index), _bytes_of(image, kind), strict=False)  # labels may be absent
    )


def _bytes_of(image: CroppedImage, kind: tuple[str, str]) -> tuple[int, ...]:
    return image.image_bytes if kind is IMAGES else image.label_bytes


def _space(split: SplitPlan, rule: CropRule, quality: int) -> int:
    """Estimate the space that the missing crops of a split take."""
    step = max(1, len(split.missing) // _SAMPLE)
    found = [
        size for index in split.missing[::step][:_SAMPLE] if (size := _space_of(split.dataset, index, rule, quality))
    ]
    return len(split.missing) * (sum(found) // len(found) + _LINE) if found else 0


def _space_of(dataset: Dataset, index: int, rule: CropRule, quality: int) -> int:
    """Return the space that the crops of one image take; 0 if it cannot be used."""
    total = 0
    try:
        pixels = dataset.image(index)
        class_ids = dataset.labels(index, pixels.shape[:2])
        for crop in rule.cut(pixels, class_ids, index, labelled=dataset.is_labelled):
            encoded = io.BytesIO()
            Image.fromarray(crop.pixels).save(encoded, "JPEG", quality=quality)
            labels = 0 if crop.labels is None else len(label_png(crop.labels))
            total += sum(-(-size // _BLOCK) * _BLOCK for size in (encoded.tell(), labels))
    except (ImageError, MemoryError):
        return 0
    return total
