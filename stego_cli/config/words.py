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

DATASET_NAMES = ("cocostuff27", "cocostuff15", "cocostuff3", "cityscapes", "potsdam", "potsdamraw", "voc2012")
# Suggestions for shells only: `--backbone` takes any vision transformer of timm, so this never refuses a name.
BACKBONE_NAMES = ("dino_vits8_300ep", "dino_vits8", "dino_vits16", "dino_vitb8", "dino_vitb16", "filterbank")
DEVICE_NAMES = ("auto", "cpu", "cuda", "mps")
