"""The index file: what goes in comes out, and nothing else is taken for an index."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from safetensors.torch import save_file

from stego_cli.errors import OutputError, ShapeError, StaleError, StegoError
from stego_cli.neighbors.index import METADATA_KEY, NeighborIndex, find_name, load_index, save_index
from support import fingerprint

FINGERPRINT = fingerprint(kind="pooled", crop="five 0.5", backbone="dino_vits8", dtype="float32", shape=(384,))
NEIGHBORS = np.array([[0, 2, 3], [1, -1, -1], [2, 0, 3], [3, 2, 0]])
SIMILARITIES = np.array([[1, 0.9, 0.5], [np.nan] * 3, [1, 0.9, 0.7], [1, 0.7, 0.5]], np.float32)
NAMES = ("train/a.jpg", "train/b\nb.jpg", "train/caf\udce9.jpg", "train/日本.png")


def made(**changes: Any) -> NeighborIndex:
    values = {
        "neighbors": NEIGHBORS,
        "similarities": SIMILARITIES,
        "valid": np.array([True, False, True, True]),
        "names": NAMES,
        "kind": "hnsw",
        "recall": 0.97,
        "fingerprint": FINGERPRINT,
    }
    return NeighborIndex(**(values | changes))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.safetensors"


def content(**changes: Any) -> dict[str, np.ndarray]:
    """Return the tensors of a sound file, some of them changed or, by None, left out."""
    letters = [name.encode("utf-8", "surrogateescape") for name in NAMES]
    tensors = {
        "neighbors": NEIGHBORS,
        "similarities": SIMILARITIES,
        "valid": np.array([True, False, True, True]),
        "names": np.frombuffer(b"".join(letters), np.uint8),
        "ends": np.cumsum([len(name) for name in letters]),
    } | changes
    return {key: value for key, value in tensors.items() if value is not None}


def about(**changes: Any) -> dict[str, str]:
    values = {"format": 1, "kind": "flat", "recall": None, "stego_version": "0.1.0", "fingerprint": None} | changes
    return {METADATA_KEY: json.dumps(values)}


def test_what_is_saved_comes_back(path: Path) -> None:
    index = made()
    save_index(index, path)
    for expected in (None, FINGERPRINT):
        loaded = load_index(path, expected)
        for key in ("neighbors", "similarities", "valid"):
            np.testing.assert_array_equal(getattr(loaded, key), getattr(index, key))
            assert getattr(loaded, key).dtype == getattr(index, key).dtype
        for key in ("names", "kind", "recall", "fingerprint", "stego_version"):
            assert getattr(loaded, key) == getattr(index, key)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_equal_indexes_make_equal_files(path: Path) -> None:
    save_index(made(), path)
    first = path.read_bytes()
    save_index(made(neighbors=np.asfortranarray(NEIGHBORS)), path)
    assert path.read_bytes() == first


def test_an_index_outlives_its_file(path: Path) -> None:
    save_index(made(), path)
    loaded = load_index(path)
    path.write_bytes(b"\0" * path.stat().st_size)
    np.testing.assert_array_equal(loaded.neighbors, NEIGHBORS)


def test_others_are_the_neighbours_without_the_image_itself() -> None:
    index = made()
    assert (len(index), index.columns) == (4, 3)
    assert [index.others(image).tolist() for image in range(4)] == [[2, 3], [], [0, 3], [2, 0]]


def test_others_of_a_reference_file_where_a_copy_comes_first() -> None:
    index = made(neighbors=np.array([[0, 1, 2], [0, 1, 2], [0, 1, 3], [3, 2, 0]]))
    assert index.others(1).tolist() == [0, 2]
    assert index.others(2).tolist() == [0, 1]  # three copies, and it is not among them: as many as for all others


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"neighbors": NEIGHBORS[0]}, "expected .images, columns. int64"),
        ({"neighbors": NEIGHBORS.astype(np.int32)}, "int32"),
        ({"neighbors": np.empty((0, 3), np.int64)}, "expected .images, columns. int64"),
        ({"neighbors": NEIGHBORS + 1}, "reach from 0 to 4, there are 4 images"),
        ({"neighbors": NEIGHBORS - 1}, "reach from -2 to 2"),
        ({"similarities": SIMILARITIES[:, :2]}, "similarities"),
        ({"similarities": SIMILARITIES.astype(np.float64)}, "similarities"),
        ({"valid": np.ones(3, bool)}, "mask"),
        ({"valid": np.ones(4, np.uint8)}, "mask"),
        ({"names": NAMES[:3]}, "3 names for 4 images"),
        ({"recall": 1.2}, "recall"),
        ({"recall": math.nan}, "recall"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        made(**changes)


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(ShapeError, match="(?s)mask.*names.*recall"):
        made(valid=np.ones(3, bool), names=NAMES[:3], recall=2.0)


def test_an_index_from_other_weights_is_refused_by_name(path: Path) -> None:
    save_index(made(), path)
    wanted = FINGERPRINT.model_copy(update={"weights": "ef" * 32, "resolution": 320})
    with pytest.raises(StaleError) as raised:
        load_index(path, wanted)
    text = str(raised.value)
    assert all(difference in text for difference in FINGERPRINT.differences(wanted))
    assert "resolution 224, asked for resolution 320" in text
    assert str(path) in text
    assert "stego knn build" in text


def test_an_index_that_does_not_say_what_it_was_made_from_is_stale(path: Path) -> None:
    save_index(made(fingerprint=None), path)
    assert load_index(path).fingerprint is None
    with pytest.raises(StaleError, match="does not say"):
        load_index(path, FINGERPRINT)


def test_a_missing_file_is_named_with_the_command_that_makes_it(path: Path) -> None:
    for missing in (path, path.parent):
        with pytest.raises(StegoError, match="stego knn build") as raised:
            load_index(missing)
        assert str(missing) in str(raised.value)


def test_a_file_cut_off_anywhere_is_refused(path: Path) -> None:
    save_index(made(), path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(StegoError, match="not a usable neighbour index"):
            load_index(path)


def test_damaged_bytes_never_end_in_a_traceback(path: Path) -> None:
    save_index(made(), path)
    whole, chance = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            load_index(path)
        except StegoError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("tensors", "metadata", "words"),
    [
        (content(), {}, "another kind"),
        (content(), {METADATA_KEY: "{"}, "not JSON"),
        (content(), {METADATA_KEY: "[" * 100_000}, "not JSON"),
        (content(), {METADATA_KEY: "[1]"}, "no table"),
        (content(), about(format=99), "newer stego-cli"),
        (content(), about(format=None), "lacks"),
        (content(), about(kind="tree"), "lacks"),
        (content(), about(kind=["flat"]), "lacks"),
        (content(), about(recall="all"), "recall"),
        (content(), about(recall=math.nan), "recall"),
        (content(), about(recall=7), "recall"),
        (content(), about(recall=True), "recall"),
        (content(), about(fingerprint=[1]), "fingerprint"),
        (content(), about(fingerprint={"kind": "pooled"}), "fingerprint"),
        (content(similarities=None), about(), "`similarities` is missing"),
        (content(more=np.zeros(3)), about(), "`more` does not belong"),
        (content(neighbors=NEIGHBORS.astype(np.float64)), about(), "float64, expected int64"),
        (content(neighbors=NEIGHBORS + 5), about(), "there are 4 images"),
        (content(neighbors=np.array(3)), about(), "expected .images, columns."),
        (content(valid=np.ones((4, 1), bool)), about(), "mask"),
        (content(ends=np.array([3, 2, 1, 0])), about(), "names end"),
        (content(ends=np.array([-5, 10, 20, 50])), about(), "names end"),
        (content(ends=np.array([1, 2, 3, 4])), about(), "names end"),
        (content(ends=np.array([1, 2, 3, 2**62])), about(), "names end"),
        (content(ends=np.zeros((2, 2), np.int64)), about(), "names"),
        (content(ends=np.empty(0, np.int64)), about(), "names"),
    ],
)
def test_hostile_files_are_refused(
    path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str], words: str
) -> None:
    path.write_bytes(save({key: np.ascontiguousarray(value) for key, value in tensors.items()}, metadata=metadata))
    with pytest.raises(StegoError, match=words) as raised:
        load_index(path)
    assert str(path) in str(raised.value)
    assert "\n\nhint: " in str(raised.value)


def test_words_from_a_file_cannot_steer_the_terminal(path: Path) -> None:
    path.write_bytes(save(content(**{"\x1b[2Jgone": np.zeros(1)}), metadata=about()))
    with pytest.raises(StegoError) as raised:
        load_index(path)
    assert "\x1b" not in str(raised.value)


def test_number_types_that_numpy_lacks_are_refused(path: Path) -> None:
    save_file({"neighbors": torch.zeros(2, 2, dtype=torch.bfloat16)}, path, metadata=about())
    with pytest.raises(StegoError, match="not a usable neighbour index"):
        load_index(path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 a zip", b"\x89PNG\r\n\x1a\n", b"\xff" * 64, b"<html></html>"])
def test_other_files_are_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(StegoError, match="not a usable neighbour index"):
        load_index(path)


def test_the_embedded_model_is_no_index() -> None:
    import stego_cli

    model = Path(stego_cli.__file__).parent / "assets" / "embedded.safetensors"
    with pytest.raises(StegoError, match="of another kind"):
        load_index(model)


def test_an_index_without_names_cannot_be_saved(path: Path) -> None:
    for changes in ({"names": ()}, {"similarities": None}):
        with pytest.raises(ShapeError, match="lacks similarities and names"):
            save_index(made(**changes), path)
    assert not path.exists()


def test_a_place_that_cannot_be_written_leaves_the_old_file(path: Path) -> None:
    save_index(made(), path)
    with pytest.raises(OutputError):
        save_index(made(), path / "below" / "a.safetensors")
    load_index(path)


def test_names_are_found_whole_by_their_end_and_without_suffix() -> None:
    names = ("train/aachen/1.png", "train/bochum/1.png", "train/bochum/2.png", "train/3.tar.png")
    assert find_name(names, "train/bochum/1.png") == 1
    assert find_name(names, "bochum/1.png") == 1
    assert find_name(names, "2.png") == find_name(names, "2") == find_name(names, "bochum/2") == 2
    assert find_name(names, "3.tar") == 3
    assert made(names=names).find("aachen/1") == 0


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("1.png", "may be `train/aachen/1.png`, `train/bochum/1.png`\n\nhint: write the whole name"),
        ("train/bochum/3.png", "did you mean `train/bochum/"),
        ("png", "no image of the index is called `png`"),
        ("ochum/1.png", "did you mean"),
        ("", "names are paths within the dataset, such as `train/aachen/1.png`"),
        ("\udce9", "no image of the index is called `.udce9`"),
    ],
)
def test_names_that_are_not_there_or_not_clear(wanted: str, words: str) -> None:
    with pytest.raises(StegoError, match=words):
        find_name(("train/aachen/1.png", "train/bochum/1.png", "train/bochum/2.png"), wanted)


def test_an_index_without_names_says_so() -> None:
    with pytest.raises(StegoError, match="no names"):
        made(names=()).find("a.jpg")
