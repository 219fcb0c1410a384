from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from stego_cli.data.dataset import Dataset, Sample
from stego_cli.features.fingerprint import Fingerprint, image_list_hash

BASE = Fingerprint(
    kind="maps",
    dataset="camvid-0a1b2c3d",
    split="train",
    crop="none",
    count=5,
    images="aa" * 32,
    backbone="dino_vits8",
    weights="1f3a" * 16,
    feature_type="feat",
    block=-1,
    patch_size=8,
    resolution=224,
    loader_crop="center",
    protocol="paper",
    dtype="float16",
    shape=(384, 28, 28),
)
OTHER = {
    "kind": "pooled",
    "dataset": "potsdam",
    "split": "val",
    "crop": "five 0.5",
    "count": 6,
    "images": "bb" * 32,
    "bands": (3, 2, 1),
    "backbone": "filterbank",
    "weights": "77bc" * 16,
    "feature_type": "keys",
    "block": -2,
    "patch_size": 16,
    "resolution": 320,
    "loader_crop": "squash",
    "protocol": "native",
    "precision": "bf16",
    "dtype": "float32",
    "shape": (384,),
}


def dataset(folder: Path, contents: dict[str, bytes]) -> Dataset:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return Dataset("d", "d", "train", folder, tuple(Sample(name, folder / name) for name in contents))


def test_every_field_has_a_case_here() -> None:
    assert OTHER.keys() == Fingerprint.model_fields.keys()


@pytest.mark.parametrize("field", OTHER)
def test_a_differing_field_is_one_sentence_with_both_values_and_another_digest(field: str) -> None:
    changed = BASE.model_copy(update={field: OTHER[field]})
    (sentence,) = BASE.differences(changed)
    (back,) = changed.differences(BASE)
    made, asked = sentence.split(", asked for ")
    assert made.startswith("made with ")
    assert back == f"made with {asked}, asked for {made.removeprefix('made with ')}"
    assert made.removeprefix("made with ") != asked
    assert changed.digest != BASE.digest


def test_weights_are_named_with_their_backbone() -> None:
    other = BASE.model_copy(update={"weights": "77bc" * 16, "backbone": "filterbank"})
    assert "made with weights 1f3a1f3a… of dino_vits8, asked for weights 77bc77bc… of filterbank" in BASE.differences(
        other
    )


def test_equal_ones_do_not_differ() -> None:
    assert BASE.differences(BASE.model_copy()) == ()


def test_it_survives_json_with_its_digest() -> None:
    odd = Fingerprint(**{**BASE.model_dump(), "dataset": "caf\udce9", "bands": (4, 3, 2)})
    back = Fingerprint.model_validate_json(odd.model_dump_json())
    assert back == odd
    assert back.digest == odd.digest


def test_bfloat16_is_refused() -> None:
    with pytest.raises(ValidationError, match="float16"):
        Fingerprint(**{**BASE.model_dump(), "dtype": "bfloat16"})


def test_the_list_hash_does_not_depend_on_where_the_dataset_lies(tmp_path: Path) -> None:
    contents = {"a.jpg": b"1", "b.jpg": b"22"}
    assert image_list_hash(dataset(tmp_path / "x", contents)) == image_list_hash(dataset(tmp_path / "y", contents))


@pytest.mark.parametrize(
    "contents",
    [
        {"b.jpg": b"22", "a.jpg": b"1"},
        {"a.jpg": b"1"},
        {"a.jpg": b"1", "b.jpg": b"333"},
        {"a.jpg": b"1", "c.jpg": b"22"},
        {"a.jpg": b"1", "b.jpg": b"22", "c.jpg": b""},
    ],
    ids=["order", "removed", "size", "name", "added"],
)
def test_the_list_hash_notices(tmp_path: Path, contents: dict[str, bytes]) -> None:
    before = image_list_hash(dataset(tmp_path / "x", {"a.jpg": b"1", "b.jpg": b"22"}))
    assert image_list_hash(dataset(tmp_path / "y", contents)) != before


def test_a_missing_file_counts_unlike_an_empty_one(tmp_path: Path) -> None:
    whole = dataset(tmp_path / "x", {"a.jpg": b""})
    gone = replace(whole, samples=(Sample("a.jpg", tmp_path / "nowhere.jpg"),))
    assert image_list_hash(gone) != image_list_hash(whole)


def test_names_that_are_no_text_can_be_hashed(tmp_path: Path) -> None:
    odd = replace(dataset(tmp_path / "x", {}), samples=(Sample("caf\udce9.jpg", tmp_path / "caf\udce9.jpg"),))
    assert len(image_list_hash(odd)) == 64
