"""`stego eval` as it is typed: scores, the JSON contract, the report, and everything that can be wrong."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from stego_cli.checkpoints.native import Checkpoint, load_checkpoint, save_checkpoint
from stego_cli.cli import app
from stego_cli.config.model import LabelSpace, ModelConfig

SIDE = 64
QUICK = ("--res", "64", "--workers", "0", "--device", "cpu")


def add_image(root: Path, split: str, name: str, *, labels: np.ndarray | None, seed: int = 0) -> Path:
    """An image whose upper half is light and whose lower half is dark."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 60, (SIDE, SIDE, 3))
    pixels[: SIDE // 2] += 180
    image, label = (root / kind / split / f"{name}.png" for kind in ("imgs", "labels"))
    for path in (image, label):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(image)
    if labels is not None:
        Image.fromarray(labels.astype(np.uint8)).save(label)
    return image


def halves(upper: int = 0, lower: int = 1) -> np.ndarray:
    return np.repeat([[upper]] * (SIDE // 2) + [[lower]] * (SIDE // 2), SIDE, axis=1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four images; light is class 0, dark is class 1, one corner is no class."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "lawn"
    for index in range(4):
        labels = halves()
        labels[:8, :8] = 255
        add_image(root, "val", f"img{index}", labels=labels, seed=index)
    return root


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["eval", *map(str, arguments), *QUICK])


def results(*arguments: Any, code: int = 0) -> list[dict[str, Any]]:
    answer = run(*arguments, "--json")
    assert answer.exit_code == code, answer.output
    return json.loads(answer.stdout)["results"]


def test_the_json_keeps_its_contract(folder: Path, tiny_model: Path) -> None:
    (result,) = results(tiny_model, "--dataset", folder, "--classes", 3)
    assert result["checkpoint"] == str(tiny_model)
    assert (result["dataset"], result["split"], result["protocol"], result["images"]) == ("lawn", "val", "paper", 4)
    for head in ("cluster", "linear"):
        scores = result[head]
        assert 0 <= scores["miou"] <= 1
        assert 0 <= scores["accuracy"] <= 1
        assert list(scores["per_class"]) == ["stone", "leaf", "cloud"]
        assert set(scores["per_class"]["stone"]) == {"iou", "precision", "recall"}
    assert (result["cluster_crf"], result["linear_crf"]) == (None, None)
    assert result["seconds"] > 0
    assert result["skipped"] == []
    assert result["config"]["protocol"] == "paper"
    assert {"stego", "torch"} <= set(result["versions"])
    assert result["cluster"]["accuracy"] > 0.9  # light and dark are easily told apart, whatever they are called
    assert result["linear"]["accuracy"] < 0.6  # its classes are others: dark is `leaf`, light is `cloud`


def test_without_names_and_numbers_the_labels_themselves_say_how_many_classes_there_are(
    folder: Path, tiny_model: Path
) -> None:
    (result,) = results(tiny_model, "--dataset", folder)
    assert list(result["cluster"]["per_class"]) == ["class 0", "class 1"]
    assert result["linear"] is None
    assert any("3 classes" in note and "2 others" in note for note in result["notes"])
    assert any("3 clusters for 2 classes" in note and "count as errors" in note for note in result["notes"])


def test_clusters_are_matched_to_more_classes_than_there_are_clusters(folder: Path, tiny_model: Path) -> None:
    labels = halves(0, 1)
    for class_id in range(2, 6):
        labels[8 * class_id : 8 * class_id + 8, -8:] = class_id
    add_image(folder, "val", "rich", labels=labels)
    (result,) = results(tiny_model, "--dataset", folder)
    assert (result["clusters"], result["classes"]) == (3, 6)
    ious = [scores["iou"] for scores in result["cluster"]["per_class"].values()]
    assert ious.count(0) >= 3
    assert result["cluster"]["miou"] == pytest.approx(sum(ious) / 6)


def test_the_linear_probe_alone_is_refused_for_other_classes(folder: Path, tiny_model: Path) -> None:
    answer = run(tiny_model, "--dataset", folder, "--probe", "linear")
    assert answer.exit_code == 2
    assert all(words in answer.stderr for words in ("3 classes", "2 others", "hint: use --probe cluster"))


def test_one_pass_gives_scores_with_and_without_the_crf(folder: Path, tiny_model: Path) -> None:
    arguments = (tiny_model, "--dataset", folder, "--classes", 3, "--protocol", "native")
    (both,) = results(*arguments, "--crf")
    (plain,) = results(*arguments)
    assert both["cluster"] == plain["cluster"]
    assert both["linear"] == plain["linear"]
    assert both["cluster_crf"]["accuracy"] >= both["cluster"]["accuracy"] - 0.02
    assert both["linear_crf"] is not None


def test_extra_clusters_are_dropped_or_errors_by_name(folder: Path, tiny_model: Path) -> None:
    for path in (folder / "labels/val").iterdir():
        Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(path)  # light and dark are one class, with one cluster
    arguments = (tiny_model, "--dataset", folder, "--classes", 1, "--probe", "cluster")
    dropped, errors = (results(*arguments, "--extra", word)[0] for word in ("reference", "errors"))
    assert dropped["extra"] == "reference"
    assert dropped["cluster"]["accuracy"] == 1.0  # whatever cluster 0 does not have has gone
    assert errors["cluster"]["accuracy"] < 0.6
    assert results(*arguments)[0]["extra"] == "errors"  # the model is for other classes


def test_the_published_protocol_drops_extra_clusters(folder: Path, tiny_model: Path) -> None:
    checkpoint = load_checkpoint(tiny_model)
    space = LabelSpace(name="two", names=("up", "down"), colours=((1, 1, 1), (2, 2, 2)))
    changes = {"label_space": space, "cluster_to_class": None, "has_linear_probe": False}
    tensors = {key: value for key, value in checkpoint.tensors.items() if not key.startswith("linear")}
    config = ModelConfig.model_validate(
        {**checkpoint.config.model_dump(), **changes, "label_space": space.model_dump()}
    )
    save_checkpoint(Checkpoint(config, tensors), Path("extra.safetensors"))
    (result,) = results("extra.safetensors", "--dataset", folder)
    assert result["extra"] == "reference"
    assert any("3 clusters for 2 classes" in note and "dropped" in note for note in result["notes"])
    assert results("extra.safetensors", "--dataset", folder, "--protocol", "native")[0]["extra"] == "errors"


def test_overclustering_has_a_name_of_its_own(folder: Path, tiny_model: Path) -> None:
    (result,) = results(tiny_model, "--dataset", folder, "--overcluster")
    assert result["cluster_many_to_one"]["accuracy"] >= result["cluster"]["accuracy"] - 1e-9
    shown = run(tiny_model, "--dataset", folder, "--overcluster").stdout
    assert "cluster, many-to-one" in shown
    assert "not comparable" in shown


def test_several_models_and_splits_make_one_table(folder: Path, tiny_model: Path) -> None:
    add_image(folder, "test", "one", labels=halves())
    answer = run("embedded", tiny_model, "--dataset", folder, "--split", "val", "--split", "test")
    assert answer.exit_code == 0, answer.output
    for model in ("embedded", str(tiny_model)):
        assert f"{model} on lawn, val, 4 images, paper" in answer.stdout
        assert f"{model} on lawn, test, 1 image, paper" in answer.stdout


def test_a_single_model_is_shown_class_by_class(folder: Path, tiny_model: Path) -> None:
    lines = run(tiny_model, "--dataset", folder, "--classes", 3).stdout.splitlines()
    assert any(line.split() == ["IoU", "%", "cluster", "linear"] for line in lines)
    assert any(line.startswith("stone ") for line in lines)


def test_classes_that_occur_nowhere_are_counted_not_listed(folder: Path, tiny_model: Path) -> None:
    add_image(folder, "val", "stray", labels=halves(0, 90))
    lines = run(tiny_model, "--dataset", folder).stdout.splitlines()
    rows = [line.split()[1] for line in lines if line.startswith("class ")]
    assert "90" in rows
    assert len(rows) < 5
    assert any(line.endswith("classes that neither labels nor predictions have") for line in lines)


def test_the_next_command_can_be_typed_as_it_stands(folder: Path, tiny_model: Path) -> None:
    named = "my model.safetensors"
    answer = run(tiny_model, "--dataset", folder, "--save-names", "--out", named)
    (line,) = [line for line in answer.stdout.splitlines() if line.startswith("next: ")]
    assert shlex.split(line)[-2:] == ["--model", named]


def test_a_folder_in_place_of_a_model_says_what_to_type(folder: Path, tiny_model: Path) -> None:
    answer = run(folder)
    assert answer.exit_code == 2
    assert f"named by --dataset {folder}" in answer.stderr
    shutil.copy(tiny_model, folder / "made.safetensors")
    assert f"give the file in it: {folder / 'made.safetensors'}" in run(folder).stderr


def test_what_cannot_be_read_is_skipped_and_named(folder: Path, tiny_model: Path) -> None:
    (folder / "imgs/val/img0.png").write_bytes(b"no image")
    (folder / "labels/val/img1.png").write_bytes(b"no label map")
    (result,) = results(tiny_model, "--dataset", folder, code=1)
    assert result["images"] == 2
    assert [line.split()[0] for line in sorted(result["skipped"])] == ["img0.png", "img1.png"]


def test_nothing_that_can_be_read_is_an_error(folder: Path, tiny_model: Path) -> None:
    for path in (folder / "imgs/val").iterdir():
        path.write_bytes(b"no image")
    answer = run(tiny_model, "--dataset", folder, "--classes", 2)
    assert answer.exit_code == 2
    assert "none of the images of lawn, val could be measured" in answer.stderr


def test_a_dataset_without_labels_says_what_to_do(tmp_path: Path, tiny_model: Path) -> None:
    add_image(tmp_path / "bare", "val", "a", labels=None)
    answer = run(tiny_model, "--dataset", tmp_path / "bare")
    assert answer.exit_code == 2
    assert all(words in answer.stderr for words in ("no label maps", "`labels/val/`", "255"))


def test_plain_images_are_not_sent_to_a_split_without_labels(tmp_path: Path, tiny_model: Path) -> None:
    bare = add_image(tmp_path / "bare", "x", "a", labels=None).parent
    answer = run(tiny_model, "--dataset", bare)
    assert answer.exit_code == 2
    assert "has no label maps for the 1 images of train" in answer.stderr


def test_a_missing_split_says_which_there_are(folder: Path, tiny_model: Path) -> None:
    answer = run(tiny_model, "--dataset", folder, "--split", "train")
    assert answer.exit_code == 2
    assert "there are: `val`" in answer.stderr
    assert "--split val" in answer.stderr


def test_labels_without_any_class_say_so(folder: Path, tiny_model: Path) -> None:
    for path in (folder / "labels/val").iterdir():
        Image.fromarray(np.full((SIDE, SIDE), 255, np.uint8)).save(path)
    for options, words in (((), "hold no class"), (("--classes", 3), "no pixel of the labels")):
        answer = run(tiny_model, "--dataset", folder, *options)
        assert answer.exit_code == 2
        assert words in answer.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--precision", "bf16"), "the paper protocol computes in fp32"),
        (("--out", "x.safetensors"), "add it, or use --report"),
        (("--res", "33"), "33"),
        (("--extra", "none"), "reference"),
        (("--save-names",), "add --overwrite if they may"),
        (("--save-names", "--out", "lawn"), "no name of a model file"),
        (("--save-names", "--split", "val", "--split", "train"), "one --split"),
        (("--overcluster", "--probe", "linear"), "overclustering is about clusters"),
        (("--names", "majority", "--save-names", "--out", "x.safetensors"), "add both"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    folder: Path, tiny_model: Path, options: tuple[str, ...], words: str
) -> None:
    answer = CliRunner().invoke(app, ["eval", str(tiny_model), "--dataset", str(folder), "--workers", "0", *options])
    assert answer.exit_code == 2
    assert words in answer.stderr


def test_a_missing_or_damaged_model_is_refused_before_anything_is_measured(folder: Path, tiny_model: Path) -> None:
    damaged = folder / "damaged.safetensors"
    damaged.write_bytes(tiny_model.read_bytes()[:1000])
    for model in (damaged, "nowhere.safetensors"):
        answer = run(tiny_model, model, "--dataset", folder, "--report", "out")
        assert answer.exit_code == 2
        assert not Path("out").exists()


def test_a_dry_run_writes_nothing(folder: Path, tiny_model: Path) -> None:
    answer = run(tiny_model, "--dataset", folder, "--report", "out", "--dry-run")
    assert answer.exit_code == 0
    assert "would measure" in answer.stdout
    assert "on 4 images of lawn, val" in answer.stdout
    assert not Path("out").exists()


def test_bare_eval_takes_model_and_dataset_from_the_project_file(folder: Path, tiny_model: Path) -> None:
    Path("stego.yaml").write_text(f"model: {tiny_model}\ndataset: {folder}\neval: {{overcluster: true}}\n")
    (result,) = results()
    assert result["checkpoint"] == str(tiny_model)
    assert "cluster_many_to_one" in result


# Names, written into a model.


def test_majority_names_every_cluster_that_has_pixels(folder: Path, tiny_model: Path) -> None:
    answer = run(
        tiny_model,
        "--dataset",
        folder,
        "--save-names",
        "--overcluster",
        "--names",
        "majority",
        "--out",
        "m.safetensors",
    )
    assert answer.exit_code == 0, answer.output
    (result,) = results(tiny_model, "--dataset", folder, "--overcluster")
    named = load_checkpoint(Path("m.safetensors")).config.cluster_to_class
    assert list(named or ()) == result["cluster_to_class"]["cluster_many_to_one"]


def test_names_go_into_a_copy_and_predict_shows_them(folder: Path, tiny_model: Path) -> None:
    answer = run(tiny_model, "--dataset", folder, "--save-names", "--out", "named.safetensors")
    assert answer.exit_code == 0, answer.output
    named = load_checkpoint(Path("named.safetensors")).config
    assert named.label_space.names == ("class 0", "class 1")
    assert named.cluster_to_class is not None
    assert named.cluster_to_class[:2] == (0, 1)  # light, dark
    assert not named.has_linear_probe  # it speaks of three other classes
    assert named.about.scores["lawn/val paper cluster miou"] > 0.9
    assert "without its linear probe, which knows 3 other classes" in answer.stderr
    done = CliRunner().invoke(
        app, ["predict", str(folder / "imgs/val"), "--model", "named.safetensors", "--json", "--save", "labels"]
    )
    assert done.exit_code == 0, done.output
    shares = json.loads(done.stdout)["summary"]["shares"]["cluster"]
    assert {"class 0", "class 1"} <= set(shares)


def test_names_go_into_our_own_file_only_when_asked_twice(folder: Path, tiny_model: Path) -> None:
    own = Path("own.safetensors")
    own.write_bytes(tiny_model.read_bytes())
    arguments = (own, "--dataset", folder, "--save-names")
    assert run(*arguments).exit_code == 2
    lost = run(*arguments, "--overwrite")
    assert lost.exit_code == 2
    assert "would lose its linear probe, which knows 3 other classes" in lost.stderr
    assert own.read_bytes() == tiny_model.read_bytes()
    assert run(*arguments, "--overwrite", "--classes", 3).exit_code == 0
    named = load_checkpoint(own).config
    assert named.label_space.names == ("stone", "leaf", "cloud")
    assert named.cluster_to_class == (0, 1, 2)
    assert named.has_linear_probe


def test_the_embedded_model_is_never_changed(folder: Path) -> None:
    answer = run("embedded", "--dataset", folder, "--save-names", "--overwrite")
    assert answer.exit_code == 2
    assert "the embedded model is never changed" in answer.stderr


def test_a_file_that_is_there_is_not_replaced_by_names(folder: Path, tiny_model: Path) -> None:
    Path("mine.safetensors").write_text("precious")
    answer = run(tiny_model, "--dataset", folder, "--save-names", "--out", "mine.safetensors")
    assert answer.exit_code == 2
    assert Path("mine.safetensors").read_text() == "precious"


def test_where_names_cannot_go_is_said_before_anything_is_measured(folder: Path, tiny_model: Path) -> None:
    Path("file").touch()
    answer = run(tiny_model, "--dataset", folder, "--save-names", "--out", "file/x.safetensors", "--report", "out")
    assert answer.exit_code == 2
    assert "choose another place with --out" in answer.stderr
    assert not Path("out").exists()


# The report.


def test_the_report_stands_alone(folder: Path, tiny_model: Path) -> None:
    (folder / "imgs/val/<b>&.png").write_bytes((folder / "imgs/val/img0.png").read_bytes())
    (folder / "labels/val/<b>&.png").write_bytes((folder / "labels/val/img0.png").read_bytes())
    answer = run(tiny_model, "--dataset", folder, "--classes", 3, "--crf", "--report", "out")
    assert answer.exit_code == 0, answer.output
    page = Path("out/index.html").read_text("utf-8")
    assert "&lt;b&gt;&amp;.png" in page
    assert "<b>&" not in page
    for outside in ('src="http', 'href="http', "@import", "<link", "<script"):
        assert outside not in page
    assert page.count('class="confusion"') == 4
    for title in ("cluster + CRF", "linear + CRF", "labels", "image"):
        assert f"<figcaption>{title}" in page


def test_the_table_of_images_has_a_line_for_each(folder: Path, tiny_model: Path) -> None:
    assert run(tiny_model, "--dataset", folder, "--report", "out").exit_code == 0
    (table,) = Path("out").glob("*/images.csv")
    rows = list(csv.DictReader(table.open()))
    assert [row["image"] for row in rows] == [f"img{index}.png" for index in range(4)]
    assert all(0.9 < float(row["cluster_accuracy"]) <= 1 for row in rows)
    assert all(int(row["pixels"]) == 64 * 64 - 8 * 8 for row in rows)


def test_what_is_finished_is_kept_and_what_changed_is_measured_anew(folder: Path, tiny_model: Path) -> None:
    arguments = (tiny_model, "--dataset", folder, "--report", "out")
    first = results(*arguments)
    again = run(*arguments, "--json")
    assert json.loads(again.stdout)["results"] == first
    assert "kept from an earlier run" in again.stderr
    added = results(tiny_model, "embedded", "--dataset", folder, "--report", "out")
    assert added[0] == first[0]
    assert "kept from" not in run(*arguments, "--overwrite").stderr
    add_image(folder, "val", "new", labels=halves())
    assert results(*arguments)[0]["images"] == 5
    picture = next(Path("out").glob("*/000-labels.png"))
    for other in Path("out").glob("*/000-labels.png"):
        other.unlink()
    assert "kept from" not in run(*arguments).stderr
    assert any(path.exists() for path in [picture, *Path("out").glob("*/000-labels.png")])


def test_one_command_does_not_forget_what_another_has_measured(folder: Path, tiny_model: Path) -> None:
    first = results(tiny_model, "--dataset", folder, "--report", "out")
    results("embedded", "--dataset", folder, "--report", "out")
    shown = json.loads(Path("out/scores.json").read_text())["results"]
    assert [entry["checkpoint"] for entry in shown] == ["embedded"]
    results("embedded", "--dataset", folder, "--report", "out", "--overwrite")
    both = run(tiny_model, "embedded", "--dataset", folder, "--report", "out", "--json")
    assert both.stderr.count("kept from an earlier run") == 2
    assert json.loads(both.stdout)["results"][0] == first[0]


def test_a_report_that_cannot_be_written_names_its_own_option(folder: Path, tiny_model: Path) -> None:
    Path("file").touch()
    answer = run(tiny_model, "--dataset", folder, "--report", "file")
    assert answer.exit_code == 2
    assert "choose another place with --report" in answer.stderr


def test_what_a_killed_run_was_writing_is_removed(folder: Path, tiny_model: Path) -> None:
    results(tiny_model, "--dataset", folder, "--report", "out")
    (place,) = (path for path in Path("out").iterdir() if path.is_dir())
    left = [Path("out/.writing-x"), place / ".writing-y"]
    for path in left:
        path.touch()
    results(tiny_model, "--dataset", folder, "--report", "out")
    assert not any(path.exists() for path in left)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1, "results": [{"fingerprint": "x"}]}'])
def test_a_record_that_cannot_be_read_is_made_anew(folder: Path, tiny_model: Path, content: str) -> None:
    Path("out").mkdir()
    Path("out/scores.json").write_text(content)
    assert len(results(tiny_model, "--dataset", folder, "--report", "out")) == 1
    assert len(json.loads(Path("out/scores.json").read_text())["results"]) == 1


def test_names_that_are_no_text_are_shown_as_escapes(folder: Path, tiny_model: Path) -> None:
    for kind in ("imgs", "labels"):
        odd = os.fsencode(folder / kind / "val") + b"/caf\xe9.png"
        Path(os.fsdecode(odd)).write_bytes((folder / kind / "val/img0.png").read_bytes())
    assert results(tiny_model, "--dataset", folder, "--report", "out")[0]["images"] == 5
    (table,) = Path("out").glob("*/images.csv")
    assert "caf\\udce9.png" in table.read_text("utf-8")


def test_somebody_elses_page_is_not_replaced(folder: Path, tiny_model: Path) -> None:
    Path("site").mkdir()
    Path("site/index.html").write_text("mine")
    answer = run(tiny_model, "--dataset", folder, "--report", "site")
    assert answer.exit_code == 2
    assert Path("site/index.html").read_text() == "mine"
    assert run(tiny_model, "--dataset", folder, "--report", "site", "--overwrite").exit_code == 0


def test_ctrl_c_leaves_what_is_finished_and_nothing_half_written(folder: Path, tiny_model: Path) -> None:
    for index in range(30):
        add_image(folder, "val", f"more{index}", labels=halves(), seed=index)
    command = ["eval", str(tiny_model), "embedded", "--dataset", str(folder), "--report", "out", "--workers", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "stego_cli", *command, "--res", "256"], stderr=subprocess.PIPE, text=True
    )
    scores = Path("out/scores.json")
    deadline = time.monotonic() + 120
    while not scores.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    kept = json.loads(scores.read_text())["results"]
    assert [entry["checkpoint"] for entry in kept] == [str(tiny_model)]
    assert not list(Path("out").rglob(".writing-*"))
    answer = CliRunner().invoke(app, [*command, "--res", "256", "--json"])
    assert "kept from an earlier run" in answer.stderr
    assert len(json.loads(answer.stdout)["results"]) == 2


def test_two_processes_count_what_one_counts(folder: Path, tiny_model: Path) -> None:
    add_image(folder, "val", "odd", labels=halves(1, 0))  # five images for two processes
    (folder / "imgs/val/img3.png").write_bytes(b"no image")
    command = ("eval", str(tiny_model), "--dataset", str(folder), "--classes", "3", "--crf", "--json")
    alone = CliRunner().invoke(app, [*command, "--report", "alone", *QUICK])
    assert alone.exit_code == 1, alone.output
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "stego_cli", *command, "--report", "shared", *QUICK],
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(20000 + os.getpid() % 20000),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    (first, told), (second, _) = (process.communicate(timeout=120) for process in ranks)
    assert [process.returncode for process in ranks] == [1, 0], told
    assert second == ""
    one, both = (json.loads(Path(out, "scores.json").read_text())["results"][0] for out in ("alone", "shared"))
    assert one["confusion"] == both["confusion"]
    assert one["skipped"] == both["skipped"]
    assert "img3.png was skipped" in told
    assert (
        Path(f"alone/{one['folder']}/images.csv").read_text() == Path(f"shared/{both['folder']}/images.csv").read_text()
    )
    assert json.loads(first)["results"][0]["cluster_crf"] == one["cluster_crf"]
