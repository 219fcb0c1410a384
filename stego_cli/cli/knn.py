"""`stego knn build` and `stego knn show`: which images of a dataset look alike."""

from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from stego_cli.cli import options as o
from stego_cli.cli.declare import DATA, RESULTS, choice, number, output, value
from stego_cli.cli.friendly import conclude
from stego_cli.cli.settings import settings, typed_options, with_options
from stego_cli.cli.terminal import duration, print_json, show, terminal_report
from stego_cli.cli.tidy import add_command, group
from stego_cli.config.words import IndexKind
from stego_cli.files import printable

if TYPE_CHECKING:
    from stego_cli.engine.knn import BuiltIndex

knn_app = group("knn", "Find the images of a dataset that look alike, which training learns from; and look at them.")

Neighbors = Annotated[
    int | None,
    number(
        "--neighbors",
        RESULTS,
        "Images listed for each image, itself included and first. (default: 30, as the reference)",
    ),
]
Index = Annotated[
    str | None,
    choice(
        "--index",
        get_args(IndexKind),
        RESULTS,
        "flat is exact; ivf and hnsw are approximate, for a million images and more: the share of true neighbours "
        "that they find is measured and printed. (default: flat)",
    ),
]
Out = Annotated[str | None, output("FILE", "The index file. (default: one of its own below STEGO_HOME/neighbors)")]
Reference = Annotated[
    str | None,
    value(
        "--reference",
        "DIR",
        RESULTS,
        "Write the neighbours into this folder in the layout of the STEGO reference, nns_*.npz, too.",
    ),
]
Seed = Annotated[int | None, number("--seed", RESULTS, "Seed of ivf and hnsw. (default: 0)")]
IndexFile = Annotated[
    str | None,
    value(
        "--index-file",
        "FILE",
        DATA,
        "The index: one of `stego knn build`, or a nns_*.npz of the reference. (default: the one that was built "
        "with the same settings)",
    ),
]
Images = Annotated[
    list[str] | None,
    value(
        "--image",
        "NAME",
        DATA,
        "Image of the dataset, by name, path or number; may be given several times. (default: a few spread over "
        "the dataset)",
    ),
]
Shown = Annotated[
    int | None,
    typer.Option("--shown", "-k", metavar="N", help="Neighbours in the picture. (default: 8)", rich_help_panel=RESULTS),
]
Picture = Annotated[str | None, output("FILE", "The picture. (default: neighbors.png)")]


@with_options(**o.DATASET_OPTIONS, **o.VIEW_OPTIONS, **o.COMPUTE_OPTIONS, **o.RUN_OPTIONS)
def build_command(
    neighbors: Neighbors = None,
    index: Index = None,
    seed: Seed = None,
    index_file: Out = None,
    reference: Reference = None,
    **shared: Any,
) -> None:
    """Find the nearest neighbours of every image, by the mean of what a backbone sees of it.

    Stopped, it continues where it was. What was computed is kept, so that
    other --neighbors or another --index take seconds.

    [bold]Examples[/bold]

      stego knn build my_images/ --backbone filterbank
      stego knn build cocostuff27 --crop five --backbone dino_vits8
    """
    typed = typed_options(locals())
    from stego_cli.config.features import KnnConfig

    read = settings(KnnConfig, typed)
    from stego_cli.engine.knn import build_index  # torch loads here

    with terminal_report(quiet=shared["quiet"]) as report:
        result = build_index(read, report)
    conclude(result, show_result, as_json=shared["json"], incomplete=result.skipped)


def show_result(result: "BuiltIndex") -> None:
    """Print where the index is, how good it is, and what to do with it."""
    count, columns = result.index.neighbors.shape
    took = duration(result.seconds)
    show(f"index: {count} images, {columns - 1} neighbours each, in {printable(result.path)} ({took})")
    if result.index.recall is not None:
        show(f"recall: {100 * result.index.recall:.2f} % of the true neighbours were found ({result.index.kind})")
    if result.reference:
        show(f"reference layout: {printable(result.reference)}")
    for name in result.skipped:
        show(f"skipped: {printable(name)}")
    show("next: stego knn show with the same dataset and backbone draws some images with their neighbours")


@with_options(**o.DATASET_OPTIONS, **o.VIEW_OPTIONS, **o.RUN_OPTIONS)
def show_command(
    index_file: IndexFile = None, images: Images = None, shown: Shown = None, picture: Picture = None, **shared: Any
) -> None:
    """Draw images of a dataset with their nearest neighbours, to see whether a backbone finds alike what is alike.

    [bold]Examples[/bold]

      stego knn show my_images/ --backbone filterbank
      stego knn show my_images/ --backbone filterbank --image beach.jpg -k 5 -o beach.png
    """
    typed = typed_options(locals())
    from stego_cli.config.features import KnnShowConfig

    read = settings(KnnShowConfig, typed)
    from stego_cli.engine.knn import show_neighbors

    with terminal_report(quiet=shared["quiet"]) as report:
        result = show_neighbors(read, report)
    if shared["json"]:
        print_json(result.to_json())
        return
    for row in result.rows:
        others = ", ".join(f"{printable(name)} ({similarity:.3f})" for name, similarity in row.neighbors)
        show(f"{printable(row.name)}: {others}")
    show(f"picture: {printable(result.picture)}")


add_command(knn_app, "build", build_command)
add_command(knn_app, "show", show_command)
