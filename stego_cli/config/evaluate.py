"""Settings of `stego eval`."""

from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from stego_cli.config.crf import CrfParameters
from stego_cli.config.data import DataConfig
from stego_cli.config.fields import Conflict, DeviceName, UserPath, refuse, split_commas, usable_cores
from stego_cli.config.rules import segmenting_conflicts
from stego_cli.config.words import ExtraChoice, NameRule, Precision, ProbeChoice, Protocol

Name = Annotated[str, Field(min_length=1)]


class EvalConfig(DataConfig):
    """Which models are measured on which labelled images, and how."""

    section: ClassVar[str] = "eval"

    checkpoints: Annotated[tuple[Name, ...], BeforeValidator(split_commas)] = Field(
        (),
        description="The models: `embedded`, catalog names or files; none means `model`.",
        json_schema_extra={"option": "CHECKPOINT"},
    )
    model: str | None = Field(
        None, min_length=1, description="The model if no checkpoint is named; absent means the best one present."
    )
    dataset: str = Field(
        DataConfig.model_fields["dataset"].default,
        min_length=1,
        description="A known dataset, or a folder with `imgs/` and `labels/`.",
    )
    splits: Annotated[tuple[Name, ...], BeforeValidator(split_commas), Field(min_length=1)] = Field(
        ("val",), description="Which splits, each measured by itself.", json_schema_extra={"option": "--split"}
    )
    classes: PositiveInt | None = Field(
        None, description="How many classes label maps without a label space have; absent means it is found out."
    )
    protocol: Protocol = Field(
        "paper", description="paper: the published protocol, exactly; native: as `stego predict` sees whole images."
    )
    probe: ProbeChoice = Field("both", description="Which probes are measured.")
    crf: bool = Field(False, description="Measure with a CRF, too; the same pass gives both results.")
    crf_parameters: CrfParameters = CrfParameters()
    mirror: bool = Field(True, description="Average the code over the image and its mirror.")
    extra: ExtraChoice | None = Field(
        None,
        description="Pixels in clusters beyond the number of classes: reference drops them, as the STEGO reference "
        "does, errors counts them as errors; absent means reference under protocol paper for a model of as many "
        "classes as the dataset has, else errors.",
    )
    overcluster: bool = Field(
        False, description="Also give every cluster the class it overlaps best, many clusters to one class."
    )
    resolution: PositiveInt | None = Field(
        None,
        description="Shorter side of the image as the network sees it; absent means 320 under paper, else the model's.",
        json_schema_extra={"option": "--res"},
    )
    save_names: bool = Field(False, description="Write the classes found for the clusters into a model file.")
    names: NameRule = Field(
        "matched",
        description="Which classes are saved: matched, one cluster for each; majority, what most of each cluster is, "
        "as `overcluster` scores them.",
    )
    out: UserPath | None = Field(None, description="Model file with the names; absent means the checkpoint itself.")
    report: UserPath | None = Field(None, description="Folder for scores, figures and a page that shows them.")
    examples: NonNegativeInt = Field(12, le=200, description="Images shown in the report: best, worst and between.")
    batch_size: PositiveInt = Field(8, description="Images that go through the network together.")
    workers: NonNegativeInt = Field(
        default_factory=lambda: min(4, usable_cores()), description="Threads that read images; 0 does it in between."
    )
    device: DeviceName = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    precision: Precision = Field(
        "auto",
        description="Arithmetic of the backbone; auto is bf16 under protocol native where the hardware has it, else "
        "fp32.",
    )
    overwrite: bool = Field(False, description="Measure again what the report has; replace the file with the names.")

    @model_validator(mode="after")
    def settings_go_together(self) -> Self:
        """Refuse combinations that could not do what they promise."""
        refuse([*segmenting_conflicts(self), *self._about_names(), *self._impossible()])
        return self

    def _about_names(self) -> list[Conflict]:
        """Return what stands in the way of writing one assignment into one file."""
        conflicts = []
        if self.save_names and (len(self.checkpoints) > 1 or len(self.splits) > 1):
            rule = "names are saved into one model, as found on one split; give one checkpoint and one --split"
            conflicts.append(Conflict(("save_names",), rule))
        if self.save_names and self.probe == "linear":
            rule = "names are found for clusters; use --probe cluster or both"
            conflicts.append(Conflict(("save_names", "probe"), rule))
        if self.names == "majority" and not (self.save_names and self.overcluster):
            rule = "majority names are those that --overcluster measures and --save-names writes; add both"
            conflicts.append(Conflict(("names",), rule))
        if self.out is not None and not self.save_names:
            rule = "only --save-names writes a model file; add it, or use --report for scores"
            conflicts.append(Conflict(("out",), rule))
        return conflicts

    def _impossible(self) -> list[Conflict]:
        """Return what cannot work under any protocol."""
        conflicts = []
        if self.overcluster and self.probe == "linear":
            rule = "overclustering is about clusters; use --probe cluster or both"
            conflicts.append(Conflict(("overcluster", "probe"), rule))
        return conflicts
