"""What is wrong with a dataset, or worth knowing before anything long starts, from what was seen of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from stego_cli.data.histogram import MOST_CLASSES
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from stego_cli.data.dataset import Dataset
    from stego_cli.data.histogram import Histogram
    from stego_cli.data.pairing import Pairing
    from stego_cli.data.survey import Size, Tally, ValueCount

Severity = Literal["problem", "note"]

# What opening a dataset says in short, and is said here file by file.
_TOLD = ("belong to no image", "have no label map", "a link to nothing", "cannot look into it")
_MUCH = 2  # an image this many times smaller than the working size is blurred rather than seen


@dataclass(frozen=True)
class Finding:
    """One thing about a split.

    Attributes:
        severity: A problem should be mended first; a note is only to be known.
        kind: What it is about, for programs.
        split: Where; more than one name where splits are compared.
        message: What it is, in words.
        items: Each file or value that it is about.
        hint: What to do about it, or nothing.
    """

    severity: Severity
    kind: str
    split: str
    message: str
    items: tuple[str, ...] = ()
    hint: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "severity": self.severity,
            "kind": self.kind,
            "split": self.split,
            "message": self.message,
            "items": list(self.items),
            "hint": self.hint,
        }


@dataclass(frozen=True)
class Survey:
    """All that is known about one split.

    Attributes:
        dataset: The split.
        pairing: What the names of its files tell.
        tally: What was seen in its files.
        histogram: What its label values mean.
    """

    dataset: Dataset
    pairing: Pairing
    tally: Tally
    histogram: Histogram

    def within(self, path: Path) -> str:
        """Return a path within the dataset, fit to be shown."""
        root = self.dataset.root
        return printable(path.relative_to(root) if path.is_relative_to(root) else path)

    def image(self, index: int) -> str:
        """Return what an image is called."""
        return self.within(self.dataset.samples[index].image)

    def label(self, index: int) -> str:
        """Return what the label map of an image is called."""
        sample = self.dataset.samples[index]
        return self.within(sample.label or sample.image)

    def problem(self, kind: str, message: str, items: Sequence[str] = (), hint: str = "") -> Finding:
        """Return something to mend in this split."""
        return Finding("problem", kind, self.dataset.split, message, tuple(items), hint)

    def note(self, kind: str, message: str, items: Sequence[str] = (), hint: str = "") -> Finding:
        """Return something to know about this split."""
        return Finding("note", kind, self.dataset.split, message, tuple(items), hint)


def find(survey: Survey, resolution: int) -> list[Finding]:
    """Return what there is to say about one split.

    Args:
        survey: What is known about it.
        resolution: Shorter side, in pixels, that images will be brought to.
    """
    return [
        *_unreachable(survey),
        *_left_over(survey),
        *_unusable(survey),
        *_values(survey),
        *_classes(survey),
        *_unusual(survey, resolution),
    ]


def find_shared(surveys: Sequence[Survey]) -> list[Finding]:
    """Name images that are in more than one split, byte for byte, so that scores would flatter."""
    places: dict[bytes, list[tuple[str, str]]] = {}
    for survey in surveys:
        for digest, indices in survey.tally.digests.items():
            places.setdefault(digest, []).append((survey.dataset.split, survey.image(indices[0])))
    shared = [where for where in places.values() if len(where) > 1]
    if not shared:
        return []
    splits = ", ".join(dict.fromkeys(split for where in shared for split, _ in where))
    items = tuple(" = ".join(name for _, name in where) for where in shared)
    message = f"{many(len(shared), 'image')} in more than one split, so that scores flatter"
    if all(survey.histogram.is_plain for survey in surveys):
        return [Finding("problem", "shared-image", splits, message, items, "keep each image in one split only")]
    return [Finding("note", "shared-image", splits, message, items)]  # a known dataset, as published


def merged(findings: Sequence[Finding]) -> list[Finding]:
    """Say once what is the same for several splits; problems come first."""
    splits: dict[Finding, list[str]] = {}
    for finding in findings:
        splits.setdefault(replace(finding, split=""), []).append(finding.split)
    found = [replace(finding, split=", ".join(names)) for finding, names in splits.items()]
    return sorted(found, key=lambda finding: finding.severity != "problem")


def many(count: int, what: str) -> str:
    """Return a number with its noun.

    Example:
        >>> many(1, "image"), many(1200, "image")
        ('1 image', '1,200 images')
    """
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def by(size: Size) -> str:
    """Return a size as height x width."""
    return f"{size[0]}x{size[1]}"


def _unreachable(survey: Survey) -> Iterator[Finding]:
    """Name folders and links that lead nowhere."""
    locked, broken = survey.pairing.locked, survey.pairing.broken
    if locked:
        items = [f"{survey.within(path)}: {reason}" for path, reason in locked]
        message = f"{many(len(items), 'folder')} that cannot be looked into"
        yield survey.problem("unreadable-folder", message, items, "make them readable with `chmod u+rx`")
    if broken:
        message = f"{many(len(broken), 'link')} to nothing"
        hint = "put the files back that they lead to, or remove the links"
        yield survey.problem("broken-link", message, [survey.within(path) for path in broken], hint)


def _left_over(survey: Survey) -> Iterator[Finding]:
    """Name what is left over when images and label maps are paired by name."""
    pairing = survey.pairing
    if pairing.same_stem:
        items = [" and ".join(map(printable, names)) for names in pairing.same_stem]
        message = f"{many(len(items), 'group')} of images that differ in the suffix only"
        hint = "rename all but one: they would take the same label map, and give results of the same name"
        yield survey.problem("same-stem", message, items, hint)
    if pairing.orphans:
        items = [survey.within(path) for path in pairing.orphans]
        hint = "add the images, or remove the label maps; the two belong together by name"
        yield survey.problem("label-without-image", f"{many(len(items), 'label map')} without image", items, hint)
    if not survey.dataset.is_labelled and not pairing.orphans and not any(near for _, near in pairing.unlabelled):
        yield survey.note("no-labels", "no label maps: classes can be formed, but scores cannot be computed")
    elif pairing.unlabelled:
        items = [
            survey.within(path) + (f" (there is {', '.join(map(survey.within, near))})" if near else "")
            for path, near in pairing.unlabelled
        ]
        message = f"{many(len(items), 'image')} without label map"
        if not survey.histogram.is_plain:  # a known dataset, as published
            yield survey.note("image-without-label", message, items)
            return
        hint = "add label maps: PNG files of the image's name; without one, an image never counts in scores"
        yield survey.problem("image-without-label", message, items, hint)


def _unusable(survey: Survey) -> Iterator[Finding]:
    """Name what cannot be read, and label maps that do not fit their images."""
    tally = survey.tally
    if tally.image_errors:
        items = [f"{survey.image(index)}: {reason}" for index, reason in sorted(tally.image_errors.items())]
        hint = "copy or download them again, or take them out of the folder"
        yield survey.problem("image-unreadable", f"{many(len(items), 'image')} that cannot be read", items, hint)
    if tally.label_errors:
        items = [f"{survey.label(index)}: {reason}" for index, reason in sorted(tally.label_errors.items())]
        hint = "save them as PNG with one channel, whose values are the class ids"
        yield survey.problem("label-unreadable", f"{many(len(items), 'label map')} that cannot be used", items, hint)
    if tally.mismatches:
        items = [
            f"{survey.label(index)}: {by(label)}, {_compared(label, image)} {by(image)} of its image"
            for index, (label, image) in sorted(tally.mismatches.items())
        ]
        message = f"{many(len(items), 'label map')} of another size than the image (height x width)"
        hint = "make them again at the size of the image, without interpolation"
        yield survey.problem("label-size", message, items, hint)


def _compared(label: Size, image: Size) -> str:
    """Say how the size of a label map compares with that of its image."""
    if label[0] >= image[0] and label[1] >= image[1]:
        return "larger than the"
    return "smaller than the" if label[0] <= image[0] and label[1] <= image[1] else "unlike the"


def _values(survey: Survey) -> Iterator[Finding]:
    """Name label values that should not be there."""
    found, known = survey.histogram, len(survey.histogram.classes)
    if found.unlabelled is not None:
        message = f"the label value {found.unlabelled} follows the last class and is taken for unlabelled"
        yield survey.note("unlabelled-value", message, _value_items(survey, found.ignored, [found.unlabelled]))
    if not found.stray:
        return
    items = _value_items(survey, found.stray, list(found.stray))
    highest = max(found.stray)
    if list(found.stray) == [known] and not found.classes[0]:
        message = f"the labels seem to count from 1: there is no 0, but {known} after the last class, {known - 1}"
        yield survey.problem("counts-from-one", message, items, "take 1 from every label value")
        return
    message = f"{many(len(items), 'label value')} outside the {known} classes, 0 to {known - 1}"
    hint = "mend the label maps, or write 255 where there is no class"
    if found.is_plain and highest < MOST_CLASSES:
        hint += f"; if these are classes, add `--classes {highest + 1}`"
    yield survey.problem("stray-value", message, items, hint)


def _value_items(survey: Survey, counts: Mapping[int, ValueCount], values: Sequence[int]) -> list[str]:
    """Say how much of the labels each value makes, and where to look at it."""
    return [
        f"{value}: {percent(counts[value].pixels / survey.histogram.pixels)} of the pixels, in "
        f"{many(counts[value].maps, 'label map')} such as {survey.label(counts[value].example)}"
        for value in values
    ]


def percent(share: float) -> str:
    """Return a fraction in percent; what is not nothing is not shown as 0.

    Example:
        >>> percent(0.1234), percent(0.00001), percent(0)
        ('12.3 %', '<0.1 %', '0 %')
    """
    if 0 < share < 0.0005:
        return "<0.1 %"
    return f"{100 * share:.1f} %" if share else "0 %"


def _classes(survey: Survey) -> Iterator[Finding]:
    """Say which classes never occur, and whether anybody has said what the classes are."""
    found, tally = survey.histogram, survey.tally
    if not tally.maps:
        return
    absent = [f"{index} {name}" for index, name in enumerate(found.names) if not found.classes[index]]
    if absent and found.labelled:
        whole = tally.maps == sum(sample.label is not None for sample in survey.dataset.samples)
        words = "1 class" if len(absent) == 1 else f"{len(absent)} classes"
        where = "the label maps" if whole else f"the sample of {many(tally.maps, 'label map')}"
        yield survey.note("absent-class", f"{words} without a pixel in {where}", absent)
    if not found.labelled:
        yield survey.problem("nothing-labelled", "label maps in which not one pixel has a class")


def _unusual(survey: Survey, resolution: int) -> Iterator[Finding]:
    """Say which images are converted, small, or there twice."""
    tally = survey.tally
    for message in survey.dataset.notes:
        if not any(words in message for words in _TOLD):
            yield survey.note("dataset", message)
    converted = [
        f"{kind} ({many(seen.images, 'image')}, such as {survey.image(seen.example)}): {'; '.join(seen.notes)}"
        for kind, seen in tally.kinds.items()
        if seen.notes
    ]
    if converted:
        yield survey.note("converted", "images that are not plain 8-bit RGB", converted)
    small = sorted(index for size, those in tally.sizes.items() if min(size) * _MUCH < resolution for index in those)
    if small:
        message = f"{many(len(small), 'image')} much smaller than the {resolution} pixels they will be brought to"
        hint = "leave them out, or work at a lower --res"
        yield survey.note("small-image", message, [survey.image(index) for index in small], hint)
    doubles = [those for those in tally.digests.values() if len(those) > 1]
    if doubles:
        message = f"{many(len(doubles), 'group')} of images that are the same, byte for byte"
        yield survey.note("duplicate-image", message, [" = ".join(map(survey.image, those)) for those in doubles])
