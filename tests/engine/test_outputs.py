"""The files of one image: their places, their content, and whether what is there can be kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stego_cli.config.model import LabelSpace, Probe
from stego_cli.data.labels import anonymous_label_space
from stego_cli.engine.outputs import Outputs, are_sound, output_paths, write_outputs
from stego_cli.errors import OutputError
from stego_cli.segmenter import Labelled

HEIGHT, WIDTH = 24, 32
KINDS = ("labels", "overlay", "probs", "html")


def answer(classes: int, *, are_logs: bool = True, outside: int | None = None) -> Labelled:
    """Return what a probe of so many classes might say: every class occurs, first row outside if asked."""
    rng = np.random.default_rng(classes)
    label_map = (np.arange(HEIGHT * WIDTH) % classes).reshape(HEIGHT, WIDTH)
    if outside is not None:
        label_map[0] = outside
    scores = rng.standard_normal((classes, 6, 8)).astype(np.float32)
    probabilities = np.exp(scores) / np.exp(scores).sum(0)
    counts = np.bincount(label_map[label_map >= 0], minlength=classes)[:classes]
    kind = np.uint8 if classes <= 255 else np.int32
    return Labelled(label_map.astype(kind), counts, np.log(probabilities) if are_logs else probabilities, are_logs)


Write = Callable[..., Outputs]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def call(answers: dict[Probe, Labelled], save: tuple[str, ...] = KINDS) -> Outputs:
        spaces: dict[Probe, LabelSpace] = {
            probe: anonymous_label_space(len(each.scores)) for probe, each in answers.items()
        }
        outputs = output_paths("deep/a", tuple(answers), save)  # type: ignore[arg-type]
        pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        write_outputs(tmp_path, outputs, pixels, answers, spaces)
        return outputs

    return call


def written(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def places(outputs: Outputs) -> set[str]:
    return {place for files in outputs.values() for place in files.values()}


def test_the_first_probe_has_the_plain_folders_whichever_it_is() -> None:
    assert output_paths("a", ["linear"], KINDS) == {
        "linear": {"labels": "labels/a.png", "overlay": "overlays/a.jpg", "probs": "probs/a.npz"}
    }
    both = output_paths("a", ["cluster", "linear"], KINDS)
    assert both["linear"] == {
        "labels": "labels_linear/a.png", "overlay": "overlays_linear/a.jpg", "probs": "probs_linear/a.npz",
    }  # fmt: skip
    assert len(places(both)) == 6


def test_a_name_with_dots_keeps_them() -> None:
    assert output_paths("v1.2/scan.tif", ["cluster"], ["labels"])["cluster"]["labels"] == "labels/v1.2/scan.tif.png"


def test_exactly_the_named_files_are_written_and_are_sound(write: Write, tmp_path: Path) -> None:
    outputs = write({"cluster": answer(5), "linear": answer(4)})
    assert written(tmp_path) == places(outputs)
    assert len(places(outputs)) == 6
    assert are_sound(tmp_path, outputs, HEIGHT, WIDTH)


@pytest.mark.parametrize("are_logs", [True, False], ids=["logarithms", "after a CRF"])
@pytest.mark.parametrize("classes", [2, 27])
def test_saved_probabilities_sum_to_one_at_working_size(
    write: Write, tmp_path: Path, classes: int, *, are_logs: bool
) -> None:
    said = answer(classes, are_logs=are_logs)
    outputs = write({"cluster": said}, ("probs",))
    with np.load(tmp_path / outputs["cluster"]["probs"]) as file:
        probs, size = file["probs"], tuple(file["image_size"])
    assert (probs.dtype, probs.shape, size) == (np.float16, (classes, 6, 8), (HEIGHT, WIDTH))
    np.testing.assert_allclose(probs.astype(np.float32).sum(0), 1, atol=2e-3)
    np.testing.assert_array_equal(probs.argmax(0), said.scores.astype(np.float16).argmax(0))


@pytest.mark.parametrize(("classes", "outside", "stored"), [(255, 255, 255), (256, -1, 65535), (300, -1, 65535)])
def test_many_classes_keep_their_ids(write: Write, tmp_path: Path, classes: int, outside: int, stored: int) -> None:
    said = answer(classes, outside=outside)
    outputs = write({"cluster": said})
    values = np.asarray(Image.open(tmp_path / outputs["cluster"]["labels"])).astype(np.int64)
    assert (values[0] == stored).all()
    np.testing.assert_array_equal(values[1:], said.label_map[1:])
    assert are_sound(tmp_path, outputs, HEIGHT, WIDTH)


def test_a_mask_of_another_size_is_not_sound(write: Write, tmp_path: Path) -> None:
    outputs = write({"cluster": answer(3)})
    assert not are_sound(tmp_path, outputs, WIDTH, HEIGHT)


@pytest.mark.parametrize("probe", ["cluster", "linear"])
@pytest.mark.parametrize("kind", ["labels", "overlay", "probs"])
@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "folder"])
def test_one_damaged_file_is_enough(write: Write, tmp_path: Path, probe: Probe, kind: str, damage: str) -> None:
    outputs = write({"cluster": answer(3), "linear": answer(3)})
    path = tmp_path / outputs[probe][kind]
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes(content[:-30] if damage == "cut" else b"")
    assert not are_sound(tmp_path, outputs, HEIGHT, WIDTH)


def test_what_was_not_asked_for_need_not_be_there(write: Write, tmp_path: Path) -> None:
    write({"cluster": answer(3)}, ("labels", "html"))
    assert are_sound(tmp_path, output_paths("deep/a", ["cluster"], ["labels", "html"]), HEIGHT, WIDTH)
    assert not are_sound(tmp_path, output_paths("deep/a", ["cluster"], ["labels", "overlay"]), HEIGHT, WIDTH)
    assert not are_sound(tmp_path, output_paths("deep/a", ["cluster", "linear"], ["labels"]), HEIGHT, WIDTH)


def test_a_place_that_cannot_be_written_is_named(write: Write, tmp_path: Path) -> None:
    (tmp_path / "probs").write_text("in the way")
    with pytest.raises(OutputError, match="probs"):
        write({"cluster": answer(3)}, ("probs",))
    assert written(tmp_path) == {"probs"}
