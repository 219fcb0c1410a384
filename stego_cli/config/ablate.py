"""Settings of `stego ablate run`: a grid of methods, dimensions, datasets, backbones and seeds, and what they share."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError, model_validator

from stego_cli.config.base import Block
from stego_cli.config.crf import CrfParameters
from stego_cli.config.data import DataConfig
from stego_cli.config.fields import Conflict, DeviceName, UserPath, refuse, split_commas, usable_cores
from stego_cli.config.losses import LossConfig, OptimiserConfig
from stego_cli.config.model import BackboneConfig, MethodConfig, VitConfig
from stego_cli.config.rules import segmenting_conflicts
from stego_cli.config.schema import TAG, nearest
from stego_cli.config.train import TrainConfig
from stego_cli.config.words import LoaderCrop, Precision, Protocol, ShiftChoice

STUDY_DIMS = (3, 6, 12, 24, 48, 70, 90, 96, 100, 192, 384, 768)
"""The target dimensions of the study (Koenig et al., CVPR workshops 2023)."""

_METHOD: TypeAdapter[MethodConfig] = TypeAdapter(MethodConfig)
_BLOCKS: dict[str, type[Block]] = {
    block.model_fields[TAG].default: block for block in get_args(get_args(MethodConfig)[0])
}


def _train_default(name: str) -> Any:
    return TrainConfig.model_fields[name].default


def known_methods() -> tuple[str, ...]:
    """Return the methods that a grid can have."""
    return tuple(_BLOCKS)


def has_dimension(method: str) -> bool:
    """Say whether a method maps to a code of any dimension; one that does not has one cell for each seed."""
    return "code_dim" in _BLOCKS[method].model_fields


def _known_method(name: Any) -> Any:
    if isinstance(name, str) and name not in _BLOCKS:
        near = nearest(name, list(_BLOCKS))
        raise ValueError(f"expected {', '.join(_BLOCKS)}, got {name!r}" + (f"; did you mean {near!r}?" if near else ""))
    return name


Name = Annotated[str, Field(min_length=1)]
Method = Annotated[str, BeforeValidator(_known_method)]


class GridTraining(Block):
    """How every cell of a grid is trained; what is not here is part of the grid, or follows from it."""

    loss: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    shifts: ShiftChoice = Field(
        _train_default("shifts"), description="given: those of `loss`; auto: from how alike features of images are."
    )
    steps: PositiveInt = Field(
        _train_default("steps"),
        description="Updates of the head and of the probes.",
        json_schema_extra={"option": "--steps"},
    )
    batch_size: PositiveInt = Field(_train_default("batch_size"), description="Images of a step.")
    neighbors_used: PositiveInt = Field(
        _train_default("neighbors_used"),
        lt=1000,
        description="A step compares an image with one of so many neighbours.",
    )
    reset_probes_at: PositiveInt | None = Field(
        None, description="Step at which both probes of a trained head start anew, for the code that there is by then."
    )
    extra_clusters: NonNegativeInt = Field(0, description="Clusters beyond the number of classes.")
    resolution: PositiveInt = Field(
        _train_default("resolution"), description="Side in pixels of the square that the backbone sees in training."
    )
    loader_crop: LoaderCrop = Field(
        "center", description="center cuts the middle out of an image, squash changes its shape."
    )
    eval_resolution: PositiveInt = Field(
        _train_default("eval_resolution"), description="Shorter side in pixels of the images that are measured."
    )
    dtype: Literal["fp16", "fp32"] = Field("fp16", description="Numbers in the caches; fp16 takes half the space.")
    label_stride: PositiveInt = Field(
        1,
        description="The linear probe learns from every so manieth row and column of the labels: 1 is the published "
        "way, 4 takes a sixteenth of the time for nearly the same probe.",
    )


class CheckpointRow(Block):
    """A finished model in the table: nothing is trained, it is measured as it is."""

    model: Name = Field(description="A catalog name, `embedded`, or a model file.")
    dataset: Name = Field(description="A known dataset, or a folder of images with labels.")
    method: Name = Field("stego", description="What the table calls it.")
    made_by: str = Field("", description="The command that makes the file; shown if the file is missing.")


class AblateConfig(DataConfig):
    """A grid of cells, each of which trains probes, or a head and probes, and measures them."""

    section: ClassVar[str] = "ablate"

    methods: Annotated[tuple[Method, ...], BeforeValidator(split_commas)] = Field(
        ("dino", "pca", "rp", "stego"), description="Which methods; dino has no dimension."
    )
    dims: Annotated[tuple[PositiveInt, ...], BeforeValidator(split_commas)] = Field(
        STUDY_DIMS, description="Dimensions of the code; those above the backbone's channels are left out."
    )
    datasets: Annotated[tuple[Name, ...], BeforeValidator(split_commas)] = Field(
        (), description="Known datasets, or folders; none means `dataset`."
    )
    backbone: BackboneConfig = VitConfig()
    backbones: Annotated[tuple[BackboneConfig, ...], BeforeValidator(split_commas)] = Field(
        (), description="Frozen networks, by name; none means `backbone`."
    )
    seed: NonNegativeInt = Field(0, lt=2**31, description="The first seed.")
    seeds: PositiveInt = Field(3, le=100, description="Cells for every method and dimension.")
    method: dict[str, dict[str, Any]] = Field(
        {}, description="Settings of single methods, such as `method.stego.dropout=0`."
    )
    train: GridTraining = GridTraining()
    checkpoints: tuple[CheckpointRow, ...] = Field((), description="Finished models that are measured beside the grid.")

    split: Name = Field("train", description="Split that is trained on.")
    val_split: Name = Field("val", description="Split that is measured; it needs labels.")
    classes: PositiveInt | None = Field(None, description="How many classes label maps without a label space have.")
    protocol: Protocol = Field(
        "paper", description="paper: the published protocol; native: antialiased, whole images, at their own size."
    )
    mirror: bool = Field(True, description="Average the code over the image and its mirror.")
    crf: bool = Field(False, description="Measure with a CRF, too.")
    crf_parameters: CrfParameters = CrfParameters()

    device: DeviceName = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    devices: PositiveInt | None = Field(None, description="GPUs, one cell on each at a time; absent means all.")
    jobs: PositiveInt | None = Field(None, description="Cells at a time on the CPU; absent means one for each core.")
    precision: Precision = Field("auto", description="Arithmetic of the backbone.")
    batch_size: PositiveInt = Field(8, description="Images that go through the backbone together.")
    workers: NonNegativeInt = Field(
        default_factory=lambda: min(4, usable_cores()), description="Threads that read images; 0 does it in between."
    )
    out: UserPath | None = Field(None, description="Folder of the results; absent means a new one below `runs/`.")
    resume: bool = Field(False, description="Insist that there are results to go on with.")
    overwrite: bool = Field(False, description="Start anew, and replace the results that are there.")
    keep_models: bool = Field(False, description="Save the model of every cell, too.")

    @model_validator(mode="after")
    def settings_go_together(self) -> Self:
        """Refuse combinations that could not do what they promise."""
        conflicts = segmenting_conflicts(self)
        if self.resume and self.overwrite:
            conflicts.append(Conflict(("resume", "overwrite"), "results are either gone on with or started anew"))
        if not self.methods and not self.checkpoints:
            conflicts.append(Conflict(("methods",), f"name at least one of {', '.join(_BLOCKS)}"))
        if not self.dims and any(has_dimension(method) for method in self.methods):
            conflicts.append(Conflict(("dims",), "name at least one dimension, such as --dims 12,48"))
        if (at := self.train.reset_probes_at) is not None and at >= self.train.steps:
            rule = f"the last step is {self.train.steps - 1}, so probes cannot be reset at {at}"
            conflicts.append(Conflict(("train",), rule))
        loss = self.train.loss
        if loss.use_salience or loss.use_true_labels or loss.aug_weight > 0 or loss.crf_weight > 0:
            rule = "a grid trains on cached features alone: leave use_salience, use_true_labels, aug and crf weight off"
            conflicts.append(Conflict(("train",), rule))
        refuse([*conflicts, *self._wrong_methods()])
        return self

    def _wrong_methods(self) -> list[Conflict]:
        """Return what is wrong with the settings of single methods."""
        found = []
        for name, settings in self.method.items():
            if name not in _BLOCKS:
                found.append(Conflict(("method",), f"no method is called `{name}`; there are {', '.join(_BLOCKS)}"))
                continue
            try:
                self.method_config(name, None)
            except ValidationError as error:
                found += [
                    Conflict(("method",), f"{name}.{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}")
                    for each in error.errors()
                ]
            if "code_dim" in settings:
                found.append(Conflict(("method",), f"{name}: dimensions of the grid are given by `dims`"))
        return found

    def method_config(self, name: str, dim: int | None) -> MethodConfig:
        """Return the settings of a method at a dimension; None keeps the method's own."""
        values = {**self.method.get(name, {}), TAG: name}
        if dim is not None and has_dimension(name):
            values["code_dim"] = dim
        return _METHOD.validate_python(values)

    @property
    def all_datasets(self) -> tuple[str, ...]:
        """The datasets of the grid, each once."""
        return tuple(dict.fromkeys(self.datasets or (self.dataset,)))

    @property
    def all_backbones(self) -> tuple[BackboneConfig, ...]:
        """The backbones of the grid, each once."""
        return tuple(dict.fromkeys(self.backbones or (self.backbone,)))

    def for_ground(self, dataset: str, backbone: BackboneConfig) -> TrainConfig:
        """Return the settings of training on one dataset with one backbone; its method is any that learns."""
        shared = {name: getattr(self, name) for name in DataConfig.model_fields if name != "dataset"}
        trained = {
            name: getattr(self.train, name) for name in GridTraining.model_fields if name in TrainConfig.model_fields
        }
        return TrainConfig.model_validate(
            {
                **shared,
                **trained,
                "dataset": dataset,
                "backbone": backbone,
                "split": self.split,
                "val_split": self.val_split,
                "classes": self.classes,
                "protocol": self.protocol,
                "device": self.device,
                "precision": self.precision,
                "workers": self.workers,
                "seed": self.seed,
                "features": "cache",
                "keep": "last",
            }
        )
