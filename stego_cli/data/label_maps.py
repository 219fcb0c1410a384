"""Label maps: images whose values are class ids."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import numpy as np
from PIL import BmpImagePlugin, Image, PngImagePlugin, TiffImagePlugin

from stego_cli.data.image_errors import check_size, decoding, opened
from stego_cli.data.matlab import MATLAB_SUFFIX, read_variable
from stego_cli.errors import ImageError
from stego_cli.files import printable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import ImageFile

LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
"""Names of label maps in folders, the first found of them; all keep values as they are."""

UNFIT_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif"})
"""Names of files that look like label maps, but do not keep values: by lossy compression, or (GIF) by renumbering."""

UNFIT = "the format does not keep the class ids\n\nhint: write label maps as PNG, from the original ids"
"""What to say of such files."""

_PLUGINS = (
    PngImagePlugin.PngImageFile,
    TiffImagePlugin.TiffImageFile,
    BmpImagePlugin.BmpImageFile,
)
_LABEL_MODES = {"1", "L", "P", "I", "I;16", "I;16B", "I;16L", "F"}
_SPREAD = {"L;2": 85, "L;4": 17}  # what Pillow multiplies grey levels of 2 and 4 bits by
_MATLAB_KEY = "gt"


def read_label_map(path: Path) -> NDArray[np.int64]:
    """Read a label map: one class id per pixel, the stored number itself (for palette images the palette index).

    Args:
        path: PNG, TIFF or BMP, recognised by content; or, by its name, a MATLAB file with the variable `gt`.

    Returns:
        Shape (H, W).

    Raises:
        ImageError: If the file cannot be read or holds colours instead of numbers.
    """
    try:
        if path.suffix.lower() == MATLAB_SUFFIX:
            return _as_ids(read_variable(path, _MATLAB_KEY))
        with opened(path) as file, decoding():
            return _as_ids(_decode(file))
    except ImageError as error:
        raise ImageError(f"label map `{printable(path)}` cannot be read: {error}") from error


def _decode(file: IO[bytes]) -> NDArray[Any]:
    """Return the numbers in an image file, shape (H, W)."""
    image = _open(file)
    check_size(image.height, image.width)
    if image.mode not in _LABEL_MODES:
        raise ImageError(
            f"it holds {image.mode} colours, not class ids\n\n"
            "hint: save it with one channel whose values are the class ids"
        )
    layout = image.tile[0].args if image.tile else None
    spread = _SPREAD.get(layout if isinstance(layout, str) else str((layout or ("",))[0]), 1)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        image.im = Image.new(image.mode, image.size).im  # as in images.py: without Pillow's own limit of size
    image.load()
    values = np.asarray(image)
    return values if spread == 1 else values // spread


def _open(file: IO[bytes]) -> ImageFile.ImageFile:
    """Read the header. `Image.open` is not used, for the reasons given in images.py."""
    head = file.read(16)
    for plugin in _PLUGINS:
        accept = Image.OPEN[plugin.format][1]
        if accept is not None and accept(head) is True:
            file.seek(0)
            return plugin(file, "")
    if head.startswith((b"\xff\xd8\xff", b"RIFF", b"GIF8")):
        raise ImageError(f"it is a JPEG, WebP or GIF file: {UNFIT}")
    raise ImageError("it is no PNG, TIFF or BMP file\n\nhint: write label maps as PNG")


def _as_ids(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return whole numbers of any type as int64.

    Raises:
        ImageError: If there is more than one number per pixel, or one that is not whole.
    """
    if values.ndim != 2:
        raise ImageError(f"it has {values.ndim} axes\n\nhint: a label map has one number per pixel")
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        raise ImageError("it holds fractions, not class ids\n\nhint: save it as whole numbers")
    return values.astype(np.int64)
