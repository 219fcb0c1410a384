"""`stego info dataset`: whether a dataset is sound, what is in it, and what to do next."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

from stego_cli.cli import options as o
from stego_cli.cli.declare import DATA, flag, number
from stego_cli.cli.friendly import conclude
from stego_cli.cli.settings import settings, typed_options, with_options
from stego_cli.cli.terminal import show, show_facts, terminal_report
from stego_cli.files import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stego_cli.data.findings import Finding, Survey
    from stego_cli.engine.inspect_dataset import Inspection

WIDTH = 80
SHOWN = 5  # files that are named of each finding
LONGEST = 300  # characters of one of them
MOST_ROWS = 60  # classes in the table

Full = Annotated[
    bool | None,  # not typed: a file may say it
    flag(
        "--full",
        DATA,
        "Decode every image and label map, and look for images that are there twice; else a quick look: headers, "
        "and a sample of the label maps. (default: a quick look)",
    ),
]
Classes = Annotated[
    int | None,
    number(
        "--classes",
        DATA,
        "How many classes count: the ids 0 to N-1. (default: those of the label space, else all there are)",
    ),
]


@with_options(
    **o.DATASET_OPTIONS,
    split=o.Splits,
    label_space=o.LabelSpaceName,
    classes=Classes,
    full=Full,
    resolution=o.Resolution,
    workers=o.Workers,
    json=o.Json,
    config=o.Config,
    overrides=o.Overrides,
    quiet=o.Quiet,
)
def info_dataset_command(**shared: Any) -> None:
    """Check a dataset before anything long starts: pairs, sizes, labels, damage, and what to do next.

    Ends with 1 if something should be mended first; each such thing is named.

    [bold]Examples[/bold]

      stego info dataset my_images/
      stego info dataset cocostuff27 --split val --full
    """
    typed = typed_options(locals())
    from stego_cli.config.inspect import InspectConfig

    read = settings(InspectConfig, typed)
    from stego_cli.engine.inspect_dataset import inspect_dataset

    with terminal_report(quiet=shared["quiet"]) as report:
        result = inspect_dataset(read, report)
    conclude(result, show_inspection, as_json=shared["json"], incomplete=result.problems)


def show_inspection(result: "Inspection") -> None:
    """Print what was found, for people: facts, classes, findings, and what to do."""
    first = result.surveys[0].dataset
    total = sum(len(survey.dataset) for survey in result.surveys)
    splits = len(result.surveys)
    facts = [("folder", printable(first.root)), ("classes", class_words(result)), ("looked at", depth_words(result))]
    facts = [(name, "\n".join(wrapped(value, "", WIDTH - 13))) for name, value in facts]
    show_facts(f"{printable(first.name)}: {total:,} images in {splits} {'split' if splits == 1 else 'splits'}", facts)
    for start in range(0, splits, 3):  # more columns than that do not fit
        together = result.surveys[start : start + 3]
        show()
        for line in split_table(together):
            show(line)
        if any(survey.histogram.labelled for survey in together):
            show()
            for line in class_table(together):
                show(line)
    show()
    for line in finding_lines(result.findings, with_split=splits > 1):
        show(line)
    for step in result.next_steps:
        show("\n".join(wrapped(f"next: {step}", "      ")))


def class_words(result: "Inspection") -> str:
    """Say which classes count, and who says so."""
    space, wanted = result.surveys[0].dataset.label_space, result.config.classes
    if wanted:
        return f"{wanted}, as --classes says"
    return f"{len(space)}, of label space {space.name}" if space else "nobody has said; those that are in the labels"


def depth_words(result: "Inspection") -> str:
    """Say how much was looked at."""
    tallies = [survey.tally for survey in result.surveys]
    images = sum(len(survey.dataset) for survey in result.surveys)
    maps = sum(sample.label is not None for survey in result.surveys for sample in survey.dataset.samples)
    headers, counted = sum(tally.headers for tally in tallies), sum(tally.maps for tally in tallies)
    if result.config.full:
        return f"everything: {images:,} images and {maps:,} label maps, decoded"
    of_maps = f", the values of {counted:,} of {maps:,} label maps" if maps else ""
    return f"names of {images:,} images, headers of {headers:,}{of_maps}"


def split_table(surveys: "Sequence[Survey]") -> list[str]:
    """Return a column of facts for each split."""
    rows: list[tuple[str, list[str]]] = [
        ("", [printable(survey.dataset.split) for survey in surveys]),
        ("images", [f"{len(survey.dataset):,}" for survey in surveys]),
        ("with label map", [f"{sum(s.label is not None for s in survey.dataset.samples):,}" for survey in surveys]),
    ]
    if all(len(survey.tally.sizes) <= 1 for survey in surveys):
        places = {"height x width": 0.0}
    else:
        places = {"smallest (h x w)": 0.0, "median": 0.5, "largest": 1.0}
        rows.append(("different sizes", [f"{len(survey.tally.sizes):,}" for survey in surveys]))
    rows += [(name, [_size(survey, share) for survey in surveys]) for name, share in places.items()]
    rows.append(("format", [_formats(survey) for survey in surveys]))
    if any(survey.histogram.pixels for survey in surveys):
        rows.append(("pixels ignored", [_ignored(survey) for survey in surveys]))
    return list(_columns(rows, (WIDTH - 20) // max(2, len(surveys))))


def _size(survey: "Survey", share: float) -> str:
    from stego_cli.data.findings import by

    return by(survey.tally.size_at(share)) if survey.tally.sizes else "-"


def _formats(survey: "Survey") -> str:
    """Name the formats of the images, most frequent first, with their numbers if there are several."""
    kinds = sorted(survey.tally.kinds.items(), key=lambda item: -item[1].images)
    if len(kinds) == 1:
        return kinds[0][0]
    return "\n".join(f"{kind.images:,} {name}" for name, kind in kinds) or "-"


def _ignored(survey: "Survey") -> str:
    """Say how much of the labels has no class, and by which values."""
    from stego_cli.data.findings import percent

    values = sorted(survey.histogram.ignored, key=lambda value: -survey.histogram.ignored[value].pixels)
    more = ", ..." if len(values) > SHOWN else ""
    named = f" (value {', '.join(map(str, values[:SHOWN]))}{more})" if values else ""
    return percent(survey.histogram.ignored_share) + named if survey.histogram.pixels else "-"


def _columns(rows: "list[tuple[str, list[str]]]", width: int) -> "Iterator[str]":
    """Lay out rows of cells, folding those that are too long."""
    from textwrap import wrap

    for name, cells in rows:
        folded = [[line for part in cell.split("\n") for line in wrap(part, width - 2)] for cell in cells]
        for row in range(max(map(len, folded))):
            parts = [lines[row] if row < len(lines) else "" for lines in folded]
            head = name if row == 0 else ""
            yield f"  {head:<16}  {''.join(part.ljust(width) for part in parts)}".rstrip()


def class_table(surveys: "Sequence[Survey]") -> list[str]:
    """Return the share of each class in each split, as numbers and as bars."""
    histograms = [survey.histogram for survey in surveys]
    names = max((histogram.names for histogram in histograms), key=len)
    shares = [[h.share(index) if index < len(h.names) else 0.0 for h in histograms] for index in range(len(names))]
    rows = sorted(sorted(range(len(names)), key=lambda index: -max(shares[index]))[:MOST_ROWS])
    largest = max(max(row) for row in shares)
    wide = min(max(len(names[index]) for index in rows), 22)
    column = (WIDTH - wide - 8) // len(surveys)
    lines = [
        f"  {'id':>4} {'class':<{wide}} " + "".join(f"  {s.dataset.split:<{column - 2}}" for s in surveys).rstrip()
    ]
    for index in rows:
        name = names[index] if len(names[index]) <= wide else names[index][: wide - 3] + "..."
        cells = [f" {_share(share):>5} {bar(share / largest, column - 9):<{column - 7}}" for share in shares[index]]
        lines.append(f"  {index:>4} {name:<{wide}} {''.join(cells)}".rstrip())
    if len(rows) < len(names):
        lines.append(f"  and {len(names) - len(rows)} classes with less; --json lists all")
    return [*lines, "  in % of the pixels that have a class"]


def _share(share: float) -> str:
    """Return a share in percent; a class that is not there is called so."""
    from stego_cli.data.findings import percent

    return percent(share).removesuffix(" %") if share else "none"


def bar(share: float, width: int) -> str:
    """Return a bar of a share of `width` characters, in eighths where the terminal can write them.

    Example:
        >>> len(bar(1.0, 8)), bar(0, 8)
        (8, '')
    """
    eighths = round(share * width * 8)
    if share > 0:
        eighths = max(eighths, 1)
    drawn = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
    try:
        drawn.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "#" * max(round(share * width), share > 0)
    return drawn


def finding_lines(findings: "Sequence[Finding]", *, with_split: bool) -> "Iterator[str]":
    """Yield what there is to say, shortened; `--json` has all of it."""
    for finding in findings:
        where = f" ({printable(finding.split)})" if with_split else ""
        text = f"{finding.severity}{where}: {finding.message}"
        inline = bool(finding.items) and len(" ".join(finding.items)) < WIDTH
        yield from wrapped(f"{text}: {', '.join(finding.items)}" if inline else text, "    ")
        shown = () if inline else finding.items[:SHOWN]
        for item in shown:
            yield from wrapped(f"  - {item[:LONGEST]}{' ...' if len(item) > LONGEST else ''}", "    ")
        if not inline and len(finding.items) > SHOWN:
            yield f"    and {len(finding.items) - SHOWN:,} more"
        if finding.hint:
            yield from wrapped(f"  hint: {finding.hint}", "    ")
    if not any(finding.severity == "problem" for finding in findings):
        yield "no problems found"


def wrapped(text: str, indent: str, width: int = WIDTH) -> list[str]:
    """Fold a line at the width of a terminal, but never within a word, such as a path."""
    from textwrap import wrap

    return wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
