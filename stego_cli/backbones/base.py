"""What every backbone is and promises."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from stego_cli.errors import ShapeError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """A frozen network from normalised RGB images to a feature map.

    Attributes:
        patch_size: Side in pixels of the square that one position of the feature map stands for.
        channels: Channels C of the feature map.
        mean: Per channel mean (RGB, of values in [0, 1]) that images are normalised with.
        std: Per channel deviation, likewise.
    """

    patch_size: int
    channels: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W), whose sides are whole patches, to features (B, C, h, w)."""

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images to their feature map.

        Args:
            images: Shape (B, 3, H, W), float, normalised with `mean` and `std`; H and W multiples of `patch_size`.

        Returns:
            Shape (B, C, H / patch_size, W / patch_size).

        Raises:
            ShapeError: If a side is not a multiple of the patch size; names the sizes that fit.
        """
        check_image_size(images.shape[-2], images.shape[-1], self.patch_size)
        return self.features(images)


def check_image_size(height: int, width: int, patch_size: int) -> None:
    """Refuse an image whose sides are not whole patches.

    Raises:
        ShapeError: Names the nearest sizes that fit.

    Example:
        >>> check_image_size(320, 325, 8)
        Traceback (most recent call last):
        stego_cli.errors.ShapeError: image of 320x325 (height x width): width 325 is not a multiple of ...
    """
    for name, side in (("height", height), ("width", width)):
        extra = side % patch_size
        if extra or side < patch_size:
            below, above = side - extra, side - extra + patch_size
            fits = f"{below} or {above}" if below else f"{above}"
            raise ShapeError(
                f"image of {height}x{width} (height x width): {name} {side} is not a multiple of "
                f"the patch size {patch_size}\n\nhint: use {fits}"
            )
