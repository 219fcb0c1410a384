"""Why an image file cannot be used, in words: what it is instead, what the system says, what a decoder stumbled on.

Messages here begin with the reason; `naming` puts the file's name in front.
"""

from __future__ import annotations

import stat
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from PIL import Image

from stego_cli.errors import ImageError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_PIXELS = 500_000_000
"""Larger images are refused before anything is decoded: a small file can claim any size."""

_SIGNATURES = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"8BPS", "a Photoshop document"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (b"version https://git-lfs", "a Git LFS pointer (`git lfs pull` fetches the real file)"),
    (b"<svg", "an SVG drawing"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name in front of whatever is wrong with it."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"cannot read image `{printable(path)}`: {error}") from error


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open an ordinary, non-empty file; a pipe is refused before opening it could hang."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError("it is a folder\n\nhint: give the folder itself as input to use the images inside")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("it is a pipe or device, not a file\n\nhint: save the image to a file first")
        if status.st_size == 0:
            raise ImageError("the file is empty (0 bytes)\n\nhint: copy or download it again")
        file = path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        raise _system_error(error) from error
    with file:
        yield file


def _system_error(error: OSError | ValueError) -> ImageError:
    """Say what the system said."""
    if isinstance(error, FileNotFoundError):
        return ImageError("there is no such file\n\nhint: check the spelling; a link may point to something deleted")
    if isinstance(error, PermissionError):
        return ImageError("no permission to read it\n\nhint: make it readable with `chmod u+r`, or ask its owner")
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ImageError(f"the system says: {words}\n\nhint: check that the disk is still there and sound")


@contextmanager
def decoding() -> Iterator[None]:
    """Turn whatever a decoder raises into words: on damaged files that can be any exception at all."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("there is not enough memory to decode it\n\nhint: make the image smaller first") from error
    except Image.DecompressionBombError as error:
        raise _too_large(str(error)) from error
    except Exception as error:
        words = str(error) if " " in str(error) else repr(error)  # a bare key or number says nothing
        raise ImageError(
            f"it is damaged or cut short ({words})\n\nhint: copy or download it again, or save it anew from an editor"
        ) from error


def not_an_image(file: IO[bytes]) -> ImageError:
    """Say what a file seems to be instead of an image."""
    file.seek(0)
    head = file.read(512)
    seems = next((words for start, words in _SIGNATURES if head.lstrip().startswith(start)), "")
    if head[4:8] == b"ftyp":
        seems = "a HEIC or AVIF photo, or a video"
    elif not seems and b"\x00" not in head and not any(byte < 7 for byte in head):
        seems = "a text file"
    looks = f"it looks like {seems}" if seems else "its first bytes fit no known format"
    return ImageError(f"it is not an image that can be read: {looks}\n\nhint: convert it to JPEG, PNG or TIFF first")


def check_size(height: int, width: int) -> None:
    """Refuse what would fill the memory, or has nothing in it."""
    if height * width > MAX_PIXELS:
        raise _too_large(f"{height}x{width} (height x width)")
    if height < 1 or width < 1:
        raise ImageError(f"it has no pixels, {height}x{width} (height x width)\n\nhint: leave it out")


def _too_large(found: str) -> ImageError:
    limit = f"{MAX_PIXELS // 1_000_000} megapixels"
    return ImageError(f"it is too large: {found}; the limit is {limit}\n\nhint: cut it into tiles first")
