"""Where `stego.yaml` is looked for, and what it may hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from stego_cli.config.project import ProjectConfig, find_project_file


def test_only_the_folder_itself_is_searched(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "stego.yaml").write_text("")
    assert find_project_file(tmp_path) == tmp_path / "stego.yaml"
    assert find_project_file(inner) is None


def test_a_broken_link_counts_as_there_so_that_it_is_reported(tmp_path: Path) -> None:
    (tmp_path / "stego.yaml").symlink_to(tmp_path / "gone.yaml")
    assert find_project_file(tmp_path) is not None


def test_shared_keys_and_sections_are_known() -> None:
    shared = {"dataset", "data_dir", "backbone", "crop", "crop_ratio", "label_space", "classes", "model"}
    shared |= {"device", "precision"}
    sections = {"predict", "fit", "info", "crops", "features", "knn", "train", "eval", "ablate", "download"}
    assert set(ProjectConfig.model_fields) == shared | sections


@pytest.mark.parametrize("crop", ["five", "random", "none"])
def test_crop_is_a_word(crop: str) -> None:
    assert ProjectConfig(crop=crop).crop == crop


def test_shared_values_are_checked() -> None:
    with pytest.raises(ValidationError):
        ProjectConfig(classes="many")
