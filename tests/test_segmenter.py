"""The model as people use it from Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import stego_cli
from stego_cli.config.model import LabelSpace
from stego_cli.errors import ImageError, StegoError
from stego_cli.segmenter import Segmenter, Settings, shares

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 56, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Segmenter:
    return stego_cli.load(tiny_model, device="cpu")


def test_the_same_image_in_any_form_gives_the_same_map(model: Segmenter, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    tensor = torch.from_numpy(PIXELS).permute(2, 0, 1)
    forms = [PIXELS, Image.fromarray(PIXELS), tensor, tensor.float() / 255, path, str(path)]
    maps = [model.predict(form).label_map for form in forms]
    assert all((label_map == maps[0]).all() for label_map in maps)
    assert maps[0].shape == (40, 56)


def test_a_prediction_knows_its_classes(model: Segmenter, tmp_path: Path) -> None:
    result = model.predict(PIXELS)
    assert set(result.shares) <= {"stone", "leaf", "cloud"}
    assert sum(result.shares.values()) == pytest.approx(1)
    assert result.overlay().size == (56, 40)
    result.save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as mask:
        assert (np.asarray(mask) == result.label_map).all()


def test_what_is_no_image_is_refused_in_words(model: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        model.predict(np.full((4, 4, 3), np.nan))
    with pytest.raises(ImageError):
        model.predict(tmp_path / "missing.png")
    with pytest.raises(ImageError):
        model.predict({"image": 3})


def test_mirror_averaging_makes_the_code_equivariant(model: Segmenter) -> None:
    images = torch.rand(2, 3, 32, 48)
    code = model.code(images, mirror=True)
    torch.testing.assert_close(model.code(images.flip(-1), mirror=True), code.flip(-1))


def test_mirror_averaging_is_the_mean_of_both(model: Segmenter) -> None:
    images = torch.rand(1, 3, 32, 48)
    both = (model.code(images) + model.code(images.flip(-1)).flip(-1)) / 2
    torch.testing.assert_close(model.code(images, mirror=True), both)


def test_log_probs_are_those_of_a_distribution(model: Segmenter) -> None:
    code = model.code(torch.rand(1, 3, 32, 48))
    for probe in ("cluster", "linear"):
        log_probs = model.log_probs(code, probe, (32, 48))
        assert log_probs.shape == (1, 3, 32, 48)
        torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(1, 32, 48))


def test_an_image_does_not_depend_on_its_batch(model: Segmenter) -> None:
    settings = Settings()
    view = model.view(40, 56, settings)
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (*view.size, 3)).astype(np.uint8) for _ in range(3)]
    together = model.segment(images, [view] * 3, settings)
    for image, answer in zip(images, together, strict=True):
        alone = model.segment([image], [view], settings)[0]
        assert (alone["cluster"].label_map == answer["cluster"].label_map).all()


def with_clusters(model: Segmenter, assignment: tuple[int, ...] | None) -> Segmenter:
    config = model.config.model_copy(update={"cluster_to_class": assignment})
    other = Segmenter(config)
    other.load_state_dict(model.state_dict())
    return other.eval()


def test_unmatched_clusters_are_named_after_themselves(model: Segmenter) -> None:
    plain, named = with_clusters(model, None), with_clusters(model, (2, 0, 1))
    clusters, classes = plain.predict(PIXELS), named.predict(PIXELS)
    assert clusters.label_space.names == ("cluster 0", "cluster 1", "cluster 2")
    assert (np.array([2, 0, 1])[clusters.label_map] == classes.label_map).all()


def test_a_cluster_without_a_class_keeps_a_name_of_its_own(model: Segmenter) -> None:
    plain, partly = with_clusters(model, None), with_clusters(model, (-1, 1, 0))
    space = partly.label_space("cluster")
    assert space.names == ("stone", "leaf", "cloud", "cluster 0 (no class)")
    assert (np.array([3, 1, 0])[plain.predict(PIXELS).label_map] == partly.predict(PIXELS).label_map).all()


def test_shares_leave_out_what_does_not_occur() -> None:
    space = LabelSpace(name="x", names=("a", "b", "c"), colours=((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    assert shares(np.array([1, 0, 3]), space) == {"c": 0.75, "a": 0.25}
    assert shares(np.array([0, 0, 0]), space) == {}


def test_predict_of_the_api_is_that_of_the_command_line(tiny_model: Path, tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    result = stego_cli.predict([tmp_path / "a.png"], model=str(tiny_model), out=tmp_path / "out", save="labels")
    assert result.done == 1
    assert (tmp_path / "out" / "labels" / "a.png").is_file()


def test_a_model_that_does_not_exist_is_answered_with_near_names() -> None:
    with pytest.raises(StegoError, match="did you mean `embedded`"):
        stego_cli.load("embeded")


def test_only_public_names_are_listed() -> None:
    assert set(dir(stego_cli)) == {"Prediction", "Segmenter", "__version__", "load", "predict"}
    with pytest.raises(AttributeError, match="nothing"):
        _ = stego_cli.nothing
