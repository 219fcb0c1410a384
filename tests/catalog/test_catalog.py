"""The catalog that comes with the package: complete, consistent, and honest about what is not confirmed."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from stego_cli.backbones.registry import ROWS
from stego_cli.catalog.entries import CatalogEntry, CatalogFile, Kind
from stego_cli.catalog.locate import catalog, readable_models
from stego_cli.catalog.wanted import choose
from stego_cli.data.datasets.known import KNOWN

KINDS = get_args(Kind)


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_says_what_a_user_should_know(kind: Any) -> None:
    for name, entry in catalog()[kind].items():
        assert entry.licence, name
        assert entry.terms.startswith("http"), name
        assert entry.citation, name
        assert entry.about, name
        assert entry.used_for, name


def test_names_are_unique_over_all_kinds() -> None:
    names = [name for entries in catalog().values() for name in entries]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_files_share_a_place(kind: Any) -> None:
    paths = [file.path for entry in catalog()[kind].values() for file in entry.files]
    assert len(set(paths)) == len(paths)


def test_every_backbone_can_be_built_and_every_row_be_fetched() -> None:
    assert {row.weights for row in ROWS} == set(catalog()["backbones"])
    assert all(row.weights == row.name for row in ROWS)  # `--backbone NAME --weights FILE` is told by this


def test_cityscapes_is_only_for_people_with_an_account() -> None:
    entry = catalog()["datasets"]["cityscapes"]
    assert [file.file for file in entry.files] == ["leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"]
    assert entry.manual


@pytest.mark.parametrize("name", ["dinov3_", "hp_", "cause_", "primaps"])
def test_what_stands_behind_a_form_or_a_drive_is_never_fetched_by_a_program(name: str) -> None:
    entries = {known: entry for rows in catalog().values() for known, entry in rows.items() if known.startswith(name)}
    assert entries
    assert all(entry.manual for entry in entries.values())


def test_everything_on_a_drive_is_manual() -> None:
    for entries in catalog().values():
        for name, entry in entries.items():
            if any("drive.google.com" in file.url for file in entry.files):
                assert entry.manual, name


def test_the_first_digits_of_a_checksum_are_those_in_the_name() -> None:
    dinov3 = [entry for name, entry in catalog()["backbones"].items() if name.startswith("dinov3_")]
    assert len(dinov3) == 8
    for entry in dinov3:
        assert entry.sha256_prefix
        assert entry.file.endswith(f"-{entry.sha256_prefix}.pth")


@pytest.mark.parametrize("name", ["mae_vitb16", "msn_vits16", "mocov3_vitb16"])
def test_terms_without_commercial_use_are_said(name: str) -> None:
    assert "no commercial use" in catalog()["backbones"][name].licence


def test_without_names_it_is_what_the_original_downloads() -> None:
    assert {item.name for item in choose(["models"], [])} == set(readable_models())
    assert all(item.name.startswith("dino_") for item in choose(["backbones"], []))


def test_a_cause_model_is_laid_out_as_its_loaders_expect() -> None:
    files = [file.path for file in catalog()["models"]["cause_cocostuff27_dino_vitb8"].files]
    heads = "CAUSE/cocostuff27/dino_vit_base_8/2048"
    assert files == [
        f"{heads}/segment_tr.pth",
        f"{heads}/cluster_tr.pth",
        f"{heads}/segment_mlp.pth",
        f"{heads}/cluster_mlp.pth",
        "CAUSE/cocostuff27/modularity/dino_vit_base_8/2048/modular.npy",
    ]
    assert len(catalog()["models"]["cause_voc2012_msn_vits16"].files) == 3


def test_what_a_dataset_is_recognised_by_is_what_its_archive_holds() -> None:
    for known in KNOWN.values():
        entry = catalog()["datasets"][known.archive]
        below = known.folders[0].removeprefix(known.archive).strip("/")
        held = {part for file in entry.files for part in file.holds}
        for part in known.parts:
            wanted = f"{below}/{part}".strip("/")
            assert any(wanted == one or wanted.startswith(f"{one}/") for one in held), (known.name, part)


@pytest.mark.parametrize(
    "bad",
    [{"file": "../x"}, {"file": ".x"}, {"below": "../up"}, {"below": "/top"}, {"into": "a//b"}, {"url": "ftp://x"},
     {"sha256_prefix": "XYZ12"}, {"surprise": 1}],
)  # fmt: skip
def test_an_entry_that_leads_elsewhere_is_refused(bad: dict[str, Any]) -> None:
    good = {"url": "https://example.org/x", "file": "x.pth"}
    CatalogFile(**good)
    with pytest.raises(ValidationError):
        CatalogFile(**(good | bad))


def test_further_files_of_a_page_lie_beside_the_first() -> None:
    entry = CatalogEntry(url="https://example.org", file="a", below="x/y", beside=("b",), licence="free")
    assert [file.path for file in entry.files] == ["x/y/a", "x/y/b"]
