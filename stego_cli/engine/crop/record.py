"""The record of a folder of crops: what was made from what, with which settings; survives a kill at any moment.

`manifest.json` and one list of images per split are written at the end of a run. While a run goes on, each finished
image is one line appended to a journal, which begins with everything known before; where there is a journal, it alone
counts. Crops are written under a temporary name and renamed, without waiting for the disk: a killed process loses
nothing that the system has taken over, and after a power cut a file that did not reach the disk has another size than
the record says, so that it is made again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from stego_cli import __version__
from stego_cli.data.crops import CROPS_PER_IMAGE
from stego_cli.data.datasets.cropped import MANIFEST
from stego_cli.engine.crop.files import Stamp
from stego_cli.errors import OutputError
from stego_cli.files import output_error, printable, write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

FORMAT = 1
JOURNAL = ".crops.journal"


@dataclass(frozen=True)
class CroppedImage:
    """One image whose crops are there.

    Attributes:
        index: Its number in the split.
        name: Its name in the dataset.
        image: Its file.
        label: Its label map, if it has one.
        image_bytes: Sizes of the crops' images.
        label_bytes: Sizes of the crops' label maps; empty if the dataset has no labels.
    """

    index: int
    name: str
    image: Stamp
    label: Stamp | None
    image_bytes: tuple[int, ...]
    label_bytes: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a line of the list."""
        return {
            "index": self.index,
            "name": self.name,
            "image": self.image,
            "label": self.label,
            "image_bytes": self.image_bytes,
            "label_bytes": self.label_bytes,
        }

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> CroppedImage:
        """Read a line of the list.

        Raises:
            ValueError, KeyError, TypeError: If it is none.
        """
        label, sizes = line["label"], (tuple(map(int, line["image_bytes"])), tuple(map(int, line["label_bytes"])))
        if len(sizes[0]) != CROPS_PER_IMAGE or len(sizes[1]) not in {0, CROPS_PER_IMAGE}:
            raise ValueError("a wrong number of crops")
        stamps = Stamp(*map(int, line["image"])), None if label is None else Stamp(*map(int, label))
        return cls(int(line["index"]), str(line["name"]), *stamps, *sizes)


@dataclass(frozen=True)
class SkippedImage:
    """One image that gave no crops; its numbers stay free."""

    index: int
    name: str
    reason: str


@dataclass
class SplitRecord:
    """What is known of one split.

    Attributes:
        images: How many images it had.
        done: Images whose crops are there, by number.
        skipped: Images that could not be used.
    """

    images: int
    done: dict[int, CroppedImage] = field(default_factory=dict)
    skipped: list[SkippedImage] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the entry of the manifest."""
        return {
            "images": self.images,
            "crops": CROPS_PER_IMAGE * len(self.done),
            "complete": len(self.done) + len(self.skipped) == self.images,
            "skipped": [vars(image) for image in self.skipped],
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> SplitRecord:
        """Read an entry of the manifest; which images are done is not in it.

        Raises:
            ValueError, KeyError, TypeError: If it is none.
        """
        skipped = [SkippedImage(int(one["index"]), str(one["name"]), str(one["reason"])) for one in entry["skipped"]]
        return cls(int(entry["images"]), skipped=skipped)


@dataclass
class CropRecord:
    """What a folder says about itself.

    Attributes:
        settings: What decides about the content of the crops, by name.
        splits: What is there, by split.
        finished: No run was cut off in it.
    """

    settings: dict[str, Any]
    splits: dict[str, SplitRecord]
    finished: bool = True

    def write(self, out: Path, about: Mapping[str, Any]) -> None:
        """Write the lists and the manifest, and drop the journal, whose content they now have.

        Args:
            out: The folder.
            about: What else the manifest tells its readers.

        Raises:
            OutputError: If they cannot be written.
        """
        for split, record in self.splits.items():
            lines = (json.dumps(record.done[index].to_json()) + "\n" for index in sorted(record.done))
            write_text(list_of(out, split), "".join(lines))
        head = {"format": FORMAT, "stego_version": __version__, **about, **self.settings}
        splits = {split: self.splits[split].to_json() for split in sorted(self.splits)}
        write_text(out / MANIFEST, json.dumps({**head, "splits": splits}, indent=1) + "\n")
        (out / JOURNAL).unlink(missing_ok=True)


def list_of(out: Path, split: str) -> Path:
    """Return the list of the images of a split: one JSON object in a line."""
    return out / f"images_{split}.jsonl"


def read_record(out: Path) -> CropRecord | None:
    """Return what a folder says about itself; None if it has no record.

    What is damaged in a list or at the end of a journal counts as not there, so that it is made again.

    Raises:
        OutputError: If the manifest cannot be read, as then nobody knows how the crops were made.
    """
    return _read_journal(out / JOURNAL) or _read_manifest(out)


class Journal:
    """What a run adds to the record of a folder, on disk at once.

    Args:
        out: The folder; must exist.
        record: What is known; grows with the run.
    """

    def __init__(self, out: Path, record: CropRecord) -> None:
        self.path = out / JOURNAL
        self.record = record
        self._file: IO[str] | None = None

    def __enter__(self) -> Journal:
        """Begin with all that is known, so that nothing else needs to be read after a kill."""
        splits = self.record.splits
        head = {"settings": self.record.settings, "splits": {name: one.to_json() for name, one in splits.items()}}
        lines = [head, *(_line(name, image) for name, one in splits.items() for image in one.done.values())]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))
        try:
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise output_error(self.path, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it; it stays until the record is written."""
        if self._file is not None:
            self._file.close()

    def add(self, split: str, image: CroppedImage) -> None:
        """Remember one image.

        Raises:
            OutputError: If the journal cannot be written.
        """
        if self._file is None:
            raise RuntimeError("the journal must be opened with `with` before it is written to")
        self.record.splits[split].done[image.index] = image
        try:
            self._file.write(json.dumps(_line(split, image)) + "\n")
            self._file.flush()
        except OSError as error:
            raise output_error(self.path, error) from error


def _line(split: str, image: CroppedImage) -> dict[str, Any]:
    return {"split": split, **image.to_json()}


def _read_journal(path: Path) -> CropRecord | None:
    """Read the journal of a run that was cut off; its last line may be half written."""
    try:
        head, *lines = path.read_text("utf-8", errors="replace").splitlines()
        first = json.loads(head)
        splits = {str(name): SplitRecord.from_json(entry) for name, entry in first["splits"].items()}
        record = CropRecord(dict(first["settings"]), splits, finished=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # what the manifest says, if there is one, comes next
    for line in _objects(lines):
        _take(record.splits.get(str(line.get("split"))), line)
    return record


def _read_manifest(out: Path) -> CropRecord | None:
    path = out / MANIFEST
    try:
        content: Any = json.loads(path.read_text("utf-8"))
        found, splits = content["format"], content["splits"]
        if found == FORMAT:
            records = {str(name): SplitRecord.from_json(entry) for name, entry in splits.items()}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(
            f"`{printable(path)}`, which says how the crops there were made, cannot be read: {error!r}\n\n"
            "hint: add --overwrite to make them all again, or choose another folder with --out"
        ) from error
    if found != FORMAT:
        raise OutputError(
            f"`{printable(path)}` has format {found}, this version knows {FORMAT}\n\n"
            "hint: choose another folder with --out, or add --overwrite to make the crops again"
        )
    about = {"format", "stego_version", "splits"}
    record = CropRecord({key: value for key, value in content.items() if key not in about}, records)
    for split, one in records.items():
        for line in _objects(_lines(list_of(out, split))):
            _take(one, line)
    return record


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _objects(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    """Yield what the lines hold, up to the first that is damaged."""
    for line in lines:
        try:
            content = json.loads(line)
        except ValueError:
            return
        if isinstance(content, dict):
            yield content


def _take(record: SplitRecord | None, line: Mapping[str, Any]) -> None:
    """Add one image to the record of its split, unless the line is damaged."""
    if record is None:
        return
    try:
        image = CroppedImage.from_json(line)
    except (ValueError, KeyError, TypeError):
        return
    record.done[image.index] = image
