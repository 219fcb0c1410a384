"""Image files: what is in them, how large they are, and in plain words why one cannot be used.

Nothing here changes a setting of Pillow or of the process, so reading is safe in threads and inside other programs.
"""

from __future__ import annotations

import logging
import os
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from stego_cli.data.image_errors import MAX_PIXELS, check_size, decoding, naming, not_an_image, opened
from stego_cli.data.pixels import (
    TURNED,
    BandChoice,
    Bands,
    LoadedImage,
    bands_of_pil,
    from_array,
    from_pil,
    orientation_of,
    to_rgb,
)
from stego_cli.data.tiffs import decode_tiff, heed_tags, pillow_lacks, tiff_header
from stego_cli.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "LoadedImage",
    "from_array",
    "from_pil",
    "image_size",
    "load_image",
    "read_image",
]

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
"""Names of image files that are picked up in folders; a file that is named itself may be called anything."""

# Named one by one, because Pillow knows formats that run other programs (EPS starts Ghostscript).
_PLUGINS = (
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    TiffImagePlugin.TiffImageFile,
    WebPImagePlugin.WebPImageFile,
    BmpImagePlugin.BmpImageFile,
    GifImagePlugin.GifImageFile,
    PpmImagePlugin.PpmImageFile,
)
# What these log while they look at odd files would be printed on stderr by a program that has set up no logging.
for _name in ("PIL", "tifffile"):
    logging.getLogger(_name).addHandler(logging.NullHandler())

_OTHER_BYTE = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}


def read_image(path: Path, bands: BandChoice | None = None) -> LoadedImage:
    """Read the first picture of an image file as upright 8-bit RGB.

    Args:
        path: JPEG, PNG, TIFF, BMP, WebP, GIF or PPM; recognised by content, whatever its name.
        bands: Three bands to use as red, green and blue, counted from 1; by default the first three.

    Raises:
        ImageError: If there is no such file, it is no image, is damaged, is too large, or lacks a band.
    """
    with naming(path), opened(path) as file:
        with decoding():
            image = _open_pillow(file)
            tags = getattr(image, "tag_v2", {})
            lacking = image is None or pillow_lacks(tags, len(image.getbands()), bands)
        check_size(*_upright_size(file, image))
        if image is None or lacking:
            with decoding():
                found = decode_tiff(file)
        else:
            found = _decode_pillow(file, image)
        return to_rgb(found, bands)


def load_image(image: Any) -> LoadedImage:
    """Turn whatever the Python API is given into 8-bit RGB: a path, a Pillow image, an array or a tensor.

    Args:
        image: Arrays as `from_array` takes them, tensors likewise but with channels first, (3, H, W).

    Raises:
        ImageError: If it is something else, or cannot be read.
    """
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return from_pil(image)
    torch = sys.modules.get("torch")  # who has a tensor has imported it
    if torch is not None and isinstance(image, torch.Tensor):
        array = image.detach().cpu().numpy()
        return from_array(np.moveaxis(array, 0, -1) if array.ndim == 3 else array)
    if isinstance(image, np.ndarray):
        return from_array(image)
    raise ImageError(
        f"a {type(image).__name__} is not an image\n\nhint: give a path, a Pillow image, a NumPy array or a tensor"
    )


def image_size(path: Path) -> tuple[int, int]:
    """Return height and width in pixels as `read_image` would give them, from the file's header alone.

    Raises:
        ImageError: As `read_image`, as far as the header shows it.
    """
    with naming(path), opened(path) as file:
        with decoding():
            image = _open_pillow(file)
        size = _upright_size(file, image)
        check_size(*size)
        return size


def _open_pillow(file: IO[bytes]) -> ImageFile.ImageFile | None:
    """Read the header; None for a TIFF that Pillow does not understand.

    `Image.open` is not used: it prints a warning from 89 megapixels on and refuses from 179, by a setting that
    belongs to the whole process.
    """
    file.seek(0)
    head = file.read(16)
    for plugin in _PLUGINS:
        factory, accept = Image.OPEN[plugin.format]
        accepted = accept is None or accept(head)
        if isinstance(accepted, str):
            raise ImageError(f"{accepted}\n\nhint: reinstall Pillow with support for this format")
        if not accepted:
            continue
        file.seek(0)
        try:
            return factory(file, "")
        except SyntaxError:  # how Pillow says that it does not know this variety
            if plugin is not TiffImagePlugin.TiffImageFile:
                raise
            return None
    raise not_an_image(file)


def _upright_size(file: IO[bytes], image: ImageFile.ImageFile | None) -> tuple[int, int]:
    """Return height and width after turning the image upright."""
    if image is None:
        with decoding():
            height, width, orientation = tiff_header(file)
    else:
        (width, height), orientation = _stored_size(image), _orientation(file, image)
    return (width, height) if orientation >= 5 else (height, width)


def _orientation(file: IO[bytes], image: ImageFile.ImageFile) -> int:
    """Return how an image that is not yet decoded has to be turned, 1 to 8."""
    if image.format == "PNG" and "exif" not in image.info and (late := _exif_chunk(file)):
        image.info["exif"] = b"Exif\0\0" + late
    return orientation_of(image)


def _exif_chunk(file: IO[bytes]) -> bytes:
    """Find the EXIF data of a PNG, which may lie behind the pixels, without decoding those."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"eXIf":
            return file.read(length)
        if not kind.isalpha():  # damaged
            break
        file.seek(length + 4, os.SEEK_CUR)
    return b""


def _stored_size(image: ImageFile.ImageFile) -> tuple[int, int]:
    """Return width and height before any turning; for TIFF, Pillow gives those after it."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
    return image.size


def _decode_pillow(file: IO[bytes], image: ImageFile.ImageFile) -> Bands:
    """Decode the first picture, with all 16 bits where there are 16."""
    notes, pillow_bands = _frames(image), len(image.getbands())
    with decoding():
        orientation = _orientation(file, image)
        low_bytes = _low_bytes(file, image)
        _load(image)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and orientation != orientation_of(image):
        notes.append(TURNED)  # Pillow turns TIFFs itself
        orientation = 1
    if low_bytes is None:
        bands = bands_of_pil(image, orientation)
    else:
        deep = np.asarray(image).astype(np.uint16) << 8 | low_bytes
        bands = Bands(deep, has_alpha=image.mode == "RGBA", orientation=orientation)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        with decoding():  # tags of a damaged file are of any type
            bands = heed_tags(bands, image.tag_v2, pillow_bands)
    return replace(bands, notes=(*notes, *bands.notes))


def _load(image: ImageFile.ImageFile) -> None:
    """Decode the pixels. The memory for TIFFs is made here, as Pillow's own way has the limits of `Image.open`."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if not image.tile:
            raise ImageError("it holds no pixels, only a header\n\nhint: copy or download it again")
        image.im = Image.new(image.mode, _stored_size(image)).im
    image.load()


def _frames(image: ImageFile.ImageFile) -> list[str]:
    """Say so when there is more than one picture in the file."""
    try:
        count = getattr(image, "n_frames", 1)
    except Exception:  # noqa: BLE001, a damaged later picture must not cost the first
        image.seek(0)
        return ["several pictures in the file, some damaged: the first one used"]
    return [f"{count} pictures in the file: the first one used"] if count > 1 else []


def _low_bytes(file: IO[bytes], image: ImageFile.ImageFile) -> NDArray[np.uint8] | None:
    """Return the lower half of 16-bit colours, (H, W, N), of which Pillow keeps the upper half only.

    Taking the file's byte order for the opposite one makes Pillow keep the lower half. Without it, 12-bit colours
    in a 16-bit file would come out nearly black. None where nothing would be lost.
    """
    if not image.tile:
        return None
    layout, _, order = _raw_mode(image.tile[0].args).partition(";16")
    if layout not in {"RGB", "RGBA", "RGBX"} or order not in _OTHER_BYTE:
        return None
    again = _open_pillow(file)
    if again is None:
        return None
    swapped = f"{layout};16{_OTHER_BYTE[order]}"
    again.tile = [
        tile._replace(args=(swapped, *tile.args[1:]) if isinstance(tile.args, tuple) else swapped)
        for tile in again.tile
    ]
    _load(again)
    file.seek(0)
    return np.asarray(again)


def _raw_mode(arguments: tuple[Any, ...] | str | None) -> str:
    """Return how the bytes of a file are laid out, such as `RGB;16B`."""
    return str(arguments[0]) if isinstance(arguments, tuple) else str(arguments)
