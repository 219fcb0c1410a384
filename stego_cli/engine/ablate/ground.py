"""What all cells of one dataset and one backbone share, computed once: features, neighbours, shifts, maps to measure.

The process that plans computes it; the processes that work on cells open what is there. Features are read from the
disk, whose pages the system shares between processes, unless there is memory for a copy in each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from stego_cli.engine.ablate.validation import Looked, bad_labels, build_maps, groups_of, missing_images
from stego_cli.engine.backbone_run import fingerprint, store_place
from stego_cli.engine.device import choose_device
from stego_cli.engine.train.data import LabelMaps
from stego_cli.engine.train.features import DTYPES
from stego_cli.engine.train.ranks import Ranks
from stego_cli.engine.train.setup import make_plan, make_yardstick
from stego_cli.errors import StegoError
from stego_cli.features.fingerprint import image_list_hash
from stego_cli.features.memory import fits_in_memory
from stego_cli.features.store import FeatureStore
from stego_cli.files import printable

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from stego_cli.config.ablate import AblateConfig
    from stego_cli.config.losses import LossConfig
    from stego_cli.config.model import BackboneConfig
    from stego_cli.data.dataset import Dataset
    from stego_cli.engine.ablate.validation import Group
    from stego_cli.engine.train.batches import Supply
    from stego_cli.engine.train.data import Numbers, Square
    from stego_cli.engine.train.measure import Yardstick
    from stego_cli.engine.train.setup import Plan
    from stego_cli.features.reader import FeatureReader
    from stego_cli.progress import Report


@dataclass(frozen=True)
class Ground:
    """One dataset and one backbone, as the plan knows them; can be sent to another process.

    Attributes:
        dataset: As it was typed.
        backbone: Its settings.
        name: Short, such as `camvid/filterbank`.
        learns: Whether a head is trained here, which takes neighbours and shifts.
        loss: Of that training; None until it is known.
    """

    dataset: str
    backbone: BackboneConfig
    name: str
    learns: bool
    loss: LossConfig | None = None


@dataclass(frozen=True)
class OpenGround:
    """A ground, opened.

    Attributes:
        ground: Which.
        plan: Training images, backbone and classes.
        supply: What training steps are made from.
        labels: All labels of the training images; those of `supply` may be thinned out.
        look: How images that are measured are looked at.
        groups: These images, by size.
        device: Where to compute.
    """

    ground: Ground
    plan: Plan
    supply: Supply
    labels: LabelMaps | None
    look: Looked
    groups: tuple[Group, ...]
    device: torch.device

    @property
    def features(self) -> FeatureReader:
        """Features of the training images."""
        if self.supply.features is None:
            raise AssertionError("a grid always keeps features")
        return self.supply.features


class ThinLabels(LabelMaps):
    """Labels of training images, every so manieth row and column of them."""

    def __init__(self, dataset: Dataset, square: Square, classes: int, report: Report, stride: int) -> None:
        super().__init__(dataset, square, classes, report)
        self._stride = stride

    def read(self, images: Numbers) -> NDArray[Any]:
        """Return labels of images, (n, side / stride, side / stride); each is that of the middle of its cell."""
        step = slice(self._stride // 2, None, self._stride)
        return super().read(images)[:, step, step]


def plan_ground(config: AblateConfig, ground: Ground, report: Report) -> Plan:
    """Open a ground's dataset and backbone; compute and write nothing.

    Raises:
        StegoError: If the dataset, its labels, the weights or the settings do not allow the grid.
    """
    plan = make_plan(_training(config, ground), report)
    dataset = plan.run.dataset
    if not dataset.is_labelled or plan.validation is None:
        split = config.val_split if dataset.is_labelled else dataset.split
        raise StegoError(
            f"`{printable(dataset.root)}` has no label maps for `{split}`, so cells cannot be compared\n\n"
            f"hint: put a PNG for each image, of the same name, into `labels/{split}/`, or choose another --dataset"
        )
    return plan


def _training(config: AblateConfig, ground: Ground) -> Any:
    train = config.for_ground(ground.dataset, ground.backbone)
    if ground.loss is not None:
        return train.model_copy(update={"loss": ground.loss, "shifts": "given"})
    if not ground.learns:
        return train.model_copy(update={"loss": without_head(train.loss), "shifts": "given"})
    return train


def without_head(loss: LossConfig) -> LossConfig:
    """Return the loss of a training in which probes alone learn."""
    return loss.model_copy(
        update={"correspondence_weight": 0.0, "rec_weight": 0.0, "aug_weight": 0.0, "crf_weight": 0.0}
    )


def look_of(config: AblateConfig, plan: Plan) -> Looked:
    """Return how the images that are measured are looked at."""
    if plan.validation is None:
        raise AssertionError("a ground without validation images was not refused")
    how = plan.config.model_copy(
        update={
            "split": config.val_split,
            "resolution": config.train.eval_resolution,
            "batch_size": config.batch_size,
            "crop": None,
        }
    )
    run = replace(plan.run, config=how, dataset=plan.validation)
    return Looked(run, config.mirror, DTYPES[config.train.dtype])


def provenance_of(config: AblateConfig, plan: Plan) -> dict[str, Any]:
    """Return what results depend on beside settings: images and weights."""
    dataset = look_of(config, plan).run.dataset
    made = fingerprint(plan.run, "maps", DTYPES[plan.config.dtype])
    return {
        "images": made.count,
        "images_sha256": made.images,
        "measured": sum(sample.label is not None for sample in dataset.samples),
        "measured_sha256": image_list_hash(dataset),
        "backbone_sha256": made.weights,
    }


def prepare_ground(config: AblateConfig, ground: Ground, plan: Plan, report: Report) -> OpenGround:
    """Compute what is not there yet, and return the ground, opened, with the loss that its heads are trained with.

    Raises:
        StegoError: If something cannot be computed or written.
    """
    device = choose_device(config.device)
    yardstick, loss = make_yardstick(plan, Ranks(device), report)
    look = look_of(config, plan)
    groups = groups_of(look, report)
    build_maps(look, groups, report)
    for group in groups:
        for line in bad_labels(group):
            report.warn(line)
    supply, labels = _supply(config, plan, yardstick, 1, report)
    known = replace(ground, loss=loss)
    return OpenGround(known, plan, replace(supply, loss=loss), labels, look, tuple(groups), device)


def open_ground(config: AblateConfig, ground: Ground, device: torch.device, jobs: int, report: Report) -> OpenGround:
    """Open a ground that was prepared.

    Args:
        config: Settings of the grid.
        ground: Which.
        device: Where its cells compute.
        jobs: How many processes do this.
        report: Told what is done.
    """
    config = config.model_copy(update={"device": str(device)})
    plan = plan_ground(config, ground, report)
    yardstick, _ = make_yardstick(plan, Ranks(device), report)
    supply, labels = _supply(config, plan, yardstick, jobs, report)
    look = look_of(config, plan)
    return OpenGround(ground, plan, supply, labels, look, tuple(groups_of(look, report)), device)


def _supply(
    config: AblateConfig, plan: Plan, yardstick: Yardstick, jobs: int, report: Report
) -> tuple[Supply, LabelMaps | None]:
    """Return what training steps are made from, and the labels as they were before they were thinned out."""
    supply, labels, stride = yardstick.supply, yardstick.supply.labels, config.train.label_stride
    if isinstance(supply.features, FeatureStore) and fits_in_memory(2 * jobs * plan.bytes):
        supply = replace(supply, features=supply.features.in_memory())
    if labels is not None and stride > 1:
        thin = ThinLabels(plan.run.dataset, supply.square, len(plan.space), report, stride)
        supply = replace(supply, labels=thin)
    return supply, labels


def images_to_see(config: AblateConfig, plan: Plan, report: Report) -> tuple[int, int]:
    """Return how many images of training, and to be measured, the backbone has not seen yet."""
    run = plan.run
    try:
        store = FeatureStore.open(
            store_place(run.config, run.dataset, "maps"),
            fingerprint(run, "maps", DTYPES[plan.config.dtype]),
            allow_partial=True,
        )
        missing = len(store) - store.count_done
    except StegoError:  # not there, or of something else
        missing = len(run.dataset)
    look = look_of(config, plan)
    return missing, missing_images(groups_of(look, report)) * look.maps_per_image
