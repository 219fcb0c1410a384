"""`stego train`: a model from a folder of images, by training the code."""

from typing import TYPE_CHECKING, Annotated, Any, get_args

from stego_cli.cli import options as o
from stego_cli.cli.declare import DATA, MODEL, RESULTS, SPEED, TRAINING, choice, flag, number, output, value
from stego_cli.cli.friendly import conclude
from stego_cli.cli.settings import settings, typed_options, with_options
from stego_cli.cli.terminal import duration, show, show_facts, show_shares, size_in_words, terminal_report
from stego_cli.config.words import METHOD_NAMES, CompileChoice, FeatureMode, KeepChoice, ProbeFit, ShiftChoice
from stego_cli.files import as_typed, printable

if TYPE_CHECKING:
    from stego_cli.config.train import TrainConfig
    from stego_cli.engine.train.plan import TrainPlan
    from stego_cli.engine.train.run import TrainResult

Out = Annotated[
    str | None,
    output(
        "FILE",
        "The model file; what belongs to it lies beside it in a folder ending with .run. (default: below runs/, in a "
        "folder of its own for these settings)",
    ),
]
Method = Annotated[
    str | None,
    value(
        "--method",
        "NAME",
        MODEL,
        "What makes the code of the features. stego trains a head; dino takes them as they are; pca, rp (random "
        "projection), hnne and umap (these two need the extra `dimred`) are fitted once to standardised features, and "
        "only the probes learn. Features are standardised by the training images; with --set "
        "method.standardise=batch each batch is by its own numbers, as in the STEGO study, so that an image's code "
        "depends on its batch. (default: stego)",
        METHOD_NAMES,
    ),
]
Dim = Annotated[
    int | None, number("--dim", MODEL, "Channels of the code, the same as --set method.code_dim=N. (default: 70)")
]
ExtraClusters = Annotated[
    int | None, number("--extra-clusters", MODEL, "Clusters beyond the number of classes. (default: 0)")
]
Steps = Annotated[int | None, number("--steps", TRAINING, "Updates of the head. (default: 5000)")]
Seeds = Annotated[
    int | None,
    number(
        "--seeds",
        TRAINING,
        "Train from so many seeds, report mean and spread, and keep the one with the best label-free score. "
        "(default: 1)",
    ),
]
BatchSize = Annotated[
    int | None,
    number(
        "--batch-size",
        TRAINING,
        "Images of a step, on all devices together; fewer where there are fewer images. (default: 16)",
    ),
]
Shifts = Annotated[
    str | None,
    choice(
        "--shifts",
        get_args(ShiftChoice),
        TRAINING,
        "auto chooses the three shifts of the loss from how alike features are, and shows it. (default: given)",
    ),
]
Features = Annotated[
    str | None,
    choice(
        "--features",
        get_args(FeatureMode),
        SPEED,
        "Keep features of the images on disk or in memory, or compute them at every step; auto takes the fastest "
        "that fits, and says why. (default: auto)",
    ),
]
ValSplit = Annotated[str | None, value("--val-split", "NAME", DATA, "Split to measure on, if labelled. (default: val)")]
EvalEvery = Annotated[
    int | None,
    value(
        "--eval-every", "STEPS", TRAINING, "Steps between two measurements; 0 measures at the end only. (default: 1000)"
    ),
]
Keep = Annotated[
    str | None,
    value(
        "--keep",
        "SCORE",
        TRAINING,
        "Which measurement's model is kept: the best by cluster_miou, linear_miou or score, or the last. auto is "
        "cluster_miou where val has labels, else score, which needs none. (default: auto)",
        get_args(KeepChoice),
    ),
]
Devices = Annotated[
    int | None,
    number(
        "--devices",
        SPEED,
        "GPUs of this machine, or processes on a CPU. Over several machines, start it with torchrun or SLURM. "
        "(default: 1)",
    ),
]
Resume = Annotated[
    bool | None,
    flag(
        "--resume",
        TRAINING,
        "Go on with the run that is there, also with a finished one for more --steps. An interrupted run goes on "
        "by itself when its command is given again.",
    ),
]
Tensorboard = Annotated[
    bool | None, flag("--tensorboard", RESULTS, "Write curves, histograms and pictures for TensorBoard, too.")
]
Wandb = Annotated[
    str | None,
    value(
        "--wandb",
        "PROJECT",
        RESULTS,
        "Log the run to this project of Weights & Biases; WANDB_MODE=offline needs no network.",
    ),
]
FinalProbes = Annotated[
    str | None,
    choice(
        "--probes",
        get_args(ProbeFit),
        TRAINING,
        "refit fits both probes anew to the code of the model that is kept: clusters by k-means with restarts, "
        "the linear probe to convergence. (default: trained)",
    ),
]
Compile = Annotated[
    str | None,
    choice(
        "--compile",
        get_args(CompileChoice),
        SPEED,
        "Compile the training step; auto does so in long runs on a CUDA card. (default: auto)",
    ),
]
COMPUTE_OPTIONS = {name: option for name, option in o.COMPUTE_OPTIONS.items() if name != "batch_size"}


@with_options(**o.DATASET_OPTIONS, **o.VIEW_OPTIONS, **COMPUTE_OPTIONS, **o.RUN_OPTIONS)
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
    batch_size: BatchSize = None,
    shifts: Shifts = None,
    eval_every: EvalEvery = None,
    keep: Keep = None,
    final_probes: FinalProbes = None,
    names: o.Names = None,
    minutes: o.Minutes = None,
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
    typed = typed_options(locals())
    if dim is not None:
        typed["overrides"] = [f"method.code_dim={dim}", *(typed["overrides"] or ())]
    from stego_cli.config.train import TrainConfig

    read = settings(TrainConfig, typed)
    if dry_run:
        plan_only(read, as_json=shared["json"], quiet=shared["quiet"])
        return
    from stego_cli.engine.train.run import train_model  # torch loads here

    with terminal_report(quiet=shared["quiet"]) as report:
        result = train_model(read, report)
    if result.rank == 0:  # the first of several processes speaks for all
        conclude(result, show_result, as_json=shared["json"], incomplete=result.skipped)


def plan_only(config: "TrainConfig", *, as_json: bool, quiet: bool) -> None:
    """Print what would be done, and do nothing."""
    from stego_cli.engine.train.plan import plan_training

    with terminal_report(quiet=quiet) as report:
        plan = plan_training(config, report)
    conclude(plan, show_plan, as_json=as_json)


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
    show(f"next: stego predict imgs/ --model {as_typed(result.model)}")


def show_plan(plan: "TrainPlan") -> None:
    """Print what would be done."""
    facts = list(plan.facts)
    facts.insert(2, ("features on disk", size_in_words(plan.feature_bytes)))
    facts.append(("estimated time", duration(plan.seconds)))
    show_facts("would train, and write nothing now", facts)
