"""Settings of `stego predict`."""

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from stego_cli.config.crf import CrfParameters
from stego_cli.config.fields import CommandConfig, Conflict, DeviceName, UserPath, refuse, split_commas, usable_cores
from stego_cli.config.rules import segmenting_conflicts
from stego_cli.config.words import CompileChoice, Precision, ProbeChoice, Protocol, SaveKind


class PredictConfig(CommandConfig):
    """How images become masks: the model, the protocol, what is written and how fast."""

    section: ClassVar[str] = "predict"

    model: str | None = Field(
        None, min_length=1, description="`embedded`, a catalog name or a file; absent means the best one present."
    )
    out: UserPath = Field(Path("predictions"), description="Folder that everything is written to.")
    protocol: Protocol = Field(
        "native", description="native: whole image, masks of the input's size; paper: the published protocol, exactly."
    )
    probe: ProbeChoice = Field("cluster", description="What turns code into classes; linear was trained with labels.")
    save: Annotated[tuple[SaveKind, ...], BeforeValidator(split_commas)] = Field(
        ("labels", "overlay", "html"), description="What is written for each image, and the gallery (html)."
    )
    crf: bool = Field(False, description="Sharpen the result along the edges of the image.")
    crf_parameters: CrfParameters = CrfParameters()
    mirror: bool = Field(True, description="Average the code over the image and its mirror.")
    resolution: PositiveInt | None = Field(
        None,
        description="Shorter side of the image as the network sees it, in pixels; absent means the model's own.",
        json_schema_extra={"option": "--res"},
    )
    tile: PositiveInt | None = Field(
        None,
        description="Side in pixels of the overlapping windows that larger images, as the network sees them, are seen "
        "in; absent sees every image whole, as long as memory lasts.",
    )
    bands: Annotated[tuple[PositiveInt, PositiveInt, PositiveInt], BeforeValidator(split_commas)] | None = Field(
        None, description="Bands of a multi-band image used as red, green and blue, counted from 1."
    )
    batch_size: PositiveInt = Field(8, description="Images that go through the network together.")
    workers: NonNegativeInt = Field(
        default_factory=lambda: min(4, usable_cores()),
        description="Threads that read images ahead; 0 reads in between. All else takes an image per core.",
    )
    device: DeviceName = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    precision: Precision = Field(
        "auto", description="Arithmetic of the backbone; auto is bf16 where the hardware has it, else fp32."
    )
    compile: CompileChoice = Field(
        "auto",
        description="Compile the network first, which can pay in long runs on a CUDA card; auto does not, as each "
        "new size of image takes half a minute.",
    )
    overwrite: bool = Field(False, description="Redo what an earlier run has finished.")

    @model_validator(mode="after")
    def settings_go_together(self) -> Self:
        """Refuse combinations that could not do what they promise."""
        refuse([*segmenting_conflicts(self), *self._impossible()])
        return self

    def _impossible(self) -> list[Conflict]:
        """Return what cannot work under any protocol."""
        conflicts = []
        if self.protocol == "paper" and self.tile is not None:
            rule = "the paper protocol sees images whole; use protocol native, or leave --tile out"
            conflicts.append(Conflict(("protocol", "tile"), rule))
        if not self.save:
            rule = "nothing would be written; name at least one of labels, overlay, probs"
            conflicts.append(Conflict(("save",), rule))
        if "html" in self.save and not {"labels", "overlay"} & set(self.save):
            rule = "the gallery (html) shows saved overlays or labels; add one of them, or leave html out"
            conflicts.append(Conflict(("save",), rule))
        return conflicts
