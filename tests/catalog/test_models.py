"""From a name to a model file, and which one is taken without a name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stego_cli.catalog.locate import catalog, stego_home, target
from stego_cli.catalog.models import choose_model, embedded_path
from stego_cli.errors import StegoError, WeightsError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "home"


def made(path: Path, age: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    os.utime(path, (1_000_000 - age, 1_000_000 - age))
    return path


def test_without_anything_else_it_is_the_embedded_model(tmp_path: Path) -> None:
    choice = choose_model(runs=tmp_path / "runs")
    assert (choice.name, choice.path) == ("embedded", embedded_path())


def test_a_downloaded_model_is_better_than_the_embedded_one(tmp_path: Path, home: Path) -> None:
    path = made(home / "models" / "potsdam_test.ckpt", age=0)
    assert choose_model(runs=tmp_path / "runs").path == path


def test_the_last_model_made_here_is_better_than_any_other(tmp_path: Path, home: Path) -> None:
    made(home / "models" / "potsdam_test.ckpt", age=0)
    made(tmp_path / "runs" / "old" / "model.safetensors", age=9)
    newest = made(tmp_path / "runs" / "new" / "model.safetensors", age=3)
    choice = choose_model(runs=tmp_path / "runs")
    assert choice.path == newest
    assert "last one made here" in choice.why


def test_a_published_model_that_is_missing_names_address_and_place(home: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        choose_model("cocostuff27_vit_base_5")
    assert "https://" in str(caught.value)
    assert str(home / "models" / "cocostuff27_vit_base_5.ckpt") in str(caught.value)


def test_an_unknown_name_is_answered_with_a_near_one() -> None:
    with pytest.raises(StegoError, match="did you mean `potsdam_test`"):
        choose_model("potsdam_tset")


def test_every_entry_has_a_place_of_its_own(home: Path) -> None:
    places = [target(kind, name) for kind, entries in catalog().items() for name in entries]
    assert len(set(places)) == len(places)
    assert all(place.is_relative_to(home) for place in places)


def test_the_home_follows_the_variable(home: Path) -> None:
    assert stego_home() == home


def test_a_model_that_no_command_reads_is_refused_by_name_and_never_taken(tmp_path: Path, home: Path) -> None:
    made(home / "models" / "hp_cocostuff27_vits8.pth", age=0)
    assert choose_model(runs=tmp_path / "runs").name == "embedded"
    with pytest.raises(StegoError, match="no command of this version can work with it"):
        choose_model("hp_cocostuff27_vits8")
