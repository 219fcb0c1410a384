"""A backbone with a fixed projection behind it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stego_cli.backbones.filterbank import Filterbank
from stego_cli.config.model import PcaConfig, RpConfig
from stego_cli.engine.train import projected
from stego_cli.engine.train.projected import ProjectedBackbone, ProjectedReader, project_all
from stego_cli.features.reader import InMemory
from stego_cli.methods.dimred.pca import Pca
from stego_cli.methods.dimred.random_projection import RandomProjection
from stego_cli.progress import Silence
from support import fingerprint

CHANNELS, IMAGES = 6, 5


@pytest.fixture
def features() -> InMemory:
    made = fingerprint(count=IMAGES, resolution=32, shape=(CHANNELS, 4, 4))
    records = np.random.default_rng(0).normal(size=(IMAGES, *made.shape)).astype(np.float16)
    records[3] = np.nan
    return InMemory(made, (3,), records)


def projection(**settings: object) -> RandomProjection:
    method = RandomProjection(RpConfig(code_dim=2, **settings), CHANNELS)  # type: ignore[arg-type]
    method.adopt({"mean": torch.ones(CHANNELS), "deviation": torch.full((CHANNELS,), 2.0)}, seed=0)
    return method


def test_it_is_a_backbone_whose_features_are_the_code() -> None:
    backbone = Filterbank()
    method = Pca(PcaConfig(code_dim=3), backbone.channels)
    method.components.normal_(generator=torch.Generator().manual_seed(0))
    both = ProjectedBackbone(backbone, method)
    images = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(both(images), method.code(backbone(images)))
    assert (both.channels, both.patch_size, both.mean) == (3, backbone.patch_size, backbone.mean)


def test_codes_are_computed_once_and_are_those_of_the_method(features: InMemory) -> None:
    method = projection()
    reader = ProjectedReader(features, method, torch.device("cpu"))
    codes = project_all(reader, np.array([0, 1, 2, 4]), 3, Silence())
    assert isinstance(codes, InMemory)
    assert codes.failed == (3,)
    assert codes.fingerprint.shape == (2, 4, 4)
    expected = method.code(torch.from_numpy(features.records[[4, 0]]).float()).numpy()
    np.testing.assert_allclose(codes.read([4, 0]), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(reader.read([4, 0]), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(codes[4], reader[4], rtol=0, atol=1e-6)
    assert np.isnan(codes.records[3]).all()


def test_without_memory_features_are_projected_as_they_are_read(
    features: InMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projected, "fits_in_memory", lambda _: False)
    reader = ProjectedReader(features, projection(), torch.device("cpu"))
    assert project_all(reader, np.array([0, 1]), 3, Silence()) is reader
    assert len(reader) == IMAGES


def test_what_is_read_together_is_a_batch(features: InMemory) -> None:
    reader = ProjectedReader(features, projection(standardise="batch"), torch.device("cpu"))
    together = reader.read([0, 1])
    assert np.abs(together[:1] - reader.read([0])).max() > 1e-3
    np.testing.assert_allclose(together.mean((0, 2, 3)), 0, atol=1e-6)
