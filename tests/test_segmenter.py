"""The model as people use it from Python."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import stego_cli
from stego_cli import segmenter as segmenter_module
from stego_cli.backbones import windows as windows_module
from stego_cli.backbones.windows import window_starts
from stego_cli.config.crf import CrfParameters
from stego_cli.config.model import LabelSpace, ModelConfig, StegoConfig, VitArchitecture, VitConfig
from stego_cli.data import views
from stego_cli.errors import ImageError, StegoError
from stego_cli.probes.kmeans import spherical_kmeans
from stego_cli.probes.linear import fit_linear_probe
from stego_cli.segmenter import Segmenter, Settings, shares

SAMPLES = Path(stego_cli.__file__).parent / "assets" / "samples"
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


def test_many_images_on_the_cpu_pass_the_backbone_two_at_a_time_and_nothing_changes(
    model: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.rand(5, 3, 32, 48)
    together = model.code(images, mirror=True)
    passes: list[int] = []
    original = type(model.backbone).forward
    monkeypatch.setattr(
        type(model.backbone), "forward", lambda self, images: (passes.append(len(images)), original(self, images))[1]
    )
    monkeypatch.setattr(segmenter_module, "PASS_PIXELS", 2 * 32 * 48)
    torch.testing.assert_close(model.code(images, mirror=True), together)
    assert passes == [2, 2, 2, 2, 2]


def test_scores_are_those_of_the_code_upsampled_first(model: Segmenter) -> None:
    """The reference's order of work, written out."""
    settings = Settings(probes=("cluster", "linear"), protocol="paper", resolution=32)
    working = np.random.default_rng(2).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    images = views.normalise(working, model.backbone.mean, model.backbone.std)
    code = (model.code(images) + model.code(images.flip(-1)).flip(-1)) / 2
    large = torch.nn.functional.interpolate(code, (32, 32), mode="bilinear", align_corners=False)
    (scored,) = model.scores([working], settings)
    for probe in settings.probes:
        expected = model.log_probs(large, probe, None, segmenter_module.PAPER_ALPHA)[0]
        torch.testing.assert_close(torch.from_numpy(scored.maps[probe]), expected, atol=1e-5, rtol=1e-5)


def test_a_crf_on_the_models_device_says_what_that_of_the_host_says(model: Segmenter) -> None:
    settings = Settings(probes=("cluster", "linear"), crf=CrfParameters())
    on_device = replace(settings, crf=CrfParameters(implementation="torch"))
    working = list(np.random.default_rng(4).integers(0, 256, (3, 32, 48, 3)).astype(np.uint8))
    found = model.scores(working, on_device)
    assert not any(scored.are_logs for scored in found)
    view = model.view(64, 96, Settings(resolution=32))
    for one, other in zip(*(model.segment(working, [view] * 3, how) for how in (settings, on_device)), strict=True):
        for probe in settings.probes:
            np.testing.assert_allclose(one[probe].probabilities(), other[probe].probabilities(), atol=1e-3)


def test_few_images_leave_the_device_at_once_when_their_scores_are_large(
    model: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(resolution=32)
    working = list(np.random.default_rng(2).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8))
    together = model.scores(working, settings)
    monkeypatch.setattr(segmenter_module, "_SCORE_BYTES", 2 * 3 * 4 * 32 * 32)
    for one, other in zip(together, model.scores(working, settings), strict=True):
        np.testing.assert_allclose(one.maps["cluster"], other.maps["cluster"], atol=1e-6)


def test_only_images_larger_than_a_window_are_seen_in_windows(model: Segmenter) -> None:
    rng, settings = np.random.default_rng(3), Settings(tile=48)
    small, large = (rng.integers(0, 256, (32, side, 3)).astype(np.uint8) for side in (48, 96))
    (whole,), (in_windows,) = model.scores([small], settings), model.scores([large], settings)
    assert (whole.tile, in_windows.tile) == (None, 48)
    assert in_windows.maps["cluster"].shape == (3, 32, 96)


def test_windows_show_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows see less than whole images, so labels differ; but no more along their edges than elsewhere."""
    model, settings = stego_cli.load("embedded", device="cpu"), Settings(resolution=320)
    pictures = [Image.open(path).convert("RGB").resize((320, 480)) for path in sorted(SAMPLES.glob("*.jpg"))]
    images, tile = [np.asarray(picture) for picture in pictures], 224

    def labels(how: Settings) -> np.ndarray:
        return np.stack([model.scores([image], how)[0].maps["cluster"].argmax(0) for image in images])

    whole, blended = labels(settings), labels(replace(settings, tile=tile))
    monkeypatch.setattr(windows_module, "_ramp", lambda patches, *_: torch.ones(patches))
    stacked = labels(replace(settings, tile=tile))  # every window counts the same up to its edge
    edges = [edge for start in window_starts(480, tile, 8) for edge in (start, start + tile) if 0 < edge < 480]
    assert len(edges) == 4
    rows = [edge + near for edge in edges for near in range(-4, 4)]
    differ = (whole != blended).mean((0, 2))
    assert differ[rows].mean() < 1.2 * np.delete(differ, rows).mean()
    steps = [(maps[:, 1:] != maps[:, :-1]).mean((0, 2))[rows].mean() for maps in (whole, blended, stacked)]
    assert steps[1] - steps[0] < 0.4 * (steps[2] - steps[0])


def tiny_transformer() -> Segmenter:
    """A small vision transformer of random weights whose probes were fitted to its own codes."""
    torch.manual_seed(0)
    sizes = VitArchitecture(patch_size=8, width=96, depth=3, heads=3, image_size=64)
    space = LabelSpace(name="five", names=tuple("abcde"), colours=((0, 0, 0),) * 5)
    backbone, method = VitConfig(architecture=sizes), StegoConfig(code_dim=12)
    model = Segmenter(ModelConfig(backbone=backbone, method=method, num_clusters=5, label_space=space)).eval()
    for name, values in model.named_parameters():
        if values.ndim > 1:
            torch.nn.init.normal_(values.data, std=0.05)
        else:
            values.data.fill_(float(name.endswith("weight")))
    with torch.no_grad():
        codes = model.code(smooth_images(4), mirror=True).movedim(1, -1).flatten(0, 2)
        clusters = spherical_kmeans(torch.nn.functional.normalize(codes, dim=1), 5, seed=0, restarts=3)
        model.cluster_probe.centroids.copy_(clusters.centroids)
    labels = (torch.nn.functional.normalize(codes, dim=1) @ clusters.centroids.T).argmax(1)
    model.linear_probe = fit_linear_probe(codes, labels, 5)
    return model


def smooth_images(count: int) -> torch.Tensor:
    small = torch.randn(count, 3, 5, 5, generator=torch.Generator().manual_seed(count))
    return torch.nn.functional.interpolate(small, (128, 128), mode="bicubic", align_corners=False)


def test_bfloat16_changes_next_to_no_label() -> None:
    model, images = tiny_transformer(), smooth_images(3)
    with torch.no_grad():
        exact, rounded = (model.code(images, mirror=True, autocast=kind) for kind in (None, torch.bfloat16))
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    for probe in ("cluster", "linear"):
        one, other = (model.log_probs(code, probe, (128, 128)).argmax(1) for code in (exact, rounded))
        assert len(one.unique()) > 1
        assert (one == other).float().mean() >= 0.995


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
