"""The files that belong to one segmented image: where they lie, how they are written, whether they are sound."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from stego_cli.data.views import outside_value
from stego_cli.files import atomic_write
from stego_cli.report.masks import is_sound, write_label_png
from stego_cli.report.overlay import is_sound_overlay, write_overlay

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from stego_cli.config.model import LabelSpace, Probe
    from stego_cli.config.words import SaveKind
    from stego_cli.segmenter import Array, Labelled

Outputs = dict[str, dict[str, str]]
PLACES = {"labels": ("labels", "png"), "overlay": ("overlays", "jpg"), "probs": ("probs", "npz")}


def output_paths(name: str, probes: Sequence[Probe], save: Sequence[SaveKind]) -> Outputs:
    """Return where the files of one image lie, relative to the output folder, by probe and kind.

    The first probe's files are in `labels`, `overlays`, `probs`; a second probe's are in folders with its name behind.

    Example:
        >>> output_paths("a/b", ["cluster", "linear"], ["labels"])
        {'cluster': {'labels': 'labels/a/b.png'}, 'linear': {'labels': 'labels_linear/a/b.png'}}
    """
    return {
        probe: {
            kind: f"{folder}{f'_{probe}' if index else ''}/{name}.{suffix}"
            for kind, (folder, suffix) in PLACES.items()
            if kind in save
        }
        for index, probe in enumerate(probes)
    }


def are_sound(out: Path, outputs: Mapping[str, Mapping[str, str]], height: int, width: int) -> bool:
    """Say whether every file of an image is there and whole, from their first byte to their last."""
    sound: dict[str, Callable[[Path], bool]] = {
        "labels": lambda path: is_sound(path, height, width),
        "overlay": is_sound_overlay,
        "probs": _is_sound_zip,
    }
    return all(sound[kind](out / relative) for files in outputs.values() for kind, relative in files.items())


def _is_sound_zip(path: Path) -> bool:
    """Say whether every member of a zip file can be read and has its checksum."""
    try:
        with ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, BadZipFile, zlib.error):
        return False


def write_outputs(
    out: Path,
    outputs: Mapping[str, Mapping[str, str]],
    pixels: Array,
    answers: Mapping[Probe, Labelled],
    spaces: Mapping[Probe, LabelSpace],
) -> None:
    """Write every file of one image, each whole or not at all.

    Args:
        out: The output folder.
        outputs: What `output_paths` said.
        pixels: The image, (H, W, 3) uint8 RGB.
        answers: What each probe says.
        spaces: The classes each probe speaks of.

    Raises:
        OutputError: If one cannot be written.
    """
    for probe, answer in answers.items():
        files, space = outputs[probe], spaces[probe]
        if "labels" in files:
            write_label_png(out / files["labels"], answer.label_map, space, outside_value(len(space)))
        if "overlay" in files:
            write_overlay(out / files["overlay"], pixels, answer.label_map, space)
        if "probs" in files:
            _write_probs(out / files["probs"], answer)


def _write_probs(path: Path, answer: Labelled) -> None:
    """Write probabilities at working size in half precision, with the image's own size beside them."""
    content: dict[str, Any] = {"probs": answer.probabilities().astype(np.float16), "image_size": answer.label_map.shape}
    with atomic_write(path) as file:
        np.savez_compressed(file, **content)
