"""Fixtures for the whole suite: golden numbers, real images, quiet threads."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run: a failure is one that everybody can see again.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")

# One thread each: the suite runs in parallel, and threads that fight over the cores make it twenty times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A shell ignores Ctrl-C for what it starts in the background, and so would all programs that the tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parent.parent
REQUIRED = os.environ.get("STEGO_REQUIRE_SHARED") == "1"


def _shared(variable: str, default: str) -> Path | None:
    """Return the folder that `variable` names, or the one beside the checkout, when it exists."""
    folder = Path(os.environ.get(variable) or REPOSITORY.parent / "shared" / default)
    return folder.resolve() if folder.is_dir() else None


@pytest.fixture(scope="session")
def golden() -> Path:
    """Root of the golden numbers: the full set where there is one, else the part that the project carries."""
    full = _shared("STEGO_GOLDEN", "golden")
    if full is None and REQUIRED:
        pytest.fail("STEGO_REQUIRE_SHARED=1, but there is no golden set; set STEGO_GOLDEN to its folder")
    return full or REPOSITORY / "tests" / "golden"


@pytest.fixture(scope="session")
def whole_set(golden: Path) -> bool:
    """Whether the golden numbers are the full set: only then must every kind of case be there."""
    return not golden.is_relative_to(REPOSITORY)


@pytest.fixture(scope="session")
def testdata() -> Path:
    """Root of the real images with labels; tests that need them are skipped where there are none."""
    folder = _shared("STEGO_TESTDATA", "data")
    if folder is None:
        if REQUIRED:
            pytest.fail("STEGO_REQUIRE_SHARED=1, but there are no test images; set STEGO_TESTDATA to their folder")
        pytest.skip("no real images; set STEGO_TESTDATA to their folder")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three clusters and classes that takes milliseconds: filter bank, fixed random probes."""
    import torch

    from stego_cli.backbones.filterbank import Filterbank
    from stego_cli.checkpoints.native import Checkpoint, save_checkpoint
    from stego_cli.config.model import DinoConfig, FilterbankConfig, LabelSpace, ModelConfig

    backbone = Filterbank()
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    pixels[:, :, :32] += 2  # a light half above a dark one, which the clusters are to tell apart
    raw = backbone.raw_features(pixels - 1)
    backbone.fit_projection(raw.flatten(2)[0].T)
    light, dark = (backbone(pixels - 1)[0, :, rows].mean((1, 2)) for rows in (slice(0, 4), slice(4, 8)))
    centroids = torch.stack([light, dark, light.roll(1)])
    names, colours = ("stone", "leaf", "cloud"), ((200, 30, 30), (30, 160, 30), (90, 90, 220))
    config = ModelConfig(
        backbone=FilterbankConfig(),
        method=DinoConfig(),
        num_clusters=3,
        label_space=LabelSpace(name="three", names=names, colours=colours),
        cluster_to_class=(2, 0, 1),
        resolution=32,
    )
    tensors = {f"backbone.{key}": value for key, value in backbone.state_dict().items()} | {
        "cluster_probe.centroids": centroids,
        "linear_probe.weight": centroids.flip(0).contiguous(),
        "linear_probe.bias": torch.zeros(3),
    }
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(Checkpoint(config, tensors), path)
    return path
