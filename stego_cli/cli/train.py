"""`stego train`: a model from a folder of images, by training the code."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stego_cli.cli import options as o
from stego_cli.cli.friendly import SOME_SKIPPED
from stego_cli.cli.terminal import duration, print_json, show, show_facts, show_shares, size_in_words, terminal_report
from stego_cli.files import printable

if TYPE_CHECKING:
    from stego_cli.engine.train.plan import TrainPlan
    from stego_cli.engine.train.run import TrainResult

TRAINING = "Training"
FEATURE_MODES = ("auto", "cache", "memory", "live")  # as in the config, which is not loaded for --help
METHODS = ("stego", "dino", "pca", "rp", "hnne", "umap")
KEEPS = ("auto", "cluster_miou", "linear_miou", "score", "last")

Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="The model file; what belongs to it lies beside it in a folder ending with .run. (default: a new one "
        "below runs/)",
        rich_help_panel=o.RESULTS,
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="|".join(METHODS),
        autocompletion=o.complete_from(METHODS),
        help="What makes the code of the features. stego trains a head; dino takes them as they are; pca, rp (random "
        "projection), hnne and umap (these two need the extra `dimred`) are fitted once to standardised features, and "
        "only the probes learn. Features are standardised by the training images; with --set "
        "method.standardise=batch each batch is by its own numbers, as in the STEGO study, so that an image's code "
        "depends on its batch. (default: stego)",
        rich_help_panel=o.MODEL,
    ),
]
Dim = Annotated[
    int | None,
    typer.Option(
        "--dim",
        metavar="N",
        help="Channels of the code, the same as --set method.code_dim=N. (default: 70)",
        rich_help_panel=o.MODEL,
    ),
]
ExtraClusters = Annotated[
    int | None,
    typer.Option(
        "--extra-clusters",
        metavar="N",
        help="Clusters beyond the number of classes. (default: 0)",
        rich_help_panel=o.MODEL,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", metavar="N", help="Updates of the head. (default: 5000)", rich_help_panel=TRAINING),
]
Seeds = Annotated[
    int | None,
    typer.Option(
        "--seeds",
        metavar="N",
        help="Train from so many seeds, report mean and spread, and keep the one with the best label-free score. "
        "(default: 1)",
        rich_help_panel=TRAINING,
    ),
]
Shifts = Annotated[
    str | None,
    typer.Option(
        "--shifts",
        metavar="given|auto",
        autocompletion=o.complete_from(("given", "auto")),
        help="auto chooses the three shifts of the loss from how alike features are, and shows it. (default: given)",
        rich_help_panel=TRAINING,
    ),
]
Features = Annotated[
    str | None,
    typer.Option(
        "--features",
        metavar="|".join(FEATURE_MODES),
        autocompletion=o.complete_from(FEATURE_MODES),
        help="Keep features of the images on disk or in memory, or compute them at every step; auto takes the fastest "
        "that fits, and says why. (default: auto)",
        rich_help_panel=o.SPEED,
    ),
]
ValSplit = Annotated[
    str | None,
    typer.Option(
        "--val-split", metavar="NAME", help="Split to measure on, if labelled. (default: val)", rich_help_panel=o.DATA
    ),
]
EvalEvery = Annotated[
    int | None,
    typer.Option(
        "--eval-every",
        metavar="STEPS",
        help="Steps between two measurements; 0 measures at the end only. (default: 1000)",
        rich_help_panel=TRAINING,
    ),
]
Keep = Annotated[
    str | None,
    typer.Option(
        "--keep",
        metavar="|".join(KEEPS),
        autocompletion=o.complete_from(KEEPS),
        help="Which measurement's model is kept: the best by this score, or the last. auto is cluster_miou where val "
        "has labels, else score, which needs none. (default: auto)",
        rich_help_panel=TRAINING,
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option("--minutes", metavar="N", help="Stop in good order after so many minutes.", rich_help_panel=TRAINING),
]
Devices = Annotated[
    int | None,
    typer.Option(
        "--devices",
        metavar="N",
        help="GPUs of this machine, or processes on a CPU. Over several machines, start it with torchrun or SLURM. "
        "(default: 1)",
        rich_help_panel=o.SPEED,
    ),
]
Resume = Annotated[
    bool | None,
    typer.Option(
        "--resume",
        help="Go on with the run that is there, also with a finished one for more --steps. An interrupted run goes on "
        "by itself when its command is given again.",
        rich_help_panel=TRAINING,
    ),
]
Tensorboard = Annotated[
    bool | None,
    typer.Option(
        "--tensorboard", help="Write curves, histograms and pictures for TensorBoard, too.", rich_help_panel=o.RESULTS
    ),
]
Wandb = Annotated[
    str | None,
    typer.Option(
        "--wandb",
        metavar="PROJECT",
        help="Log the run to this project of Weights & Biases; WANDB_MODE=offline needs no network.",
        rich_help_panel=o.RESULTS,
    ),
]
FinalProbes = Annotated[
    str | None,
    typer.Option(
        "--probes",
        metavar="trained|refit",
        autocompletion=o.complete_from(("trained", "refit")),
        help="refit fits both probes anew to the code of the model that is kept: clusters by k-means with restarts, "
        "the linear probe to convergence. (default: trained)",
        rich_help_panel=TRAINING,
    ),
]
Compile = Annotated[
    str | None,
    typer.Option(
        "--compile",
        metavar="auto|on|off",
        autocompletion=o.complete_from(("auto", "on", "off")),
        help="Compile the training step; auto does so in long runs on a CUDA card. (default: auto)",
        rich_help_panel=o.SPEED,
    ),
]


@o.with_options(**o.DATASET_OPTIONS, **o.VIEW_OPTIONS, **o.COMPUTE_OPTIONS, **o.RUN_OPTIONS)
def train_command(  # noqa: PLR0913, PLR0917 - one parameter per option
    out: Out = None,
    label_space: o.LabelSpaceName = None,
    val_split: ValSplit = None,
    classes: o.Classes = None,
    extra_clusters: ExtraClusters = None,
    method: Method = None,
    dim: Dim = None,
    seed: o.Seed = None,
    seeds: Seeds = None,
    steps: Steps = None,
    shifts: Shifts = None,
    eval_every: EvalEvery = None,
    keep: Keep = None,
    final_probes: FinalProbes = None,
    minutes: Minutes = None,
    resume: Resume = None,
    features: Features = None,
    devices: Devices = None,
    compile: Compile = None,  # noqa: A002 - the name of the setting
    tensorboard: Tensorboard = None,
    wandb: Wandb = None,
    dry_run: o.DryRun = False,
    **shared: Any,
) -> None:
    """Train a model on your own images: teach a small head which places belong together, and group them into classes.

    Images are all that is needed. What the frozen backbone sees of them and
    which of them are neighbours is computed first and kept, so that another
    run with other settings starts at once. Labels, where there are any,
    measure the result and name the clusters; they never train the code.

    Stopped, the same command goes on where it was.

    [bold]Examples[/bold]

      stego train my_images/ --classes 12
      stego train camvid/ --classes 11 --backbone filterbank --seeds 3
      stego train camvid/ --classes 11 --backbone filterbank --method pca --dim 24
      stego train --config configs/train/cocostuff27_vitb8.yaml --dry-run
    """
    typed = o.typed_options(locals())
    if dim is not None:
        typed["overrides"] = [f"method.code_dim={dim}", *(typed["overrides"] or ())]
    from stego_cli.config.train import TrainConfig

    read = o.settings(TrainConfig, typed)
    if dry_run:
        from stego_cli.engine.train.plan import plan_training

        with terminal_report(quiet=shared["quiet"]) as report:
            plan = plan_training(read, report)
        print_json(plan.to_json()) if shared["json"] else show_plan(plan)
        return
    from stego_cli.engine.train.run import train_model  # torch loads here

    with terminal_report(quiet=shared["quiet"]) as report:
        result = train_model(read, report)
    if result.rank:
        return
    print_json(result.to_json()) if shared["json"] else show_result(result)
    if result.skipped:
        raise typer.Exit(SOME_SKIPPED)


def show_result(result: "TrainResult") -> None:
    """Print where the model is, how good it is, and what to do with it."""
    best = result.best
    kept = best.progress.kept
    after = f", as it was after step {kept.step}" if kept and kept.step != best.progress.step else ""
    show(f"model written to {printable(result.model)}{after} ({duration(result.seconds)})")
    show_shares("scores" if len(result.runs) == 1 else f"scores of seed {best.seed}, which is kept", best.scores)
    if result.spread:
        width = max(map(len, result.spread))
        show(f"\nmean and deviation over {len(result.runs)} seeds")
        for name, (mean, deviation) in result.spread.items():
            show(f"  {name:<{width}}  {100 * mean:.1f} ± {100 * deviation:.1f}")
    show(f"history and loss curve: {printable(result.folder)}")
    show(f"next: stego predict imgs/ --model {printable(result.model)}")


def show_plan(plan: "TrainPlan") -> None:
    """Print what would be done."""
    facts = list(plan.facts)
    facts.insert(2, ("features on disk", size_in_words(plan.feature_bytes)))
    facts.append(("estimated time", duration(plan.seconds)))
    show_facts("would train, and write nothing now", facts)
