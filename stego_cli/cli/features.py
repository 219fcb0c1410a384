"""`stego features build`: what a backbone sees of a dataset, computed once."""

from typing import TYPE_CHECKING, Annotated, Any

from stego_cli.cli import options as o
from stego_cli.cli.declare import RESULTS, output, value
from stego_cli.cli.friendly import conclude
from stego_cli.cli.settings import settings, typed_options, with_options
from stego_cli.cli.terminal import duration, show, size_in_words, terminal_report
from stego_cli.cli.tidy import add_command, group
from stego_cli.files import printable

if TYPE_CHECKING:
    from stego_cli.engine.features import BuiltFeatures

features_app = group(
    "features", "Keep what a frozen backbone sees of a dataset, so that training need not compute it again."
)

Dtype = Annotated[
    str | None,
    value("--dtype", "fp16|fp32", RESULTS, "Numbers in the cache; fp16 takes half the space. (default: fp16)"),
]
Out = Annotated[
    str | None,
    output(
        "DIR|URL",
        "Folder, or an address that fsspec knows such as s3://bucket/features. (default: a folder of its own "
        "below STEGO_HOME/features)",
    ),
]


@with_options(**o.DATASET_OPTIONS, **o.VIEW_OPTIONS, **o.COMPUTE_OPTIONS, **o.RUN_OPTIONS)
def build_command(dtype: Dtype = None, out: Out = None, dry_run: o.DryRun = False, **shared: Any) -> None:
    """Write the feature maps of every image of a split into a cache that training reads at random.

    It says how large the cache becomes before it starts. Stopped, it
    continues where it was; several processes started by torchrun or SLURM
    share the work.

    [bold]Examples[/bold]

      stego features build my_images/ --backbone dino_vits8
      stego features build cocostuff27 --crop five --dry-run
    """
    typed = typed_options(locals())
    from stego_cli.config.features import FeaturesConfig

    read = settings(FeaturesConfig, typed)
    from stego_cli.engine.features import build_features, plan_features  # torch loads here

    with terminal_report(quiet=shared["quiet"]) as report:
        result = plan_features(read, report) if dry_run else build_features(read, report)
    conclude(result, show_result, as_json=shared["json"], incomplete=result.skipped)


def show_result(result: "BuiltFeatures") -> None:
    """Print where the cache is and how large, and which images are not in it."""
    shape = "x".join(map(str, result.fingerprint.shape))
    size = f"{result.fingerprint.count} x {shape} {result.fingerprint.dtype}, {size_in_words(result.bytes)}"
    if result.seconds is None:
        done = f", of which {result.done} are there" if result.done else ""
        show(f"would write {size} to {result.place}{done}")
        return
    show(f"features: {size}, in {result.place} ({duration(result.seconds)})")
    for name in result.skipped:
        show(f"skipped: {printable(name)}")


add_command(features_app, "build", build_command)
