"""Options: the same words everywhere, defaults that are true, and commands that pass on what was typed."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, get_args

import pytest
import torch
import typer
from typer.testing import CliRunner

from stego_cli.backbones.registry import backbone_names
from stego_cli.catalog.models import embedded_path
from stego_cli.cli import app
from stego_cli.config.fit import FitConfig
from stego_cli.config.predict import PredictConfig
from stego_cli.config.words import BACKBONE_NAMES
from stego_cli.errors import StegoError

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
# Blocks and rarely changed values have no option of their own; config files and --set reach them.
WITHOUT_OPTION = {"predict": {"crf_parameters"}, "fit": {"about", "alpha"}}
CONFIGS = {"predict": PredictConfig, "fit": FitConfig}


def options(command: str) -> dict[str, Any]:
    """Return the options and arguments of a command by name."""
    return {param.name: param for param in COMMANDS[command].params}


def stated_default(param: Any) -> str:
    """Return what the help of an option says its default is."""
    found = re.search(r"\(default: (.+)\)", param.help)
    assert found, f"the help of {param.name} states no default"
    return found[1]


@pytest.mark.parametrize(
    ("command", "name"), [(command, name) for command, config in CONFIGS.items() for name in config.model_fields]
)
def test_every_setting_that_has_an_option_starts_as_not_typed(command: str, name: str) -> None:
    if name in WITHOUT_OPTION[command]:
        assert name not in options(command)
    else:
        assert options(command)[name].default is None


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (command, name)
        for command, config in CONFIGS.items()
        for name, info in config.model_fields.items()
        if isinstance(info.default, str | int | Path | tuple) and not isinstance(info.default, bool)
    ],
)
def test_the_default_that_help_states_is_the_one_that_holds(command: str, name: str) -> None:
    default = CONFIGS[command].model_fields[name].default
    shown = ",".join(default) if isinstance(default, tuple) else str(default)
    assert stated_default(options(command)[name]) == shown


def test_switches_state_their_default() -> None:
    config = PredictConfig()
    for name in ("crf", "mirror"):
        word = name if getattr(config, name) else f"no-{name}"
        assert stated_default(options("predict")[name]) == word


def test_the_default_backbone_is_the_one_that_help_states() -> None:
    assert stated_default(options("fit")["backbone"]) == FitConfig(dataset="x").backbone.kind


def leaves(commands: dict[str, Any]) -> list[Any]:
    """Return all commands, those inside groups too."""
    return [leaf for one in commands.values() for leaf in (one, *leaves(getattr(one, "commands", {})))]


def test_a_word_means_the_same_in_every_command() -> None:
    seen: dict[str, Any] = {"--split": None}  # one where only one makes sense, else several
    for command in leaves(COMMANDS):
        for param in command.params:
            for word in param.opts:
                if word.startswith("--") and seen.get(word, ""):
                    assert param.type_descriptor.annotation == seen[word], word
                elif word.startswith("--"):
                    seen.setdefault(word, param.type_descriptor.annotation)


def test_words_that_options_suggest_are_those_that_configs_take() -> None:
    for name in ("probe", "protocol", "precision", "compile"):
        words = get_args(PredictConfig.model_fields[name].annotation)
        assert options("predict")[name].metavar == "|".join(words)


def test_suggested_backbones_are_the_registered_ones() -> None:
    assert sorted(BACKBONE_NAMES) == sorted(backbone_names())


# Commands, with the engine replaced: what reaches it, and what becomes of its answer.


@dataclass
class Call:
    """What a command handed to the engine."""

    config: Any = None
    paths: list[str] = field(default_factory=list)
    dry_run: bool = False


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(tmp_path)
    return Call()


def predicting(monkeypatch: pytest.MonkeyPatch, call: Call, **answer: Any) -> None:
    """Replace the engine of `predict` by one that remembers the call and answers."""
    content = {"summary": {"shares": {"cluster": {"sky": 0.25, "road": 0.75, "ghost": 0.0}}}}
    result = {"done": 2, "skipped": 0, "failed": [], "seconds": 1.0, "out": Path("predictions")}
    result |= {"gallery": None, "planned": None, "to_json": lambda: content} | answer

    def predict_folder(config: Any, paths: list[str], report: Any, *, dry_run: bool = False) -> Any:
        call.config, call.paths, call.dry_run = config, paths, dry_run
        report.note("thinking")
        if isinstance(answer.get("error"), BaseException):
            raise answer["error"]
        return SimpleNamespace(**result)

    engine = ModuleType("stego_cli.engine.predict")
    engine.predict_folder = predict_folder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stego_cli.engine.predict", engine)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_predict_hands_every_option_to_the_engine(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    predicting(monkeypatch, call)
    typed = (
        "predict a.jpg imgs --out o --save labels,probs --crf --overwrite --model m --probe both --protocol native "
        "--no-mirror --res 224 --bands 4,3,2 --device cpu --precision bf16 --batch-size 3 --workers 0 "
        "--set crf_parameters.iterations=2"
    )
    assert run(*typed.split()).exit_code == 0
    assert call.paths == ["a.jpg", "imgs"]
    assert call.config == PredictConfig(
        out="o",
        save=["labels", "probs"],
        crf=True,
        overwrite=True,
        model="m",
        probe="both",
        mirror=False,
        resolution=224,
        bands=[4, 3, 2],
        device="cpu",
        precision="bf16",
        batch_size=3,
        workers=0,
        crf_parameters={"iterations": 2},
    )


def test_a_bare_predict_uses_the_project_file_of_the_current_folder(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    predicting(monkeypatch, call)
    Path("stego.yaml").write_text("model: mine\npredict: {crf: true}")
    assert run("predict", "imgs").exit_code == 0
    assert (call.config.model, call.config.crf) == ("mine", True)
    assert run("predict", "imgs", "--no-crf").exit_code == 0
    assert call.config.crf is False


def test_a_config_file_stands_between_project_and_options(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    predicting(monkeypatch, call)
    Path("run.yaml").write_text("batch_size: 5\nworkers: 1")
    assert run("predict", "imgs", "--config", "run.yaml", "--workers", "2").exit_code == 0
    assert (call.config.batch_size, call.config.workers) == (5, 2)


def test_predict_says_what_was_done_where(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    predicting(monkeypatch, call, skipped=3, gallery=Path("predictions/index.html"))
    result = run("predict", "imgs")
    for words in ("2 images", "3 done before", "predictions/index.html", "75.0", "road"):
        assert words in result.stdout
    assert "ghost" not in result.stdout
    assert "thinking" in result.stderr


def test_json_is_all_of_stdout(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    predicting(monkeypatch, call)
    result = run("predict", "imgs", "--json")
    assert json.loads(result.stdout)["summary"]["shares"]["cluster"]["road"] == 0.75


def test_skipped_images_are_named_and_the_exit_code_says_so(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    predicting(monkeypatch, call, failed=[("bad.jpg", "it is cut off\n\nhint: copy it again")])
    result = run("predict", "imgs", "--quiet")
    assert result.exit_code == 1
    assert result.stderr == "warning: skipped bad.jpg: it is cut off; copy it again\n"
    assert "1 skipped" in result.stdout


def test_a_dry_run_lists_what_would_be_done(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    predicting(monkeypatch, call, planned=["a.jpg", "b.jpg"])
    result = run("predict", "imgs", "--dry-run")
    assert call.dry_run
    assert "would segment a.jpg" in result.stdout
    assert "2 images" in result.stdout


def test_errors_of_the_engine_end_with_2(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    predicting(monkeypatch, call, error=StegoError("no images in `imgs`\n\nhint: give a folder with some"))
    result = run("predict", "imgs")
    assert result.exit_code == 2
    assert "error: no images in `imgs`\n\nhint: give a folder with some\n" in result.stderr
    assert result.stdout == ""


def test_all_wrong_options_are_listed_at_once_and_nothing_runs(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    predicting(monkeypatch, call)
    result = run("predict", "imgs", "--probe", "clster", "--res", "0", "--set", "typo=1")
    assert result.exit_code == 2
    assert "3 problems" in result.stderr
    for words in ("did you mean `cluster`?", "from --res", "typo"):
        assert words in result.stderr
    assert call.config is None


@pytest.mark.parametrize("arguments", [["predict"], ["predict", "x", "--res", "wide"], ["prdict"], ["predict", "--x"]])
def test_a_command_line_that_cannot_be_read_ends_with_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_fit_hands_its_options_to_the_engine_and_shows_scores(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit_model(config: Any, report: Any) -> Any:
        call.config = config
        scores = {"cluster miou": 0.251}
        return SimpleNamespace(
            checkpoint_path=Path("m.safetensors"), scores=scores, skipped=(), to_json=lambda: {"scores": scores}
        )

    engine = ModuleType("stego_cli.engine.fit_model")
    engine.fit_model = fit_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stego_cli.engine.fit_model", engine)
    typed = (
        "fit photos --classes 8 --backbone dino_vits8 --weights w.pth --label-space camvid11 --res 240 --restarts 2 "
    )
    typed += "--seed 3 --out m.safetensors --device cpu --batch-size 2 --overwrite"
    result = run(*typed.split())
    assert result.exit_code == 0, result.stderr
    assert call.config == FitConfig(
        dataset="photos",
        classes=8,
        backbone="dino_vits8",
        weights="w.pth",
        label_space="camvid11",
        resolution=240,
        restarts=2,
        seed=3,
        out="m.safetensors",
        device="cpu",
        batch_size=2,
        overwrite=True,
    )
    assert "25.1" in result.stdout
    assert "--model m.safetensors" in result.stdout
    assert json.loads(run("fit", "photos", "--json").stdout) == {"scores": {"cluster miou": 0.251}}


def test_fit_without_a_dataset_takes_the_default_and_says_how_to_get_it(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEGO_HOME", str(Path("home").absolute()))
    result = run("fit")
    assert result.exit_code == 2
    assert "stego download datasets cocostuff" in result.stderr


def test_info_names_what_is_installed(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEGO_HOME", str(Path("home").absolute()))
    facts = json.loads(run("info", "--json").stdout)
    assert {"stego", "python", "torch", "timm", "devices", "home", "backbones", "models", "extras"} == set(facts)
    assert "cpu" in facts["devices"]
    assert facts["home"] == str(Path("home").absolute())
    assert facts["models"] == (["embedded"] if embedded_path().is_file() else [])
    text = run("info").stdout
    assert facts["torch"] in text
    assert facts["home"] in text


def test_convert_writes_a_model_that_info_calls_sound(call: Call, golden: Path) -> None:
    source = str(golden / "stego" / "checkpoint" / "stego.ckpt")
    result = run("convert", source, "model.safetensors")
    assert result.exit_code == 0, result.stderr
    assert run("convert", source, "half.safetensors", "--half").exit_code == 0
    assert Path("half.safetensors").stat().st_size < 0.7 * Path("model.safetensors").stat().st_size
    described = run("info", "model.safetensors", "--json")
    assert described.exit_code == 0
    (file,) = json.loads(described.stdout)["files"]
    assert (file["file"], file["kind"], file["problems"]) == ("model.safetensors", "model", [])
    assert "clusters" in run("info", source).stdout


def hostile() -> Path:
    """Write a file that would make a folder if it were unpickled."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, ("executed",)

    path = Path("hostile.ckpt")
    torch.save({"state_dict": Bomb()}, path)
    return path


def test_info_ends_with_2_when_a_file_is_not_sound(call: Call) -> None:
    result = run("info", str(hostile()))
    assert result.exit_code == 2
    assert "problem: " in result.stdout
    assert "next: " in result.stdout


@pytest.mark.parametrize(
    ("target", "words"),
    [("there.safetensors", "--overwrite"), ("model.ckpt", "model.safetensors"), ("folder.safetensors", "folder")],
)
def test_convert_never_replaces_or_misnames_a_file(call: Call, golden: Path, target: str, words: str) -> None:
    Path("there.safetensors").write_text("precious")
    Path("folder.safetensors").mkdir()
    result = run("convert", str(golden / "stego" / "checkpoint" / "stego.ckpt"), target)
    assert result.exit_code == 2
    assert words in result.stderr
    assert Path("there.safetensors").read_text() == "precious"
    assert not Path("model.ckpt").exists()


def test_convert_replaces_when_asked_but_never_its_own_source(call: Call, golden: Path) -> None:
    source = str(golden / "stego" / "checkpoint" / "stego.ckpt")
    Path("there.safetensors").write_text("old")
    assert run("convert", source, "there.safetensors", "--overwrite").exit_code == 0
    assert run("convert", "there.safetensors", "there.safetensors", "--overwrite").exit_code == 2
    assert run("info", "there.safetensors").exit_code == 0


def test_convert_refuses_a_hostile_file_and_writes_nothing(call: Call) -> None:
    result = run("convert", str(hostile()), "out.safetensors")
    assert result.exit_code == 2
    assert "nothing in the file was executed" in result.stderr
    assert [path.name for path in Path().iterdir()] == ["hostile.ckpt"]
