"""TIFF files beyond what Pillow opens: more than four bands, deep numbers in several bands, bands in planes."""

from __future__ import annotations

from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from stego_cli.data.pixels import ORIENTATION_TAG, BandChoice, Bands
from stego_cli.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_BITS_PER_SAMPLE, _SAMPLES_PER_PIXEL, _PLANAR_CONFIG, _EXTRA_SAMPLES = 258, 277, 284, 338
_NO_DATA = 42113  # written by GDAL
_ALPHA_KINDS = (1, 2)  # associated and unassociated alpha; 0 is a band like any other


def pillow_lacks(tags: Mapping[int, Any], pillow_bands: int, bands: BandChoice | None) -> bool:
    """Say whether Pillow would leave out a band that is asked for, or mix up deep numbers kept in planes.

    Args:
        tags: The tags of a TIFF file; empty for other files.
        pillow_bands: How many bands Pillow reads.
        bands: The bands that the user wants.
    """
    if not tags:
        return False
    deep_planes = max(tags.get(_BITS_PER_SAMPLE, (1,))) > 8 and tags.get(_PLANAR_CONFIG, 1) == 2
    left_out = tags.get(_SAMPLES_PER_PIXEL, 1) > pillow_bands
    return deep_planes or (left_out and max(bands or (1,)) > pillow_bands)


def heed_tags(bands: Bands, tags: Mapping[int, Any], pillow_bands: int) -> Bands:
    """Add what the tags of a TIFF say of its bands, as far as Pillow did not heed it."""
    samples, notes = tags.get(_SAMPLES_PER_PIXEL, 1), bands.notes
    if samples > pillow_bands:
        notes = (*notes, f"{samples} bands: the first {pillow_bands} used")
    # A fourth band of which nothing is said is near infrared as often as opacity.
    has_alpha = bands.has_alpha and not (samples == 4 and not tags.get(_EXTRA_SAMPLES))
    return replace(bands, has_alpha=has_alpha, no_data=_number(tags.get(_NO_DATA)), notes=notes)


def tiff_header(file: IO[bytes]) -> tuple[int, int, int]:
    """Return height and width as stored, and the orientation (1 to 8), without decoding."""
    with _open(file) as tiff:
        page = tiff.pages.first
        return int(page.imagelength), int(page.imagewidth), _orientation(page)


def decode_tiff(file: IO[bytes]) -> Bands:
    """Decode the first picture of a TIFF file with all its bands and its full depth.

    Raises:
        ImageError: If it is compressed in a way that needs another package, or holds complex numbers.
    """
    with _open(file) as tiff:
        page = tiff.pages.first
        try:
            values = page.asarray(maxworkers=1)
        except (KeyError, ValueError, NotImplementedError) as error:
            if "imagecodecs" not in str(error):
                raise
            codec = getattr(page.compression, "name", page.compression)
            raise ImageError(
                f"it is a TIFF of {page.samplesperpixel} band(s) of {page.bitspersample} bits with {codec} "
                "compression, for which a decoder is missing\n\n"
                "hint: `pip install imagecodecs`, or save the file again without compression"
            ) from error
        if values.dtype.kind not in "buif":
            raise ImageError(f"its pixels are of type {values.dtype}\n\nhint: save it again as 8-bit or 16-bit numbers")
        notes = [f"{len(tiff.pages)} pictures in the file: the first one used"] if len(tiff.pages) > 1 else []
        values = _bands_last(values, page.axes, notes)
        if values.shape[:2] != (page.imagelength, page.imagewidth):
            raise ImageError("its header promises other pixels than it holds\n\nhint: copy or download it again")
        return Bands(
            values,
            has_alpha=bool(page.extrasamples) and int(page.extrasamples[-1]) in _ALPHA_KINDS,
            no_data=_number(page.tags.valueof(_NO_DATA)),
            orientation=_orientation(page),
            notes=tuple(notes),
        )


def _open(file: IO[bytes]) -> Any:
    import tifffile  # slow to import, and seldom needed

    file.seek(0)
    return tifffile.TiffFile(file)


def _orientation(page: Any) -> int:
    tag = page.tags.get(ORIENTATION_TAG)
    return int(tag.value) if tag is not None and tag.value in range(1, 9) else 1


def _bands_last(values: NDArray[Any], axes: str, notes: list[str]) -> NDArray[Any]:
    """Bring an array whose axes are named (Y and X for the plane, S for bands) to (H, W, N)."""
    for axis in [axis for axis in axes if axis not in "YXS"]:
        position = axes.index(axis)
        if values.shape[position] > 1:
            notes.append(f"{values.shape[position]} layers: the first one used")
        values, axes = values.take(0, axis=position), axes.replace(axis, "", 1)
    if "S" not in axes:
        return values[:, :, None]
    return np.moveaxis(values, axes.index("S"), -1)


def _number(text: Any) -> float | None:
    """Read a tag that holds a number as text."""
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None
