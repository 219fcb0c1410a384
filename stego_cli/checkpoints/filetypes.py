"""What a file is, told from its first bytes and never from its name."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from stego_cli.errors import CheckpointError
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Kind = Literal[
    "torch", "torch-legacy", "torchscript", "safetensors", "numpy", "pickle", "archive", "damaged", "page", "pointer",
    "image", "text", "empty", "folder", "other",
]  # fmt: skip

AGAIN = "fetch or copy the file again, and compare its size with the original's"
# How `torch.save` began every file before version 1.6: the pickled number 0x1950a86a20f9469cfc6c.
LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_HEAD = 1024
_MAX_SAFETENSORS_HEADER = 100_000_000  # the limit that the safetensors library itself sets


@dataclass(frozen=True)
class FileType:
    """What a file is.

    Attributes:
        kind: For programs.
        words: For people, with an article: "an HTML page".
        hint: What to do when a model was expected.
    """

    kind: Kind
    words: str
    hint: str


def _image(name: str) -> FileType:
    return FileType("image", f"a {name} image", "give a model file; images go to `stego predict`")


_UNPACK = "unpack it and give the model file inside it"
_GIVE = "give a `.safetensors`, `.ckpt` or `.pth` file"
_MAGICS = (
    (b"\x89PNG\r\n\x1a\n", _image("PNG")),
    (b"\xff\xd8\xff", _image("JPEG")),
    (b"GIF8", _image("GIF")),
    (b"BM", _image("BMP")),
    (b"II*\0", _image("TIFF")),
    (b"MM\0*", _image("TIFF")),
    (b"\x1f\x8b", FileType("archive", "a gzip archive", _UNPACK)),
    (b"7z\xbc\xaf", FileType("archive", "a 7z archive", _UNPACK)),
    (b"\x89HDF", FileType("other", "an HDF5 file, as Keras writes them", _GIVE)),
    (b"%PDF", FileType("other", "a PDF document", _GIVE)),
    (b"\x93NUMPY", FileType("numpy", "a NumPy array", "an array, not a model; " + _GIVE)),
)


def identify(path: Path) -> FileType:
    """Tell what a file is; reads the first bytes and, of a zip file, the list of members.

    Raises:
        CheckpointError: If there is no such file or it may not be read.
    """
    try:
        if path.is_dir():
            return FileType("folder", "a folder", "give the model file inside it")
        if path.exists() and not path.is_file():
            return FileType("other", "a device or pipe", _GIVE)  # opening one could wait for ever
        with path.open("rb") as file:
            head = file.read(_HEAD)
        return _of_zip(path) if head.startswith(b"PK\x03\x04") else _of_head(head)
    except OSError as error:
        raise CheckpointError(
            f"cannot read `{printable(path)}`: {error.strerror or error}\n\nhint: check the path and its permissions"
        ) from error


def _of_zip(path: Path) -> FileType:
    """Tell what kind of zip file this is."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, ValueError, OverflowError):
        words = "a torch file or another zip archive whose end is missing or damaged"
        return FileType("damaged", words, AGAIN)
    return _of_members(names)


def _of_members(names: Sequence[str]) -> FileType:
    """Tell what a zip file is from its member names."""
    ends = {name.split("/", 1)[-1] for name in names}
    if "data.pkl" in ends and "constants.pkl" in ends:
        return FileType(
            "torchscript",
            "a TorchScript program",
            "it holds code as well as weights and is not opened here; get the weights as safetensors or a state dict",
        )
    if "data.pkl" in ends:
        return FileType("torch", "a torch file", "")
    if names and all(name.endswith(".npy") for name in names):
        return FileType("numpy", "a NumPy archive (.npz)", "a neighbour index or other arrays, not a model")
    return FileType("archive", "a zip archive", _UNPACK)


def _of_head(head: bytes) -> FileType:
    """Tell what a file is from its first bytes."""
    if not head:
        return FileType("empty", "an empty file", AGAIN)
    return _of_tensors(head) or _of_magic(head) or _of_text(head)


def _of_tensors(head: bytes) -> FileType | None:
    """Recognise the formats that hold tensors or pickles."""
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MAX_SAFETENSORS_HEADER:
        return FileType("safetensors", "a safetensors file", "")
    if head[:1] != b"\x80" or head[1:2] > b"\x05":
        return None
    if LEGACY_MAGIC in head[:32]:  # later pickle protocols put a frame before it
        return FileType("torch-legacy", "a torch file of the format before torch 1.6", "")
    return FileType("pickle", "a bare pickle, not written by torch", "have it saved as safetensors")


def _of_magic(head: bytes) -> FileType | None:
    """Recognise other formats that begin, or nearly begin, with a signature of their own."""
    for magic, found in _MAGICS:
        if head.startswith(magic):
            return found
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _image("WebP")
    return FileType("archive", "a tar archive", _UNPACK) if head[257:262] == b"ustar" else None


def _of_text(head: bytes) -> FileType:
    """Tell a web page, a Git LFS pointer and other text apart from unknown bytes."""
    try:
        text = head.decode("utf-8") if len(head) < _HEAD else head.decode("utf-8", "ignore")
    except UnicodeDecodeError:
        text = "\0"
    start = text.lstrip("\ufeff \t\r\n")
    if start.lower().startswith(("<!doctype", "<html", "<?xml", "<head")):
        return FileType(
            "page",
            f"a web page, not a model: it begins with `{start.split('>')[0][:40]}>`",
            "the download gave an error page; fetch the file by hand in a browser and look at what comes",
        )
    if start.startswith("version https://git-lfs"):
        return FileType(
            "pointer", "a Git LFS pointer, a short text that stands for the file", "fetch the file with `git lfs pull`"
        )
    if all(letter.isprintable() or letter in "\n\r\t\f" for letter in text):
        return FileType("text", f"a text file: it begins with `{start.partition(chr(10))[0][:40]}`", _GIVE)
    return FileType("other", "of no kind that this tool knows", _GIVE)
