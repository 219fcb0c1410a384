"""From what was typed to a config."""

from __future__ import annotations

from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import pytest

from stego_cli.cli import options as o
from stego_cli.cli.settings import settings, typed_options, with_options
from stego_cli.config.fit import FitConfig
from stego_cli.errors import ConfigError

NOTHING = {"config": None, "overrides": None}


def test_shared_options_come_before_the_own_ones_of_a_command() -> None:
    @with_options(quiet=o.Quiet, seed=o.Seed)
    def command(steps: o.Classes = None, **shared: Any) -> None:
        """Do nothing."""

    params = signature(command).parameters.values()
    assert [(each.name, each.default) for each in params] == [("quiet", False), ("seed", None), ("steps", None)]
    assert {each.kind for each in params} == {Parameter.KEYWORD_ONLY}
    # Typer reads the types here; that of `shared` is no option.
    assert [*command.__annotations__] == ["quiet", "seed", "steps"]
    assert command.__annotations__["seed"] == o.Seed


@pytest.mark.parametrize(
    ("argument", "option", "expected"), [(None, None, None), ("a", None, "a"), (None, "b", "b"), ("a", "a", "a")]
)
def test_the_dataset_may_be_an_argument_or_an_option(
    argument: str | None, option: str | None, expected: str | None
) -> None:
    typed = typed_options({"steps": 3, "shared": {"dataset": argument, "dataset_option": option, "quiet": False}})
    assert typed == {"steps": 3, "dataset": expected, "quiet": False}


def test_two_datasets_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="DATASET is `a`, but --dataset is `b`"):
        typed_options({"shared": {"dataset": "a", "dataset_option": "b"}})


def test_what_was_typed_wins_over_the_project_file_and_set_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("stego.yaml").write_text("dataset: mine\nclasses: 4\nfit: {restarts: 2, seed: 1}")
    typed = {**NOTHING, "seed": 5, "restarts": None, "quiet": True, "overrides": ["classes=6"]}
    read = settings(FitConfig, typed)
    assert (read.dataset, read.classes, read.restarts, read.seed) == ("mine", 6, 2, 5)
