"""Finished models beside the grid: measured as `stego eval` measures them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stego_cli.catalog.models import choose_model
from stego_cli.checkpoints.describe import load_any
from stego_cli.config.evaluate import EvalConfig
from stego_cli.engine.evaluate.run import HEADS, evaluate_models
from stego_cli.errors import StegoError
from stego_cli.files import printable

if TYPE_CHECKING:
    from stego_cli.config.ablate import AblateConfig, CheckpointRow
    from stego_cli.progress import Report


def key_of(row: CheckpointRow) -> str:
    """Return what tells a row from all others of a results file."""
    return f"{printable(row.dataset)}/checkpoint/{printable(row.model)}"


def find_checkpoint(row: CheckpointRow) -> Path:
    """Return the model file of a row.

    Raises:
        StegoError: If it is not on this machine; says which command gets it.
    """
    path = Path(row.model).expanduser()
    if row.made_by and not path.exists():
        raise StegoError(f"no model file at `{printable(path)}`\n\nhint: run `{row.made_by}`")
    return choose_model(row.model).path


def measure_checkpoint(config: AblateConfig, row: CheckpointRow, report: Report) -> dict[str, Any]:
    """Measure a finished model; return what the record of it holds beside its name and the settings.

    Raises:
        StegoError: If the model, or the dataset, is not there or cannot be used.
    """
    find_checkpoint(row)
    how = EvalConfig.model_validate(
        {
            "checkpoints": (row.model,),
            "dataset": row.dataset,
            "data_dir": config.data_dir,
            "label_space": config.label_space,
            "bands": config.bands,
            "splits": (config.val_split,),
            "classes": config.classes,
            "protocol": config.protocol,
            "mirror": config.mirror,
            "crf": config.crf,
            "crf_parameters": config.crf_parameters,
            "device": config.device,
            "precision": config.precision,
            "batch_size": config.batch_size,
            "workers": config.workers,
        }
    )
    entry = evaluate_models(how, report).entries[0]
    checkpoint = load_any(find_checkpoint(row))
    model = checkpoint.config
    return {
        **{head: entry[head] for head in HEADS},
        "dataset": entry["dataset"],
        "backbone": model.backbone.name,
        "dim": checkpoint.tensors["cluster_probe.centroids"].shape[1],
        "method_config": model.method.model_dump(mode="json"),
        "provenance": {"model_sha256": entry["weights"]["fingerprint"], **entry["weights"], "images": entry["images"]},
        "seconds": {"total": entry["seconds"], "measure": entry["seconds"], "train": 0.0},
        "skipped": entry["skipped"],
    }
