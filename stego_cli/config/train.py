"""Settings of `stego train`: which images, which method and loss, for how long, and what is kept."""

from typing import ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from stego_cli.config.features import BackboneRunConfig
from stego_cli.config.fields import Conflict, UserPath, refuse
from stego_cli.config.losses import LossConfig, OptimiserConfig
from stego_cli.config.model import About, MethodConfig, StegoConfig
from stego_cli.config.words import CompileChoice, FeatureMode, KeepChoice, NameRule, ProbeFit, ShiftChoice


class TrainConfig(BackboneRunConfig):
    """Everything that a training run depends on."""

    section: ClassVar[str] = "train"

    method: MethodConfig = StegoConfig()
    loss: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    shifts: ShiftChoice = Field(
        "given", description="given: those of `loss`; auto: from how alike the features of pairs of images are."
    )
    classes: PositiveInt | None = Field(
        None, description="How many clusters to form; absent means as many as the label space has classes."
    )
    extra_clusters: NonNegativeInt = Field(0, description="Clusters beyond the number of classes.")
    batch_size: PositiveInt = Field(
        16, description="Images of a step, on all devices together; fewer where the dataset has fewer."
    )
    steps: PositiveInt = Field(5000, description="Updates of the head.")
    neighbors_used: PositiveInt = Field(
        7, lt=1000, description="A step compares each image with one of its so many nearest neighbours."
    )
    reset_probes_at: PositiveInt | None = Field(
        None, description="Step at which both probes start anew, for the code that there is by then."
    )
    seed: NonNegativeInt = Field(0, lt=2**31, description="The same seed gives the same model.")
    seeds: PositiveInt = Field(
        1, le=100, description="Runs from seed, seed + 1 and so on; the one with the best label-free score is kept."
    )
    features: FeatureMode = Field(
        "auto",
        description="Where features of the images come from: a cache on disk, memory alone, or the backbone at every "
        "step (live); auto takes the fastest that fits.",
    )
    dtype: Literal["fp16", "fp32"] = Field("fp16", description="Numbers in the cache; fp16 takes half the space.")
    val_split: str | None = Field("val", min_length=1, description="Split that is measured if it has labels.")
    eval_resolution: PositiveInt = Field(
        320, description="Shorter side in pixels at which the model measures and predicts; saved in it."
    )
    eval_every: NonNegativeInt = Field(1000, description="Steps between two measurements; 0 measures at the end only.")
    keep: KeepChoice = Field(
        "auto",
        description="Which measurement's model is kept: the one with the best value, or the last one. auto is "
        "cluster_miou where the val split has labels, else score, which needs none.",
    )
    checkpoint_every: PositiveInt = Field(500, description="Steps between two states that a run can go on from.")
    minutes: PositiveFloat | None = Field(None, description="Stop in good order after so many minutes.")
    devices: PositiveInt = Field(1, le=1024, description="GPUs of this machine, or processes on a CPU.")
    final_probes: ProbeFit = Field(
        "trained",
        description="trained keeps the probes as training left them, as published; refit fits them anew to the code of "
        "the model that is kept: clusters by k-means without labels, the linear probe with them.",
        json_schema_extra={"option": "--probes"},
    )
    names: NameRule = Field(
        "matched",
        description="What labels call the clusters: matched gives each class one cluster, as published scores do; "
        "majority calls each what most of it is, so that several may share a name.",
    )
    compile: CompileChoice = Field(
        "auto",
        description="Compile the training step: auto does so in long runs on a CUDA card; results differ in the last "
        "digits.",
    )
    tensorboard: bool = Field(False, description="Write curves, histograms and pictures for TensorBoard, too.")
    wandb: str | None = Field(
        None, min_length=1, description="Project of Weights & Biases that the run is logged to; absent means none."
    )
    resume: bool = Field(False, description="Go on with the run that is there, which may have had fewer steps.")
    out: UserPath | None = Field(None, description="The model file; absent means a new one below `runs/`.")
    overwrite: bool = Field(False, description="Start anew, and replace the model that is there.")
    about: About = Field(About(), description="Title, description, limits and licence that the model file carries.")

    @model_validator(mode="after")
    def settings_go_together(self) -> Self:
        """Refuse combinations that could not do what they promise."""
        loss, conflicts = self.loss, []
        if loss.aug_weight > 0 and self.features not in {"auto", "live"}:
            rule = "augmented images are new at every step; with `aug_weight`, features must be auto or live"
            conflicts.append(Conflict(("loss", "features"), rule))
        if self.resume and self.overwrite:
            conflicts.append(Conflict(("resume", "overwrite"), "a run is either gone on with or started anew"))
        if self.batch_size % self.devices:
            rule = f"{self.batch_size} images cannot be shared evenly by {self.devices} devices"
            conflicts.append(Conflict(("batch_size", "devices"), rule))
        if self.reset_probes_at is not None and self.reset_probes_at >= self.steps:
            rule = f"the last step is {self.steps - 1}, so probes cannot be reset at {self.reset_probes_at}"
            conflicts.append(Conflict(("reset_probes_at", "steps"), rule))
        refuse(conflicts)
        return self
