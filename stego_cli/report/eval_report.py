"""The page that shows how good models are: scores, classes, confusions and examples, in one file that needs no other.

Made from the content of `scores.json` and the files beside it alone; knows nothing of models.
"""

from __future__ import annotations

import base64
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from stego_cli import __version__
from stego_cli.report.confusion_figure import confusion_figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

HEADS = {
    "cluster": "cluster",
    "cluster_crf": "cluster + CRF",
    "linear": "linear",
    "linear_crf": "linear + CRF",
    "cluster_many_to_one": "cluster, many-to-one",
    "cluster_crf_many_to_one": "cluster, many-to-one + CRF",
}
"""What each kind of result is called, in the order to show them."""

_PICTURES = {"image": "image", "labels": "labels", **HEADS}
_TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".csv": "text/csv"}
NO_CLASS = "(no class)"


def eval_page(folder: Path, entries: Sequence[Mapping[str, Any]]) -> str:
    """Return the page as HTML.

    Args:
        folder: Where the files of each result lie, in folders of their own.
        entries: The results, as in `scores.json`.
    """
    environment = Environment(
        loader=PackageLoader("stego_cli.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment.get_template("eval.html.j2").render(page_context(folder, entries))


def page_context(folder: Path, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return everything that the template shows, as text, numbers and embedded files."""
    shown = [head for head in HEADS if any(entry.get(head) for entry in entries)]
    return {
        "stego": __version__,
        "style": files("stego_cli.report").joinpath("templates/eval.css").read_text("utf-8"),
        "heads": [(head, HEADS[head]) for head in shown],
        "best": {head: _best(entries, head) for head in shown},
        "results": [_result(folder, entry, number) for number, entry in enumerate(entries, start=1)],
        "skipped": sum(len(entry["skipped"]) for entry in entries),
    }


def percent(value: float | None) -> str:
    """Return a fraction as percent with one digit, a dash for none.

    Example:
        >>> percent(0.2814), percent(None)
        ('28.1', '-')
    """
    return "-" if value is None else f"{100 * value:.1f}"


def confusion_of(entry: Mapping[str, Any], head: str) -> tuple[NDArray[np.float64], list[str]]:
    """Return one result's confusions by class, and the names of the predictions.

    Returns:
        Shape (classes, predictions): pixels of each class by what they were predicted as. The last column, if there is
        one more than classes, are pixels in clusters that stand for no class.
    """
    counts = np.array(entry["confusion"][head], np.float64)
    names = list(entry["label_space"]["names"])
    rows: Sequence[int] = entry["cluster_to_class"].get(head, range(len(counts)))
    if entry["extra"] == "reference" and head in entry["cluster_to_class"]:
        counts[len(names) :] = 0
    by_class = np.zeros((len(names) + 1, len(names)))
    for row, class_id in zip(counts, rows, strict=True):
        by_class[class_id] += row  # -1 is the last one
    if by_class[-1].any():
        return by_class.T, [*names, NO_CLASS]
    return by_class[:-1].T, names


def _best(entries: Sequence[Mapping[str, Any]], head: str) -> float | None:
    """Return the best mIoU of a column, if there is more than one result to compare."""
    values = [entry[head]["miou"] for entry in entries if entry.get(head) and entry[head]["miou"] is not None]
    return max(values) if len(entries) > 1 and values else None


def _result(folder: Path, entry: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return what the template shows of one result."""
    place = folder / entry["folder"]
    heads = [head for head in HEADS if entry.get(head)]
    where = f"{entry['checkpoint']} on {entry['dataset']}, {entry['split']}"
    return {
        **{key: entry[key] for key in ("checkpoint", "dataset", "split", "protocol", "images", "clusters", "classes")},
        **{key: entry[key] for key in ("notes", "skipped", "seconds", "versions", "weights", "model")},
        "id": f"result-{number}",
        "scores": {head: entry[head] for head in heads},
        "columns": [(head, HEADS[head]) for head in heads if head in entry["confusion"]],
        "per_class": _per_class(entry, [head for head in heads if head in entry["confusion"]]),
        "figures": [(HEADS[head], _figure(entry, head, where)) for head in HEADS if head in entry["confusion"]],
        "examples": _examples(place, entry),
        "csv": embedded(place / "images.csv"),
        "settings": _settings(entry),
    }


def _per_class(entry: Mapping[str, Any], heads: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row per class: name, colour, and what each head scores."""
    colours = entry["label_space"]["colours"]
    names = list(entry[heads[0]]["per_class"])
    return [
        {
            "name": name,
            "colour": "#{:02x}{:02x}{:02x}".format(*colours[class_id]),
            "heads": [(HEADS[head], entry[head]["per_class"][name]) for head in heads],
        }
        for class_id, name in enumerate(names)
    ]


def _figure(entry: Mapping[str, Any], head: str, where: str) -> str:
    counts, predicted = confusion_of(entry, head)
    title = f"Confusion matrix of {where}: {HEADS[head]}"
    return confusion_figure(counts, entry["label_space"]["names"], predicted, title)


def _examples(place: Path, entry: Mapping[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the pictures, in groups, as embedded files."""
    groups: dict[str, list[dict[str, Any]]] = {"best": [], "between": [], "worst": []}
    for example in entry["examples"]:
        pictures = [
            {
                "title": words,
                "accuracy": example["accuracy"].get(what),
                "source": embedded(place / example["pictures"][what]),
            }
            for what, words in _PICTURES.items()
            if what in example["pictures"]
        ]
        groups[example["why"]].append({"name": example["name"], "pictures": pictures})
    return [(why, examples) for why, examples in groups.items() if examples]


def _settings(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the settings that were not left at nothing, in words."""
    return [
        (key.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for key, value in entry["config"].items()
        if value is not None and not isinstance(value, dict) and value != []
    ]


def embedded(path: Path) -> str:
    """Return a file as a `data:` address, so that the page needs nothing else."""
    return f"data:{_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
