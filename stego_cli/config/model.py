"""What a model is made of: backbone, method, probes, label space. Saved as JSON inside every checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, FiniteFloat, NegativeInt, PositiveFloat, PositiveInt, model_validator

from stego_cli.config.backbone_file import SUFFIX, backbone_of
from stego_cli.config.base import Block
from stego_cli.config.words import FeatureType

Rgb = tuple[
    Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)], Annotated[int, Field(ge=0, le=255)]
]
Probe = Literal["cluster", "linear"]
FILTERBANK_PATCH = 8  # pixels


class VitArchitecture(Block):
    """Sizes of a plain vision transformer, for one that no registry row describes (a reduced or home-made one)."""

    patch_size: PositiveInt
    width: PositiveInt
    depth: PositiveInt
    heads: PositiveInt
    mlp_ratio: PositiveFloat = 4.0
    qkv_bias: bool = True
    image_size: PositiveInt = Field(224, description="Side of the square image that the position table was made for.")
    norm_eps: PositiveFloat = 1e-6
    stem: Literal["pixels", "filterbank"] = Field(
        "pixels", description="What a patch becomes a token from: its pixels, or the filter bank's channels."
    )

    layer_scale: PositiveFloat | None = Field(
        None, description="What each block adds begins at so much of itself, channel by channel; absent: all of it."
    )

    @model_validator(mode="after")
    def the_filter_bank_has_its_patches(self) -> Self:
        """Refuse patches that the filter bank does not have."""
        if self.stem == "filterbank" and self.patch_size != FILTERBANK_PATCH:
            raise ValueError(f"the filter bank has patches of {FILTERBANK_PATCH} pixels, not of {self.patch_size}")
        return self


class VitConfig(Block):
    """A vision transformer: a registry row, any timm name, or explicit sizes."""

    kind: Literal["vit"] = "vit"
    name: str = Field("dino_vits8_300ep", description="A registered backbone or the name of a timm vision transformer.")
    feature_type: FeatureType = Field(
        "feat",
        description="feat: normalised patch tokens; keys: key vectors, heads side by side; KK: keys as the STEGO "
        "reference reads them (the same as keys for 6 heads, scrambled otherwise).",
    )
    block: NegativeInt = Field(-1, description="Which block's output is used, counted from the end.")
    architecture: VitArchitecture | None = Field(None, description="Sizes; when absent, those of `name`.")
    # Says where the weights are on this machine; models carry their own, so it is not saved in them.
    file: Path | None = Field(None, exclude=True, description="Weight file that the rest was read from.")


class FilterbankConfig(Block):
    """The backbone without weights: colour, contrast, gradient orientations and position per cell."""

    name: ClassVar[str] = "filterbank"

    kind: Literal["filterbank"] = "filterbank"


def _by_name(value: Any) -> Any:
    """Let `backbone: dino_vits8`, or a file that says what it holds, stand for the whole block."""
    if isinstance(value, str) and value.endswith(SUFFIX):
        return backbone_of(Path(value).expanduser())
    if isinstance(value, str):
        return {"kind": "filterbank"} if value == "filterbank" else {"kind": "vit", "name": value}
    return value


BackboneConfig = Annotated[VitConfig | FilterbankConfig, Field(discriminator="kind"), BeforeValidator(_by_name)]


class StegoConfig(Block):
    """The STEGO head (Hamilton et al., ICLR 2022, section 3.2): a linear plus a two-layer projection."""

    learns: ClassVar[bool] = True

    kind: Literal["stego"] = "stego"
    code_dim: PositiveInt = 70
    projection: Literal["nonlinear", "linear"] = "nonlinear"
    dropout: float = Field(0.1, ge=0, lt=1, description="Chance that a whole channel is dropped while training.")


class DinoConfig(Block):
    """No head: the code is the feature map itself, as the baselines of the STEGO study use it."""

    learns: ClassVar[bool] = False
    code_dim: ClassVar[None] = None  # as many as the features have

    kind: Literal["dino"] = "dino"


class ProjectionConfig(Block):
    """A projection that is fitted once to features of training images and then stays as it is; only probes learn.

    The projections of the STEGO study (Koenig et al., CVPR workshops 2023) first bring every channel to mean 0 and
    deviation 1. `standardise: train` takes mean and deviation from the training images and keeps them in the
    checkpoint, so that the code of an image depends on that image alone. `standardise: batch` is what the study did:
    every batch is standardised by its own positions, the image and its mirror image included where both go through
    together, so that the code of an image depends on its company and on the batch size.
    """

    learns: ClassVar[bool] = False

    code_dim: PositiveInt = 70
    standardise: Literal["train", "batch"] = Field(
        "train",
        description="Mean and deviation of each channel: train takes those of the training images, which are saved in "
        "the model; batch those of each batch, as the study, so that an image's code depends on its batch.",
    )
    fit_images: PositiveInt = Field(5000, description="The fit looks at so many training images at most.")


class PcaConfig(ProjectionConfig):
    """The leading principal components of standardised features."""

    kind: Literal["pca"] = "pca"
    fit_positions: PositiveInt = Field(
        500_000, description="With `fit_on: spread`, the fit looks at so many positions of these images at most."
    )
    fit_on: Literal["spread", "first"] = Field(
        "spread",
        description="spread: positions drawn from images all over the training split, the same ones for every seed; "
        "first: all positions of the first images, in whole batches, as the study.",
    )
    whiten: bool = Field(
        False, description="Bring every axis to deviation 1, so that none has more say in how alike two codes are."
    )


class RpConfig(ProjectionConfig):
    """A random projection of standardised features, Gaussian with deviation 1 / sqrt(code_dim), after the seed."""

    kind: Literal["rp"] = "rp"
    fit_positions: PositiveInt = Field(
        500_000, description="Mean and deviation are those of so many positions of these images at most."
    )


class LandmarkConfig(ProjectionConfig):
    """An embedding of some positions, the landmarks, that other positions find their place in.

    The library embeds the landmarks alone. Any other position is put where its nearest landmarks are: at the mean of
    their places, each weighted by the inverse of its distance. Places are centred around 0, as the probes look at
    directions.
    """

    landmarks: PositiveInt = Field(
        10_000, lt=1_000_000, description="Positions that are embedded; all there are, where there are fewer."
    )
    nearest: PositiveInt = Field(
        10, lt=1000, description="A position is placed between so many of its nearest landmarks."
    )


class HnneConfig(LandmarkConfig):
    """h-NNE (Sarfraz, Koulakis et al., CVPR 2022), through the package hnne: a hierarchy of nearest neighbours."""

    kind: Literal["hnne"] = "hnne"
    metric: Literal["cosine", "euclidean"] = Field("cosine", description="What makes positions neighbours.")


class UmapConfig(LandmarkConfig):
    """UMAP (McInnes, Healy & Melville, 2018), through the package umap-learn."""

    kind: Literal["umap"] = "umap"
    metric: Literal["cosine", "euclidean"] = Field("euclidean", description="What makes positions neighbours.")
    neighbors: int = Field(15, ge=2, lt=1000, description="Neighbours of each landmark that the embedding keeps near.")
    min_dist: float = Field(0.1, ge=0, le=1, description="How close landmarks may come in the embedding.")


def _method_by_name(value: Any) -> Any:
    """Let `method: pca` stand for the whole block."""
    return {"kind": value} if isinstance(value, str) else value


MethodConfig = Annotated[
    StegoConfig | DinoConfig | PcaConfig | RpConfig | HnneConfig | UmapConfig,
    Field(discriminator="kind"),
    BeforeValidator(_method_by_name),
]


class LabelSpace(Block):
    """The classes that a label map speaks of, in the order of their ids."""

    name: str
    names: tuple[str, ...] = Field(min_length=1)
    colours: tuple[Rgb, ...]

    @model_validator(mode="after")
    def one_colour_per_name(self) -> Self:
        """Names and colours belong together by position."""
        if len(self.names) != len(self.colours):
            raise ValueError(f"{len(self.names)} names but {len(self.colours)} colours; each class needs one of each")
        return self

    def __len__(self) -> int:
        return len(self.names)


class About(Block):
    """What a model is, in words and figures; shown by `stego info`."""

    title: str = "unnamed model"
    description: str = ""
    limits: str = Field("", description="What the model is not good for.")
    trained_on: str = ""
    licence: str = "not stated"
    source: str = Field("", description="The file, command or publication that the model comes from.")
    stego_version: str = ""
    backbone_sha256: str = ""
    seed: int | None = None
    scores: dict[str, FiniteFloat] = Field(
        default_factory=dict, description="Measured fractions, such as `camvid/val cluster miou`."
    )


class ModelConfig(Block):
    """Everything that is needed to build a model, its tensors apart."""

    format: Literal[1] = 1
    backbone: BackboneConfig
    method: MethodConfig
    num_clusters: PositiveInt
    label_space: LabelSpace
    has_linear_probe: bool = True
    alpha: PositiveFloat = Field(2.0, description="Inverse temperature of the cluster log-probabilities.")
    cluster_to_class: tuple[int, ...] | None = Field(
        None, description="Class of each cluster, or -1 for none; absent while clusters were never matched to labels."
    )
    resolution: PositiveInt = Field(320, description="Shorter side, in pixels, of the images the model works on.")
    about: About = About()

    @model_validator(mode="after")
    def assignment_fits(self) -> Self:
        """Every cluster has one entry in the assignment, and every entry is a class or -1."""
        if self.cluster_to_class is None:
            return self
        if len(self.cluster_to_class) != self.num_clusters:
            raise ValueError(
                f"cluster_to_class has {len(self.cluster_to_class)} entries for {self.num_clusters} clusters"
            )
        if wrong := [c for c in self.cluster_to_class if not -1 <= c < len(self.label_space)]:
            raise ValueError(f"cluster_to_class names class {wrong[0]}, but there are {len(self.label_space)} classes")
        return self
