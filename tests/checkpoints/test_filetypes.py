from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from stego_cli.checkpoints.filetypes import identify
from stego_cli.errors import CheckpointError


def torch_bytes(count: int = 2, **how: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(count)}, buffer, **how)
    return buffer.getvalue()


def image(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2)).save(buffer, kind)
    return buffer.getvalue()


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return buffer.getvalue()


def numpy_archive() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, nns=np.zeros((2, 3)))
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return buffer.getvalue()


CASES = {
    "torch": (torch_bytes(), "torch", "a torch file"),
    "legacy": (
        torch_bytes(_use_new_zipfile_serialization=False),
        "torch-legacy",
        "before torch 1.6",
    ),
    "torchscript": (zipped("m/data.pkl", "m/constants.pkl", "m/code/x.py"), "torchscript", "TorchScript"),
    "safetensors": (save({"a": torch.ones(2)}), "safetensors", "safetensors"),
    "npz": (numpy_archive(), "numpy", ".npz"),
    "zip": (zipped("readme.txt"), "archive", "zip archive"),
    "truncated zip": (torch_bytes(99)[:-40], "damaged", "end is missing"),
    "pickle": (b"\x80\x04K\x01.", "pickle", "bare pickle"),
    "web page": (b"\n <!DOCTYPE html><html><body>Quota exceeded", "page", "`<!DOCTYPE html>`"),
    "error in XML": (b"\xef\xbb\xbf<?xml version='1.0'?><Error>", "page", "web page"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer", "Git LFS"),
    "text": (b"epoch,loss\n1,2\n" * 200, "text", "`epoch,loss`"),
    "empty": (b"", "empty", "empty file"),
    "PNG": (image("PNG"), "image", "PNG"),
    "JPEG": (image("JPEG"), "image", "JPEG"),
    "TIFF": (image("TIFF"), "image", "TIFF"),
    "WebP": (image("WEBP"), "image", "WebP"),
    "gzip": (b"\x1f\x8b\x08\x00" + b"\0" * 20, "archive", "gzip"),
    "tar": (tar(), "archive", "tar"),
    "unknown": (bytes(range(1, 200)), "other", "no kind"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_known_by_its_content_whatever_its_name(name: str, tmp_path: Path) -> None:
    data, kind, words = CASES[name]
    path = tmp_path / "model.ckpt"
    path.write_bytes(data)
    found = identify(path)
    assert found.kind == kind
    assert words in found.words
    assert found.hint or kind in {"torch", "torch-legacy", "safetensors"}


def test_a_folder_is_a_folder(tmp_path: Path) -> None:
    assert identify(tmp_path).kind == "folder"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.ckpt.*No such file"):
        identify(tmp_path / "nowhere.ckpt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ckpt")
    assert identify(tmp_path / "pipe.ckpt").words == "a device or pipe"
