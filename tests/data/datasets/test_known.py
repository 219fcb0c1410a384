"""Where datasets are looked for, what folders are recognised, and what is said of those that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from stego_cli.catalog.locate import catalog, datasets_folder
from stego_cli.config.data import DataConfig
from stego_cli.config.words import DATASET_NAMES
from stego_cli.data.datasets.known import KNOWN, place_of
from stego_cli.data.labels import available_label_spaces
from stego_cli.errors import StegoError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def lay_out(root: Path, *parts: str) -> Path:
    for part in parts:
        (root / part).mkdir(parents=True) if "." not in part else (root / part).touch()
    return root


def test_options_catalog_and_label_spaces_know_the_same_datasets() -> None:
    assert tuple(KNOWN) == DATASET_NAMES
    for known in KNOWN.values():
        assert known.archive in catalog()["datasets"]
        assert known.label_space in available_label_spaces()


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("cocostuff15", "cocostuff"),
        ("cocostuff15", "cocostuff/cocostuff"),
        ("cocostuff15", "."),
        ("cityscapes", "cityscapes"),
        ("potsdam", "potsdam/potsdam"),
        ("potsdamraw", "potsdamraw"),
        ("voc2012", "voc2012/VOCdevkit/VOC2012"),
        ("voc2012", "VOCdevkit/VOC2012"),
        ("voc2012", "pascalvoc/VOCdevkit/VOC2012"),
        ("voc2012", "pascalvoc"),
    ],
)
def test_a_known_name_is_found_below_the_folder_of_datasets(tmp_path: Path, name: str, place: str) -> None:
    for base, config in (
        (datasets_folder(), DataConfig(dataset=name)),
        (tmp_path / "other", DataConfig(dataset=name, data_dir=tmp_path / "other")),
    ):
        lay_out(base / place, *KNOWN[name].parts)
        assert place_of(config).root().resolve() == (base / place).resolve()


@pytest.mark.parametrize("name", [name for name in KNOWN if name not in {"cocostuff15", "cocostuff3"}])
def test_a_folder_that_is_laid_out_as_a_known_dataset_is_taken_for_it(tmp_path: Path, name: str) -> None:
    root = lay_out(tmp_path / "mine", *KNOWN[name].parts)
    place = place_of(DataConfig(dataset=str(root)))
    assert place.known is KNOWN[name]
    assert place.root() == root
    assert place.name == name


def test_a_folder_of_images_is_not_taken_for_a_known_dataset(tmp_path: Path) -> None:
    for parts in (("imgs",), ("images", "annotations"), ("JPEGImages",), ("train", "val")):
        root = lay_out(tmp_path / "-".join(parts), *parts)
        assert place_of(DataConfig(dataset=str(root))).known is None


def test_slugs_tell_datasets_apart_wherever_they_lie(tmp_path: Path) -> None:
    folders = ("a/set", "b/set", "b/ö & ü", "b/ö & ü/.x", "l" * 200)
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    configs = [
        DataConfig(dataset="cocostuff27"),
        DataConfig(dataset="cocostuff27", data_dir=tmp_path / "a"),
        DataConfig(dataset="cocostuff27", data_dir=tmp_path / "b"),
        *(DataConfig(dataset=str(tmp_path / folder)) for folder in folders),
    ]
    slugs = [place_of(config).slug for config in configs]
    assert slugs[0] == "cocostuff27"
    assert len(set(slugs)) == len(slugs)
    for slug in slugs:
        assert not slug.startswith(".")
        assert len(slug.encode()) < 60
        assert "/" not in slug


def test_a_folder_whose_name_is_no_text_has_a_slug_that_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "caf\udce9"
    odd.mkdir()
    monkeypatch.chdir(odd)
    place = place_of(DataConfig(dataset="."))
    assert place.name == "caf\udce9"
    assert place.slug.encode().startswith(b"caf_-")


def test_a_folder_has_one_slug_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "set")
    ways = [str(tmp_path / "set"), "set", "./set/", "set/../set", str(tmp_path / "link")]
    assert len({place_of(DataConfig(dataset=way)).slug for way in ways}) == 1
    assert place_of(DataConfig(dataset="set", data_dir=tmp_path)).root() == tmp_path / "set"
    monkeypatch.chdir("/")
    assert place_of(DataConfig(dataset="set", data_dir=tmp_path)).root() == tmp_path / "set"


@pytest.mark.parametrize("name", KNOWN)
def test_a_dataset_that_is_not_there_is_answered_with_the_command_that_gets_it(home: Path, name: str) -> None:
    with pytest.raises(StegoError) as caught:
        place_of(DataConfig(dataset=name)).root()
    text = str(caught.value)
    assert str(home / "datasets") in text
    assert f"`stego download datasets {KNOWN[name].archive}`" in text
    assert "--data-dir" in text
    assert ("account" in text) == (name == "cityscapes")


def test_the_command_brings_it_to_the_folder_that_was_looked_in(tmp_path: Path) -> None:
    with pytest.raises(StegoError, match=rf"stego download datasets potsdam --dir {tmp_path}`"):
        place_of(DataConfig(dataset="potsdam", data_dir=tmp_path)).root()


@pytest.mark.parametrize("made", [("images",), ("annotations",)])
def test_a_dataset_that_was_half_unpacked_says_what_is_missing(tmp_path: Path, made: tuple[str, ...]) -> None:
    lay_out(tmp_path / "cocostuff", *made)
    with pytest.raises(StegoError, match=r"(?s)cocostuff` is not the whole of .*no .*`curated`.*hint: run `stego down"):
        place_of(DataConfig(dataset="cocostuff27", data_dir=tmp_path)).root()


def test_a_folder_of_the_same_name_is_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "potsdam").mkdir()
    with pytest.raises(StegoError, match=r"write `\./potsdam`"):
        place_of(DataConfig(dataset="potsdam")).root()
    assert place_of(DataConfig(dataset="./potsdam")).root() == tmp_path / "potsdam"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("cocostuf27", "cocostuff27"),
        ("CityScapes", "cityscapes"),
        ("photo", "photos"),
        ("./Photos", "photos"),
        ("deep/insied", "deep/inside"),
        ("deeep/inside", "deep"),
    ],
)
def test_a_misspelt_name_or_folder_is_answered_with_what_was_meant(tmp_path: Path, typed: str, meant: str) -> None:
    for folder in ("photos", "deep/inside"):
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(StegoError, match=rf"did you mean `{meant}`"):
        place_of(DataConfig(dataset=typed))


def test_nothing_alike_is_answered_with_the_known_names(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(StegoError, match="one of cocostuff27, .*voc2012"):
        place_of(DataConfig(dataset="zzz"))
    with pytest.raises(StegoError, match=r"(?s)a\.jpg` is a file.*hint: give the folder"):
        place_of(DataConfig(dataset="a.jpg"))
    (tmp_path / "data").mkdir()
    with pytest.raises(StegoError, match=r"(?s)no folder `dat`.*did you mean `data`"):
        place_of(DataConfig(dataset="potsdam", data_dir=Path("dat")))
