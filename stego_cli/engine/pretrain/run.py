"""`stego pretrain` from end to end: images become the weights of a small vision transformer."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from stego_cli import __version__
from stego_cli.backbones.filterbank import Filterbank
from stego_cli.backbones.stem import FilterbankStem
from stego_cli.backbones.vit import VitBackbone
from stego_cli.backbones.weights import freeze
from stego_cli.checkpoints.released import backbone_hash
from stego_cli.config.model import VitConfig
from stego_cli.data.inputs import collect_inputs
from stego_cli.engine.device import choose_device
from stego_cli.engine.listener import Listener
from stego_cli.engine.pretrain.network import Pretrainee
from stego_cli.engine.pretrain.start import Run, open_run, optimizer_of, target_of
from stego_cli.engine.pretrain.state import load_words, save_backbone, save_words
from stego_cli.engine.pretrain.steps import run_steps
from stego_cli.engine.pretrain.words import WordMaps, bank_features, read_features, sort_into_words, usable_images
from stego_cli.engine.train.stop import stop_requests
from stego_cli.engine.workplace import workplace
from stego_cli.files import printable, remove_unfinished, write_text
from stego_cli.report.loss_curve import draw_loss_curve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stego_cli.config.pretrain import PretrainConfig
    from stego_cli.engine.pretrain.state import Progress
    from stego_cli.engine.pretrain.steps import Ending
    from stego_cli.engine.pretrain.words import Maps
    from stego_cli.progress import Report


@dataclass(frozen=True)
class PretrainResult:
    """What `stego pretrain` made.

    Attributes:
        weights: The weight file.
        folder: What belongs to it: state, words, history, picture.
        backbone: What `--backbone` would need to build the network.
        images: How many images it learned from.
        progress: How far it came.
        ending: Why it ended.
        sha256: Of the weights.
        skipped: A line for each image that could not be used.
        seconds: Wall time of this command.
    """

    weights: Path
    folder: Path
    backbone: VitConfig
    images: int
    progress: Progress
    ending: Ending
    sha256: str
    skipped: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        last = self.progress.history[-1] if self.progress.history else {}
        return {
            "weights": printable(self.weights),
            "backbone": self.backbone.model_dump(mode="json"),
            "images": self.images,
            "rounds": self.progress.round + (self.ending == "done"),
            "steps": self.progress.step,
            "ending": self.ending,
            "loss": {name: value for name, value in last.items() if name != "step"},
            "backbone_sha256": self.sha256,
            "skipped": list(self.skipped),
            "seconds": round(self.seconds, 3),
            "config": self.progress.settings,
            "version": __version__,
        }


def pretrain(inputs: Sequence[str | Path], config: PretrainConfig, report: Report) -> PretrainResult:
    """Teach a small vision transformer by images alone, and save its weights.

    Raises:
        StegoError: If no image can be used, the settings do not allow it, or the training goes astray.
        KeyboardInterrupt: After Ctrl-C, once the state is saved.
    """
    started = time.perf_counter()
    device, skipped = choose_device(config.device), Listener(report)
    found = collect_inputs(inputs)
    for each in found.skipped:
        skipped.warn(f"{printable(each.path)} was left out: {each.reason}")
    target = target_of(config)
    folder = target.with_suffix(".run")
    with workplace(folder):
        remove_unfinished(folder)
        paths = usable_images([image.path for image in found.images], config, skipped)
        run = open_run(config, paths, device, folder, report)
        run.ends_at = math.inf if config.minutes is None else started + 60 * config.minutes
        ending = _rounds(run, report)
        if ending != "done":
            why = "stopped" if ending == "stopped" else "time is up"
            same = "the same command without --overwrite" if config.overwrite else "the same command"
            report.note(f"{why} after step {run.progress.step} of round {run.progress.round + 1}; {same} goes on")
        if ending == "stopped":
            raise KeyboardInterrupt
        tensors = run.model.network.state_dict()
        backbone = VitConfig(name=target.stem, architecture=config.architecture)
        save_backbone(tensors, backbone, target)
        sha256 = backbone_hash({f"backbone.{key}": value for key, value in tensors.items()})
        seconds = time.perf_counter() - started
        lines = tuple(skipped.skipped)
        result = PretrainResult(target, folder, backbone, len(paths), run.progress, ending, sha256, lines, seconds)
        record = {**result.to_json(), "history": run.progress.history}
        write_text(folder / "run.json", json.dumps(record, indent=2) + "\n")
        draw_loss_curve(run.progress.history, folder / "losses.png", target.stem)
    return result


def _rounds(run: Run, report: Report) -> Ending:
    """Run what is left of the rounds."""
    stem = _stem(run, report)
    while True:
        maps = _words(run, stem, report)
        with stop_requests() as request:
            ending = run_steps(run, maps, request, report)
        run.save()
        if ending != "done" or run.progress.round + 1 == run.config.rounds:
            return ending
        _next_round(run, report)


def _words(run: Run, stem: Maps, report: Report) -> WordMaps:
    """Return the words of the round: those that were saved with it, or new ones."""
    config = run.config
    if run.progress.step:
        words = load_words(run.words, len(run.paths))
    else:
        words = sort_into_words(_taught(run, stem, report), config)
        save_words(words, run.words)
    return WordMaps(run.paths, words, config.resolution, config.architecture.patch_size, stem)


def _taught(run: Run, stem: Maps, report: Report) -> Maps:
    """Return what the teacher of the round says of every image."""
    if run.progress.round:
        teacher = freeze(VitBackbone(run.model.network))
        found = read_features(run.paths, teacher, run.config, run.device, report)
        run.model.requires_grad_(requires_grad=True).train()
        return found
    bank = Filterbank(even=True).to(run.device)
    return stem or bank_features(run.paths, bank, run.config, run.device, report, fit=True)


def _stem(run: Run, report: Report) -> Maps:
    """Return what the network's filter bank says of every image, computed once; nothing if it reads pixels.

    A run that goes on takes the scales of the channels from its state.
    """
    stem = run.model.network.patch_embed
    if not isinstance(stem, FilterbankStem):
        return ()
    fresh = not (run.progress.round or run.progress.step)
    return bank_features(run.paths, stem.bank, run.config, run.device, report, fit=fresh)


def _next_round(run: Run, report: Report) -> None:
    """Keep the network, and give it new things to say: the parts that name words start anew."""
    run.progress.round += 1
    run.progress.step = 0
    report.note(f"round {run.progress.round + 1} of {run.config.rounds}: words of the network itself")
    torch.manual_seed(run.config.seed + run.progress.round)
    fresh = Pretrainee(run.config.architecture, run.config.words).to(run.device)
    fresh.network.load_state_dict(run.model.network.state_dict())
    run.model.load_state_dict(fresh.state_dict())
    run.optimizer = optimizer_of(run.model, run.config)
    run.save()
