"""The words that options take, in one place that imports nothing heavy: config models and command line share them."""

from __future__ import annotations

from typing import Literal

Protocol = Literal["native", "paper"]
ProbeChoice = Literal["cluster", "linear", "both"]
SaveKind = Literal["labels", "overlay", "probs", "html"]
LoaderCrop = Literal["center", "squash"]
FeatureType = Literal["feat", "KK", "keys"]
IndexKind = Literal["flat", "ivf", "hnsw"]
CropKind = Literal["five", "random"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
CompileChoice = Literal["auto", "on", "off"]
FeatureMode = Literal["auto", "cache", "memory", "live"]
ShiftChoice = Literal["given", "auto"]
KeepChoice = Literal["auto", "cluster_miou", "linear_miou", "score", "last"]
ProbeFit = Literal["trained", "refit"]
NameRule = Literal["matched", "majority"]
ExtraChoice = Literal["reference", "errors"]

DATASET_NAMES = ("cocostuff27", "cocostuff15", "cocostuff3", "cityscapes", "potsdam", "potsdamraw", "voc2012")
# Suggestions for shells only: `--backbone` takes any vision transformer of timm, so this never refuses a name.
BACKBONE_NAMES = (
    "dino_vits8_300ep",
    "dino_vits8",
    "dino_vits16",
    "dino_vitb8",
    "dino_vitb16",
    "dinov2_vits14",
    "dinov2_vits14_reg",
    "dinov2_vitb14",
    "dinov2_vitb14_reg",
    "dinov2_vitl14",
    "dinov2_vitl14_reg",
    "dinov2_vitg14",
    "dinov2_vitg14_reg",
    "dinov3_vits16",
    "dinov3_vits16plus",
    "dinov3_vitb16",
    "dinov3_vitl16",
    "dinov3_vitl16_sat",
    "dinov3_vith16plus",
    "dinov3_vit7b16",
    "dinov3_vit7b16_sat",
    "mae_vitb16",
    "mae_vitl16",
    "mae_vith14",
    "mocov3_vits16",
    "mocov3_vitb16",
    "ibot_vits16",
    "ibot_vitb16",
    "ibot_vitb16_rand",
    "ibot_vitl16",
    "ibot_vitl16_rand",
    "ibot_vitb16_22k",
    "ibot_vitl16_22k",
    "msn_vits16",
    "msn_vitb16",
    "msn_vitl16",
    "msn_vitb4",
    "msn_vitl7",
    "filterbank",
)
METHOD_NAMES = ("stego", "dino", "pca", "rp", "hnne", "umap")
DEVICE_NAMES = ("auto", "cpu", "cuda", "mps")
