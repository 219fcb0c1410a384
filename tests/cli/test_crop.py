"""`stego crop` as a person runs it: in a process of its own, killed, interrupted, and given bad input."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
HEAVY = ("torch", "timm", "torchvision", "scipy", "matplotlib")
MANY = 120

Run = Callable[..., subprocess.CompletedProcess[str]]


def start(here: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    environment = os.environ | {"STEGO_HOME": str(here / "home"), "PYTHONPATH": str(REPOSITORY), "TERM": "dumb"}
    return subprocess.Popen(
        [sys.executable, "-m", "stego_cli", "crop", *map(str, arguments)],
        cwd=here,
        env=environment | {"COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, as in a terminal
    )


@pytest.fixture
def stego(tmp_path: Path) -> Run:
    def run(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        with start(tmp_path, *arguments) as process:
            stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == code, stderr
        assert "Traceback" not in stdout + stderr
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    return run


def dataset(root: Path, images: int, size: tuple[int, int] = (64, 96)) -> Path:
    chance = np.random.default_rng(0)
    for number in range(images):
        for kind, shape, most in (("imgs", (*size, 3), 255), ("labels", size, 6)):
            path = root / kind / "train" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(chance.integers(0, most, shape).astype(np.uint8)).save(path, compress_level=1)
    return root


@pytest.fixture
def few(tmp_path: Path) -> Path:
    return dataset(tmp_path / "few", 4)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that take about a second to cut."""
    return dataset(tmp_path_factory.mktemp("source") / "many", MANY, (240, 320))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(many: Path) -> dict[str, bytes]:
    """What an uninterrupted run leaves."""
    with start(many.parent, many, "--five", "--out", "reference") as process:
        process.communicate(timeout=120)
    assert process.returncode == 0
    return content(many.parent / "reference")


def wait_for(out: Path, files: int, process: subprocess.Popen[str]) -> None:
    """Wait until a run has written some files."""
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        if len(list(out.glob("img/train/*.jpg"))) >= files:
            return
        time.sleep(0.005)


# --- the main job ----------------------------------------------------------------------------------------------------


def test_crops_are_made_where_other_commands_look_and_the_next_one_is_named(stego: Run, few: Path) -> None:
    result = stego(few, "--random", "--ratio", "0.7")
    assert "train: 20 crops made" in result.stdout
    assert f"next: stego knn build {few} --crop random --crop-ratio 0.7" in result.stdout
    assert "train: 0 crops made, 20 were there" in stego(few, "--random", "--ratio", "0.7").stdout


def test_json_is_one_object_with_all_numbers(stego: Run, few: Path, tmp_path: Path) -> None:
    found = json.loads(stego(few, "--out", "crops", "--json", "--quality", "90").stdout)
    assert found["splits"] == {"train": {"images": 4, "made": 20, "kept": 0, "missing": 0}}
    assert (found["crop"], found["ratio"], found["quality"], found["skipped"]) == ("five", 0.5, 90, [])
    assert (tmp_path / found["out"] / "manifest.json").is_file()


def test_a_folder_of_ones_own_is_used_by_its_path(stego: Run, few: Path) -> None:
    assert "next: stego knn build crops" in stego(few, "--out", "crops").stdout


def test_a_dry_run_prints_numbers_and_space_and_writes_nothing(stego: Run, few: Path, tmp_path: Path) -> None:
    before = content(tmp_path)
    text = stego(few, "--dry-run").stdout
    assert "train: 4 images, 20 crops to make" in text
    assert "would write about" in text
    assert "free there" in text
    assert json.loads(stego(few, "--dry-run", "--json").stdout)["bytes_needed"] > 0
    assert content(tmp_path) == before


def test_settings_come_from_the_project_file(stego: Run, few: Path, tmp_path: Path) -> None:
    (tmp_path / "stego.yaml").write_text(f"dataset: {few}\ncrop: random\ncrops:\n  quality: 30\n  out: mine\n")
    found = json.loads(stego("--json").stdout)
    assert (found["crop"], found["quality"], found["out"]) == ("random", 30, "mine")
    assert json.loads(stego("--json", "--five", "--out", "others").stdout)["crop"] == "five"


def test_a_damaged_image_is_named_and_ends_with_1(stego: Run, few: Path) -> None:
    (few / "imgs" / "train" / "2.png").write_bytes(b"\x89PNG")
    result = stego(few, "--out", "crops", code=1)
    assert "warning: 2.png was skipped: " in result.stderr
    assert "15 crops made, 5 missing (1 images skipped)" in result.stdout


def test_the_real_images_are_cut(stego: Run, testdata: Path, tmp_path: Path) -> None:
    found = json.loads(stego(testdata / "camvid", "--five", "--split", "val", "--json").stdout)
    images = len(list((testdata / "camvid" / "imgs" / "val").iterdir()))
    assert found["splits"]["val"] == {"images": images, "made": 5 * images, "kept": 0, "missing": 0}
    assert found["label_space"] == "camvid"


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--five", "--random"], "--five and --random are two kinds of crops"),
        (["--ratio", "1.5"], "--ratio|crop_ratio"),
        (["--hash-rule", "python2"], "hash_rule|--hash-rule"),
        (["--split", "valid"], "has no split `valid`"),
        (["--quality", "0"], "quality"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_said_in_one_message(stego: Run, few: Path, arguments: list[str], words: str) -> None:
    result = stego(few, *arguments, code=2)
    assert any(word in result.stderr for word in words.split("|")), result.stderr
    assert result.stdout == ""


def test_a_misspelt_dataset_is_suggested(stego: Run, few: Path) -> None:
    assert "did you mean" in stego(few.with_name("fw"), code=2).stderr


def test_help_answers_at_once() -> None:
    code = (
        "import sys; sys.argv = ['stego', 'crop', '--help']\n"
        "from stego_cli.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('loaded:', *[name for name in {(*HEAVY, 'PIL', 'numpy', 'pydantic', 'yaml')!r} if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )
    assert "--five" in result.stdout
    assert result.stdout.rsplit("loaded:", 1)[1].split() == []


def test_nothing_heavy_is_imported(few: Path, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.argv = ['stego', 'crop', {str(few)!r}, '--out', {str(tmp_path / 'crops')!r}]\n"
        "from stego_cli.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('loaded:', *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.rsplit("loaded:", 1)[1].split() == []


# --- stopped ---------------------------------------------------------------------------------------------------------


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(
    stego: Run, many: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    chance, out, cut_off = random.Random(1), tmp_path / "crops", 0
    for attempt in range(6):
        with start(tmp_path, many, "--five", "--out", out, "--workers", "3") as process:
            wait_for(out, 100 * attempt + chance.randrange(100), process)
            time.sleep(chance.random() * 0.05)
            process.kill()
            process.communicate()
        cut_off += process.returncode == -signal.SIGKILL and not (out / "manifest.json").exists()
        finished = list(out.rglob("[0-9]*.*g"))
        assert all(path.read_bytes() == whole[str(path.relative_to(out))] for path in finished)
    assert cut_off >= 3
    stego(many, "--five", "--out", out)
    assert content(out) == whole


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
@pytest.mark.parametrize("workers", ["0", "3"])
def test_a_run_that_is_stopped_is_continued_by_the_same_command(
    stego: Run, many: Path, tmp_path: Path, whole: dict[str, bytes], sent: signal.Signals, code: int, workers: str
) -> None:
    out = tmp_path / "crops"
    with start(tmp_path, many, "--out", out, "--workers", workers) as process:
        wait_for(out, 60, process)
        os.killpg(process.pid, sent)  # Ctrl-C in a terminal goes to the whole group
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in stderr
    if sent == signal.SIGINT:
        assert "the same command continues with it" in stderr
        assert not list(out.rglob(".writing-*"))
    found = json.loads(stego(many, "--out", out, "--json").stdout)
    assert 40 <= found["splits"]["train"]["kept"] < 5 * MANY
    assert content(out) == whole


def test_a_second_run_at_the_same_time_is_refused(stego: Run, many: Path, tmp_path: Path) -> None:
    out = tmp_path / "crops"
    with start(tmp_path, many, "--out", out, "--workers", "0") as process:
        wait_for(out, 1, process)
        assert "another run is writing to" in stego(many, "--out", out, code=2).stderr
        process.kill()
        process.communicate()
