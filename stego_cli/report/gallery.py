"""The gallery: one self-contained page that shows what a run made, built from the content of `predictions.json` alone.

Pictures are linked, never copied, so the page stays small and opens from disk without a network.
"""

from __future__ import annotations

import base64
import hashlib
import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from stego_cli.files import printable, write_text
from stego_cli.report.overlay import LONGEST_SIDE

if TYPE_CHECKING:
    from collections.abc import Mapping

GALLERY_NAME = "index.html"

_SETTING_NAMES = {
    "crf": "edges sharpened by a CRF",
    "mirror": "averaged with the mirror image",
    "resolution": "working size, shorter side",
}


def write_gallery(out: Path, predictions: Mapping[str, Any]) -> Path:
    """Write `out`/index.html from the content of `predictions.json`.

    Names are shown as text whatever they contain; a file name that is not UTF-8 keeps its bytes in the links. Links to
    the originals are relative to `out`, so the page finds them as long as both stay where they are.

    Args:
        out: The folder that the paths in `predictions` are relative to.
        predictions: See `predictions.json`, format 1. Inputs are relative to the current folder, or absolute.

    Returns:
        The path of the page.

    Raises:
        OutputError: If the system refuses the write.
    """
    environment = Environment(
        loader=PackageLoader("stego_cli.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters["share"] = percent
    page = environment.get_template("gallery.html.j2").render(page_context(out, predictions))
    target = out / GALLERY_NAME
    write_text(target, page)
    return target


def page_context(out: Path, predictions: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that the template shows, as text, numbers and links."""
    summary = predictions["summary"]
    probes = [
        _probe(name, space, summary["shares"].get(name, {})) for name, space in predictions["label_spaces"].items()
    ]
    script = _packaged("gallery.js")
    return {
        "stego": predictions["stego"],
        "created": predictions["created"],
        "model": predictions["model"],
        "settings": [
            (_SETTING_NAMES.get(name, name.replace("_", " ")), _in_words(value))
            for name, value in predictions["settings"].items()
        ],
        "summary": summary,
        "shown": sum(image["status"] != "failed" for image in predictions["images"]),
        "figures": _figures(summary),
        "scores": [
            (name, f"{score * 100:.1f}\u202f%") for name, score in predictions["model"].get("scores", {}).items()
        ],
        "probes": probes,
        "failed": [
            {"name": printable(image["input"]), "error": _reason(image.get("error"))}
            for image in predictions["images"]
            if image["status"] == "failed"
        ],
        "longest_overlay": LONGEST_SIDE,
        "data": {"probes": probes, "images": _shown_images(out, predictions)},
        "style": _packaged("gallery.css"),
        "script": script,
        # The page allows this one script and no other, should a name ever slip through the escaping.
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }


def percent(share: float) -> str:
    r"""Return a fraction as people write it, with as many digits as matter.

    Example:
        >>> [percent(share) for share in (0.4149, 0.0312, 0.0002, 0.0)]
        ['41\u202f%', '3.1\u202f%', '<0.1\u202f%', '0\u202f%']
    """
    if share >= 0.0995:
        return f"{share * 100:.0f}\u202f%"
    if share >= 0.001:
        return f"{share * 100:.1f}\u202f%"
    return "<0.1\u202f%" if share > 0 else "0\u202f%"


def link(path: str) -> str:
    r"""Return a path as the relative part of a URL; bytes that are not UTF-8 keep their value.

    Example:
        >>> link("labels/50% caf\udce9:1.png")
        'labels/50%25%20caf%E9%3A1.png'
    """
    return quote(os.fsencode(path).replace(os.sep.encode(), b"/"), safe="/")


def link_to_input(path: str, out: Path) -> str:
    """Return the link from a page in `out` to an input, relative where the file system allows it."""
    target = Path(path).absolute()
    try:
        return link(os.path.relpath(target, out.absolute()))
    except ValueError:  # another drive
        return target.as_uri()


def _shown_images(out: Path, predictions: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the script needs about each image that has results; short keys, for there may be thousands."""
    classes = {
        probe: {name: index for index, name in enumerate(space["names"])}
        for probe, space in predictions["label_spaces"].items()
    }
    return [
        {
            "id": position,
            "name": printable(image["name"]),
            "height": image["height"],
            "width": image["width"],
            "earlier": image["status"] != "done",
            "notes": [printable(note) for note in image.get("notes") or ()],
            "seconds": image.get("seconds"),
            "photo": link_to_input(image["input"], out),
            "probes": {
                probe: {
                    **{kind: link(path) for kind, path in outputs.items() if path},
                    "shares": _ranked(image["shares"].get(probe, {}), classes[probe]),
                }
                for probe, outputs in image["outputs"].items()
            },
        }
        for position, image in enumerate(predictions["images"], start=1)
        if image["status"] != "failed"
    ]


def _probe(name: str, space: Mapping[str, Any], shares: Mapping[str, float]) -> dict[str, Any]:
    """Return one probe's legend: classes that occur, most frequent first, then those that do not."""
    classes = [
        {"id": index, "name": text, "colour": "#{:02x}{:02x}{:02x}".format(*colour), "share": shares.get(text, 0.0)}
        for index, (text, colour) in enumerate(zip(space["names"], space["colours"], strict=True))
    ]
    numbered = [text.startswith("cluster ") for text in space["names"]]
    return {
        "id": name,
        "title": f"{name} probe",
        "named": not all(numbered),
        "numbered": any(numbered),
        "classes": classes,
        "found": sorted((entry for entry in classes if entry["share"] > 0), key=lambda entry: -entry["share"]),
        "absent": [entry for entry in classes if entry["share"] <= 0],
    }


def _ranked(shares: Mapping[str, float], classes: Mapping[str, int]) -> list[tuple[int, float]]:
    """Return (class id, share), largest first, without the classes that do not occur."""
    present = [(classes[name], round(share, 5)) for name, share in shares.items() if share > 0]
    return sorted(present, key=lambda entry: -entry[1])


def _reason(error: str | None) -> str:
    """Return why an image failed, without the blank line that a terminal gets before the hint."""
    return printable(error or "no reason recorded").replace("\n\n", "\n")


def _figures(summary: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Return what the run did, as (what, how many, whether it is bad news)."""
    failed, remaining = summary["failed"], summary.get("remaining", 0)
    earlier = summary["skipped"] + summary.get("kept", 0)
    figures = [("done in this run", str(summary["done"]), False)]
    if earlier:
        figures.append(("from an earlier run", str(earlier), False))
    figures.append(("could not be used", str(failed), failed > 0))
    if remaining:
        figures.append(("not reached, the run was stopped", str(remaining), True))
    return [*figures, ("time", _pace(summary["seconds"], summary["done"]), False)]


def _pace(seconds: float, done: int) -> str:
    """Say how long the run took, and how fast it was when anything was done."""
    time = f"{seconds:.1f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
    return f"{time}, {done / seconds:.1f} images a second" if done and seconds > 0 else time


def _in_words(value: Any) -> str:
    """Return the value of a setting as a reader expects it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "not set"
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_in_words(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_in_words(part) for part in value)
    return printable(str(value))


def _packaged(name: str) -> str:
    """Read a file that lies beside the template."""
    return (files("stego_cli.report") / "templates" / name).read_text("utf-8")
