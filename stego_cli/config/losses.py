"""What the STEGO head is trained for: the terms of its loss, their weights and how positions are drawn."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, FiniteFloat, PositiveInt

from stego_cli.config.base import Block
from stego_cli.config.words import Protocol

Weight = Annotated[FiniteFloat, Field(ge=0)]
Positive = Annotated[FiniteFloat, Field(gt=0)]


class CrfLossConfig(Block):
    """The kernel of the contrastive CRF loss. Variances are used as they are, not squared."""

    samples: PositiveInt = Field(1000, description="Positions of the 56 x 56 grid that a step compares.")
    alpha: Positive = Field(0.5, description="Variance of positions in the appearance kernel.")
    beta: Positive = Field(0.15, description="Variance of normalised colours in the appearance kernel.")
    gamma: Positive = Field(0.05, description="Variance of positions in the smoothness kernel.")
    appearance_weight: FiniteFloat = Field(10.0, description="Weight of the appearance kernel (w1 of the reference).")
    smoothness_weight: FiniteFloat = Field(3.0, description="Weight of the smoothness kernel (w2 of the reference).")
    shift: FiniteFloat = Field(0.0, description="Taken off both kernels: pairs below it are pushed apart.")


class LossConfig(Block):
    """The STEGO loss (Hamilton et al., ICLR 2022, section 3.2); defaults are those of the reference's code.

    The reference calls the three terms of the correspondence loss pos_intra, pos_inter and neg_inter; here they are
    `self`, `knn` and `random`, after what an image is compared with.
    """

    correspondence_weight: Weight = Field(1.0, description="Weight of self, knn and random together.")
    self_weight: FiniteFloat = Field(0.67, description="Weight of comparing an image with itself (pos_intra_weight).")
    knn_weight: FiniteFloat = Field(0.25, description="Weight of comparing it with a neighbour (pos_inter_weight).")
    random_weight: FiniteFloat = Field(0.63, description="Weight of comparing it with other images (neg_inter_weight).")
    self_shift: FiniteFloat = Field(
        0.18, description="b_self: similarity below it pushes codes apart (pos_intra_shift)."
    )
    knn_shift: FiniteFloat = Field(0.12, description="b_knn: the same for neighbours (pos_inter_shift).")
    random_shift: FiniteFloat = Field(0.46, description="b_rand: the same for other images (neg_inter_shift).")
    pointwise: bool = Field(True, description="Centre similarities at every position, which helps small objects.")
    zero_clamp: bool = Field(True, description="Count negative code similarities as 0: never push beyond 90 degrees.")
    stabilise: bool = Field(False, description="Count code similarities above 0.8 as 0.8: stop pulling there.")
    feature_samples: PositiveInt = Field(11, description="Side of the square of positions drawn from each image.")
    negative_samples: PositiveInt = Field(5, description="How many other images each image is compared with.")
    drop_features: bool = Field(True, description="Drop channels of the compared features too, not only of the head's.")
    use_salience: bool = Field(False, description="Draw most positions from where the mask in `salience/` is not zero.")
    use_true_labels: bool = Field(False, description="Compare labels in place of features: an upper bound, not STEGO.")
    rec_weight: Weight = Field(0.0, description="Weight of rebuilding the features from the code.")
    aug_weight: Weight = Field(0.0, description="Weight of equal codes for an image and its augmentation.")
    crf_weight: Weight = Field(0.0, description="Weight of the contrastive CRF loss.")
    crf: CrfLossConfig = CrfLossConfig()
    positions: Protocol = Field(
        "native",
        description="How salient pixels and augmented coordinates become positions on the feature map: native is "
        "exact; paper repeats the reference, which swaps axes and leaves out half a cell.",
    )


class OptimiserConfig(Block):
    """Adam without weight decay, betas 0.9 and 0.999: one for the head, one for each probe."""

    lr: Positive = Field(5e-4, description="Learning rate of the head.")
    probe_lr: Positive = Field(5e-3, description="Learning rate of the cluster probe and the linear probe.")
