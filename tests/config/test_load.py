"""Layers of settings and the one message that lists every problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from stego_cli.config.fit import FitConfig
from stego_cli.config.load import load_config
from stego_cli.config.predict import PredictConfig
from stego_cli.errors import ConfigError

PRESETS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Demanding(FitConfig):
    """A config with a setting that has no default."""

    dataset: str = Field(json_schema_extra={"option": "DATASET"})


def complaint(model: Any = PredictConfig, **layers: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(model, **layers)
    return str(caught.value)


def written(name: str, text: str) -> Path:
    """Write a file into the current folder and return its path as people type it."""
    Path(name).write_text(text)
    return Path(name)


def test_without_any_layer_there_are_the_defaults() -> None:
    assert load_config(PredictConfig) == PredictConfig()


def test_each_layer_wins_over_those_below_it(here: Path) -> None:
    section = "{precision: fp32, batch_size: 2, workers: 1}"
    project = written("stego.yaml", f"device: cpu\nprecision: bf16\npredict: {section}")
    file = written("run.yaml", "batch_size: 3\nworkers: 2\nresolution: 100")
    config = load_config(
        PredictConfig,
        project=project,
        file=file,
        options={"workers": 3, "resolution": 200, "model": None},
        overrides=["resolution=300"],
    )
    assert config.device == "cpu"  # shared key
    assert config.precision == "fp32"  # section over shared key
    assert config.batch_size == 3  # file over section
    assert config.workers == 3  # option over file
    assert config.resolution == 300  # --set over option
    assert config.model is None  # not typed


def test_false_is_typed_and_none_is_not() -> None:
    assert load_config(PredictConfig, options={"mirror": False}).mirror is False
    assert load_config(PredictConfig, options={"mirror": None}).mirror is True


def test_blocks_are_merged_key_by_key(here: Path) -> None:
    file = written("run.yaml", "crf_parameters: {iterations: 5, gaussian_xy: 2}")
    parameters = load_config(PredictConfig, file=file, overrides=["crf_parameters.iterations=7"]).crf_parameters
    assert (parameters.iterations, parameters.gaussian_xy, parameters.bilateral_xy) == (7, 2.0, 67.0)


def test_shared_keys_that_a_command_does_not_have_are_no_problem_for_it(here: Path) -> None:
    project = written("stego.yaml", "dataset: cocostuff27\nclasses: 27\nbackbone: dino_vits8\ntrain: {anything: 1}")
    assert load_config(PredictConfig, project=project) == PredictConfig()
    config = load_config(FitConfig, project=project)
    assert (config.dataset, config.classes, config.backbone.kind) == ("cocostuff27", 27, "vit")


@pytest.mark.parametrize(
    ("text", "value"),
    [("5e-1", 0.5), ("1", 1.0), ("'2'", 2.0)],
)
def test_set_reads_numbers(text: str, value: float) -> None:
    config = load_config(PredictConfig, overrides=[f"crf_parameters.gaussian_xy={text}"])
    assert config.crf_parameters.gaussian_xy == value


def test_set_keeps_everything_behind_the_first_equals_sign() -> None:
    assert load_config(PredictConfig, overrides=["model=a=b"]).model == "a=b"


def test_set_takes_lists_written_either_way() -> None:
    assert load_config(PredictConfig, overrides=["save=[labels, probs]"]).save == ("labels", "probs")
    assert load_config(PredictConfig, overrides=["save=labels,probs"]).save == ("labels", "probs")
    assert load_config(PredictConfig, overrides=["bands=4,3,2"]).bands == (4, 3, 2)


def test_set_changes_one_key_inside_a_short_form(here: Path) -> None:
    project = written("stego.yaml", "backbone: dino_vits8")
    config = load_config(FitConfig, project=project, options={"dataset": "x"}, overrides=["backbone.feature_type=KK"])
    assert config.backbone.kind == "vit"
    assert (config.backbone.name, config.backbone.feature_type) == ("dino_vits8", "KK")


def test_a_key_of_a_block_whose_kind_is_not_said_belongs_to_the_default_kind() -> None:
    text = complaint(FitConfig, options={"dataset": "x"}, overrides=["backbone.feature_type=KK"])
    assert "backbone.feature_type: belongs to another kind of block; set `kind: vit` beside it" in text


def test_a_block_of_another_kind_leaves_nothing_of_the_weaker_one(here: Path) -> None:
    project = written("stego.yaml", "backbone: {kind: vit, name: dino_vits8, feature_type: KK}")
    config = load_config(FitConfig, project=project, options={"dataset": "x"}, overrides=["backbone.kind=filterbank"])
    assert config.backbone.kind == "filterbank"


def test_the_printed_shape_of_problems_in_one_file(here: Path) -> None:
    file = written("my_run.yaml", "batch_size: many\ncrf_parameters: {iteratons: 3}")
    assert complaint(file=file) == (
        "2 problems in my_run.yaml\n"
        "  crf_parameters.iteratons: unknown key; did you mean `iterations`?\n"
        "  batch_size: expected a whole number, got 'many'"
    )


def test_problems_of_all_layers_are_listed_with_their_sources(here: Path) -> None:
    text = complaint(
        project=written("stego.yaml", "devise: cpu\npredict: {outt: a}"),
        file=written("run.yaml", "iterations: 4"),
        options={"resolution": -3},
        overrides=["batch_size=many", "nonsense", "crf.iterations=5"],
    )
    assert text.startswith("7 problems in the settings\n")
    for line in (
        "devise: unknown key; did you mean `device`? (from stego.yaml)",
        "predict.outt: unknown key; did you mean `out`? (from stego.yaml)",
        "iterations: unknown key; did you mean `crf_parameters.iterations`? (from run.yaml)",
        "resolution: expected a number above 0, got -3 (from --res)",
        "batch_size: expected a whole number, got 'many' (from --set)",
        "got 'nonsense' (from --set)",
        "`crf` is a single value and has no keys; did you mean `crf_parameters.iterations`? (from --set)",
    ):
        assert line in text


def test_the_strongest_layer_is_blamed(here: Path) -> None:
    file = written("run.yaml", "batch_size: many")
    assert "--batch-size" in complaint(file=file, options={"batch_size": 0})
    assert load_config(PredictConfig, file=file, options={"batch_size": 4}).batch_size == 4


def test_settings_that_do_not_go_together_name_both_sources() -> None:
    text = complaint(options={"protocol": "paper", "mirror": False}, overrides=["precision=bf16"])
    assert text.startswith("2 problems")
    assert "protocol, precision: the paper protocol computes in fp32" in text
    assert "(from --protocol and --set)" in text
    assert "(from --protocol and --no-mirror)" in text


def test_rules_between_settings_are_checked_even_beside_unknown_keys() -> None:
    text = complaint(options={"protocol": "paper"}, overrides=["precision=bf16", "crf_parameters.xyzzy=1"])
    assert "xyzzy: unknown key" in text
    assert "computes in fp32" in text


def test_what_is_needed_and_not_given_names_the_way_to_give_it() -> None:
    text = complaint(Demanding)
    assert "dataset: is needed and was not given; give DATASET" in text


def test_an_unreadable_file_hides_neither_other_problems_nor_invents_missing_ones(here: Path) -> None:
    project = written("stego.yaml", "a: [")
    text = complaint(Demanding, project=project, options={"seed": -1})
    assert "line 1, column 5" in text
    assert "seed" in text
    assert "needed" not in text


def test_a_misplaced_key_of_the_project_file_is_sent_to_its_section(here: Path) -> None:
    assert "did you mean `predict.protocol`?" in complaint(project=written("stego.yaml", "protocol: paper"))


@pytest.mark.parametrize("text", ["predict: 5", "train: [1]", "device: gpu\ntrain: 3"])
def test_a_section_must_be_a_block(here: Path, text: str) -> None:
    assert "expected a block of settings" in complaint(project=written("stego.yaml", text))


def test_the_sections_of_other_commands_are_not_checked(here: Path) -> None:
    project = written("stego.yaml", "fit: {seed: many}")
    assert load_config(PredictConfig, project=project) == PredictConfig()
    assert "fit.seed" in complaint(FitConfig, project=project, options={"dataset": "x"})


@pytest.mark.parametrize("override", ["nonsense", "=3", "a..b=3", ".a=3", "a.=3", ""])
def test_broken_overrides_are_refused_with_an_example(override: str) -> None:
    assert "expected `key=value`" in complaint(overrides=[override])


def test_a_value_that_is_not_yaml_is_refused() -> None:
    assert "out: the value '[' cannot be read" in complaint(overrides=["out=["])


def test_a_key_inside_a_value_of_the_wrong_kind_is_refused(here: Path) -> None:
    file = written("run.yaml", "crf_parameters: 5")
    text = complaint(file=file, overrides=["crf_parameters.iterations=3"])
    assert "`crf_parameters` is 5" in text
    assert "run.yaml" in text


def test_an_option_may_be_overridden_twice_and_the_last_one_counts() -> None:
    assert load_config(PredictConfig, overrides=["batch_size=2", "batch_size=3"]).batch_size == 3


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_config_file_that_cannot_be_read_is_named(here: Path, kind: str) -> None:
    path = here / "x.yaml"
    if kind == "folder":
        path.mkdir()
    assert str(path) in complaint(file=path)


@pytest.mark.parametrize("path", sorted(PRESETS.glob("predict/*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_preset_loads_and_says_nothing_that_is_the_default(path: Path) -> None:
    config = load_config(PredictConfig, file=path)
    assert config.model_fields_set
    default = PredictConfig()
    same = [name for name in config.model_fields_set if getattr(config, name) == getattr(default, name)]
    assert not same
