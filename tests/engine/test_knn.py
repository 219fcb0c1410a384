"""`stego knn` from end to end on small images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stego_cli.config.features import KnnConfig, KnnShowConfig
from stego_cli.config.model import FilterbankConfig
from stego_cli.engine.knn import build_index, show_neighbors
from stego_cli.errors import OutputError, StaleError, StegoError
from stego_cli.neighbors.index import load_index
from stego_cli.progress import Silence

BASE: dict[str, Any] = {"backbone": FilterbankConfig(), "resolution": 32, "workers": 0, "device": "cpu"}
GREENS = ("a.png", "b.png", "e.png")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three green images and three red ones with a stripe."""
    monkeypatch.setenv("STEGO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for name in "abcdef":
        pixels = draw.integers(0, 40, (48, 64, 3), dtype=np.uint8)
        if f"{name}.png" in GREENS:
            pixels[..., 1] += 180
        else:
            pixels[..., 0] += 180
            pixels[20:] //= 3
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def build(photos: Path, **changes: Any) -> Any:
    return build_index(KnnConfig(**{**BASE, "dataset": str(photos), "neighbors": 3, **changes}), Silence())


def show(photos: Path, **changes: Any) -> Any:
    return show_neighbors(KnnShowConfig(**{**BASE, "dataset": str(photos), **changes}), Silence())


def test_images_that_look_alike_are_neighbours(photos: Path) -> None:
    result = build(photos)
    names = [f"{letter}.png" for letter in "abcdef"]
    for row, name in enumerate(names):
        others = {names[other] for other in result.index.others(row)}
        assert all((other in GREENS) == (name in GREENS) for other in others)
    assert result.index.columns == 3
    assert result.path.is_relative_to(photos.parent / "home" / "neighbors")


def test_the_same_command_again_builds_nothing(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(photos)
    monkeypatch.setattr("stego_cli.engine.knn.search", lambda *_, **__: pytest.fail("searched again"))
    again = build(photos)
    assert again.path == first.path
    np.testing.assert_array_equal(again.index.neighbors, first.index.neighbors)


def test_other_neighbours_use_the_features_that_are_there(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(photos)
    monkeypatch.setattr("stego_cli.engine.backbone_run.fill", lambda *_: pytest.fail("computed again"))
    assert build(photos, neighbors=5).index.columns == 5
    assert build(photos, index="hnsw").index.recall is not None


def test_an_index_of_other_images_is_refused(photos: Path) -> None:
    build(photos)
    (photos / "c.png").unlink()
    with pytest.raises(StaleError, match="images"):
        build(photos)
    with pytest.raises(StaleError, match="6 images"):
        show(photos)
    assert len(build(photos, overwrite=True).index) == 5


def test_an_index_of_other_weights_is_refused_by_name(photos: Path, tmp_path: Path, tiny_model: Path) -> None:
    build(photos)
    with pytest.raises(StaleError, match="weights"):
        build(photos, weights=tiny_model)


def test_a_broken_image_has_no_neighbours_and_is_tried_again(photos: Path) -> None:
    sound = (photos / "c.png").read_bytes()
    (photos / "c.png").write_bytes(bytes(len(sound)))
    result = build(photos)
    assert result.skipped == ("c.png",)
    assert len(result.index.others(2)) == 0
    assert 2 not in result.index.neighbors[[0, 1, 3, 4, 5]]
    (photos / "c.png").write_bytes(sound)  # of the same size, so that only another try can tell
    result = build(photos)
    assert result.skipped == ()
    assert len(result.index.others(2)) == 2


def test_fewer_images_than_neighbours_give_what_there_is(photos: Path) -> None:
    assert build(photos, neighbors=30).index.columns == 6


def test_a_single_image_has_no_neighbours(photos: Path) -> None:
    for path in photos.glob("[b-f].png"):
        path.unlink()
    with pytest.raises(StegoError, match="hint:"):
        build(photos)


def test_the_layout_of_the_reference(photos: Path) -> None:
    result = build(photos, reference=Path("nns"))
    assert result.reference == Path("nns/nns_filterbank_photos_train_None_32.npz")
    with np.load(result.reference, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["nns"], result.index.neighbors)
    shown = show(photos, index_file=result.reference, images=("a.png",))
    assert [name for name, _ in shown.rows[0].neighbors] == [
        name for name, _ in show(photos, images=("a",)).rows[0].neighbors
    ]
    assert shown.rows[0].neighbors[0][1] is None


@pytest.mark.parametrize("named", ["b.png", "b", "1"])
def test_an_image_is_found_by_name_or_number(photos: Path, named: str) -> None:
    build(photos)
    result = show(photos, images=(named,), shown=1)
    assert result.rows[0].name == "b.png"
    assert result.rows[0].neighbors[0][0] in GREENS
    with Image.open("neighbors.png") as picture:
        assert picture.width > 300
    json.dumps(result.to_json())


def test_without_a_name_a_few_images_are_drawn_and_the_picture_is_replaced(photos: Path) -> None:
    build(photos)
    assert len(show(photos).rows) == 4
    assert len(show(photos).rows) == 4


def test_somebody_else_s_picture_is_not_replaced(photos: Path) -> None:
    build(photos)
    Image.new("RGB", (4, 4)).save("mine.png")
    with pytest.raises(OutputError, match="mine.png"):
        show(photos, picture=Path("mine.png"))
    assert show(photos, picture=Path("mine.png"), overwrite=True).picture == Path("mine.png")


def test_a_name_that_is_not_there_and_an_index_that_is_not_there(photos: Path) -> None:
    with pytest.raises(StegoError, match="stego knn build"):
        show(photos)
    build(photos)
    with pytest.raises(StegoError, match="zz"):
        show(photos, images=("zz.png",))


def test_the_saved_index_says_what_it_was_made_from(photos: Path) -> None:
    result = build(photos)
    loaded = load_index(result.path)
    assert loaded.fingerprint is not None
    assert loaded.fingerprint.resolution == 32
    assert loaded.names == tuple(f"{letter}.png" for letter in "abcdef")
