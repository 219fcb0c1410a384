"""A backbone over a dataset: the right records in the right places, whatever is missing, broken or killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stego_cli.backbones.registry import build_backbone
from stego_cli.backbones.weights import load_backbone
from stego_cli.config.features import FeaturesConfig, KnnConfig
from stego_cli.config.model import FilterbankConfig, VitArchitecture, VitConfig
from stego_cli.data.dataset import Dataset, Sample
from stego_cli.data.views import apply, normalise, paper_view, square_view
from stego_cli.engine import extract
from stego_cli.engine.backbone_run import build_store, extraction, fingerprint, open_run
from stego_cli.engine.extract import Extraction, fill, rank_and_world, record_shape
from stego_cli.errors import DeviceError, OutputError, ShapeError, StaleError
from stego_cli.features.store import FeatureStore
from stego_cli.neighbors.pooling import pool
from stego_cli.progress import Silence
from support import Heard


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five images of three sizes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number, size in enumerate([(40, 60), (60, 40), (40, 60), (33, 33), (70, 50)]):
        pixels = draw.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def settings(photos: Path, **changes: Any) -> KnnConfig:
    values = {"dataset": str(photos), "backbone": FilterbankConfig(), "resolution": 32, "batch_size": 2, "workers": 0}
    return KnnConfig(**{**values, "device": "cpu", **changes})


def filled(photos: Path, place: Path, report: Silence | None = None, **changes: Any) -> FeatureStore:
    report = report or Silence()
    return build_store(open_run(settings(photos, **changes), report), "maps", "float32", str(place), report)


def test_a_record_is_the_feature_map_of_its_image(photos: Path, tmp_path: Path) -> None:
    store = filled(photos, tmp_path / "store")
    backbone = load_backbone(FilterbankConfig())
    for number in range(5):
        with Image.open(photos / f"{number}.png") as image:
            pixels = np.array(image)
        seen = apply(paper_view(*pixels.shape[:2], 32), pixels)
        with torch.no_grad():
            expected = backbone(normalise(seen, backbone.mean, backbone.std))[0].numpy()
        np.testing.assert_allclose(store[number], expected, atol=1e-5)


@pytest.mark.parametrize(("protocol", "loader_crop"), [("native", "center"), ("paper", "squash"), ("native", "squash")])
def test_protocol_and_loader_crop_decide_what_the_backbone_sees(
    photos: Path, tmp_path: Path, protocol: Any, loader_crop: Any
) -> None:
    store = filled(photos, tmp_path / "store", protocol=protocol, loader_crop=loader_crop)
    backbone = load_backbone(FilterbankConfig())
    with Image.open(photos / "0.png") as image:
        view = square_view(image.height, image.width, 32, loader_crop, antialias=protocol == "native")
        seen = apply(view, np.array(image))
    with torch.no_grad():
        expected = backbone(normalise(seen, backbone.mean, backbone.std))[0].numpy()
    np.testing.assert_allclose(store[0], expected, atol=1e-5)


def test_workers_change_nothing(photos: Path, tmp_path: Path) -> None:
    one, two = filled(photos, tmp_path / "one"), filled(photos, tmp_path / "two", workers=2)
    np.testing.assert_array_equal(one.read(range(5)), two.read(range(5)))


def test_pooled_records_are_unit_vectors(photos: Path, tmp_path: Path) -> None:
    run = open_run(settings(photos), Silence())
    store = build_store(run, "pooled", "float32", str(tmp_path / "store"), Silence())
    maps = filled(photos, tmp_path / "maps").read(range(5))
    np.testing.assert_allclose(store.read(range(5)), pool(torch.from_numpy(maps)).numpy(), atol=1e-6)


def test_an_image_that_cannot_be_read_is_named_and_its_record_is_no_number(photos: Path, tmp_path: Path) -> None:
    (photos / "2.png").write_bytes((photos / "2.png").read_bytes()[:100])
    report = Heard()
    store = filled(photos, tmp_path / "store", report)
    assert store.failed == (2,)
    assert np.isnan(store[2]).all()
    assert np.isfinite(store.read([0, 1, 3, 4])).all()
    assert len(report.warnings) == 1
    assert "2.png" in report.warnings[0]


def test_what_is_there_is_not_computed_again(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(photos, tmp_path / "store")
    monkeypatch.setattr(extract, "_compute", lambda *_: pytest.fail("computed again"))
    report = Heard()
    assert len(filled(photos, tmp_path / "store", report)) == 5
    assert any("using the 5 feature maps" in note for note in report.notes)


def test_only_missing_shards_are_computed_and_the_bytes_are_the_same(photos: Path, tmp_path: Path) -> None:
    run = open_run(settings(photos), Silence())
    how, made_from = extraction(run, "maps"), fingerprint(run, "maps", "float32")
    whole = FeatureStore.create(tmp_path / "whole", made_from, shard_size=2)
    fill(whole, how, Silence(), "x")
    parts = FeatureStore.create(tmp_path / "parts", made_from, shard_size=2)
    for rank in (2, 0, 1):
        fill(parts, how, Silence(), "x", (rank, 3))
    assert not parts.missing()
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "parts").iterdir())
    for name in files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resolution": 40}, "resolution 32"),
        ({"protocol": "native"}, "protocol paper"),
        ({"loader_crop": "squash"}, "loader crop center"),
    ],
)
def test_records_of_other_settings_are_refused_by_name(
    photos: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    filled(photos, tmp_path / "store")
    with pytest.raises(StaleError, match=words):
        filled(photos, tmp_path / "store", **changes)
    assert filled(photos, tmp_path / "store", **changes, overwrite=True).fingerprint.count == 5


def test_a_new_image_makes_records_stale(photos: Path, tmp_path: Path) -> None:
    filled(photos, tmp_path / "store")
    Image.new("RGB", (40, 40)).save(photos / "5.png")
    with pytest.raises(StaleError, match="images"):
        filled(photos, tmp_path / "store")


def test_the_resolution_must_be_whole_patches(photos: Path) -> None:
    with pytest.raises(ShapeError, match="use 32 or 40"):
        open_run(settings(photos, resolution=33), Silence())


def test_processes_share_the_work_as_their_launcher_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    assert rank_and_world() == (0, 1)
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    assert rank_and_world() == (3, 8)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert rank_and_world() == (1, 2)


def test_processes_cannot_overwrite_together(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(OutputError, match="several processes"):
        filled(photos, tmp_path / "store", overwrite=True)


def vit_extraction(photos: Path, batch_size: int) -> Extraction:
    sizes = VitArchitecture(patch_size=8, width=12, depth=1, heads=3, image_size=32)
    backbone = build_backbone(VitConfig(name="tiny", architecture=sizes)).eval()
    samples = tuple(Sample(f"{number}.png", photos / f"{number}.png") for number in range(5))
    dataset = Dataset("photos", "photos-1", "train", photos, samples)
    return Extraction(dataset, backbone, lambda maps: maps, 32, "center", False, batch_size, 0)


def test_the_shape_of_a_record_is_known_beforehand(photos: Path) -> None:
    assert record_shape(vit_extraction(photos, 2)) == (12, 4, 4)


def test_short_memory_makes_batches_smaller_and_loses_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = extract._compute

    def short(how: Extraction, images: Any) -> Any:
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return compute(how, images)

    expected = filled(photos, tmp_path / "enough").read(range(5))
    monkeypatch.setattr(extract, "_compute", short)
    report = Heard()
    np.testing.assert_allclose(filled(photos, tmp_path / "short", report).read(range(5)), expected, atol=1e-5)
    assert any("batches of 1" in note for note in report.notes)


def test_an_image_too_large_for_the_memory_ends_the_run_in_words(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(how: Extraction, images: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(extract, "_compute", never)
    with pytest.raises(DeviceError, match="--res below 32"):
        filled(photos, tmp_path / "store")


def test_features_and_neighbours_have_the_same_view_by_default() -> None:
    shared = ("resolution", "loader_crop", "protocol", "backbone", "split")
    features, knn = FeaturesConfig(), KnnConfig()
    assert all(getattr(features, name) == getattr(knn, name) for name in shared)
