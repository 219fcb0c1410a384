"""Help, version and completion answer at once: nothing heavy is imported for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
HEAVY = ("torch", "timm", "torchvision", "scipy", "matplotlib", "PIL", "numpy")
SLOW = (*HEAVY, "pydantic", "yaml")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a fresh process, from the checkout."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "COLUMNS": "100", "TERM": "dumb", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def loaded(code: str, names: tuple[str, ...]) -> list[str]:
    """Return which of `names` are imported once `code` has run."""
    result = run("-c", f"{code}\nimport sys\nprint('loaded:', *[n for n in {names!r} if n in sys.modules])")
    assert result.returncode == 0, result.stderr
    return result.stdout.rsplit("loaded:", 1)[1].split()


def main_with(*arguments: str) -> str:
    """Return code that runs the command line in a process that lives on."""
    return (
        f"import sys; sys.argv = ['stego', *{arguments!r}]\n"
        "from stego_cli.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    )


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    assert loaded("import stego_cli.cli", SLOW) == []


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"]]
    + [[name, "--help"] for name in ("predict", "fit", "info", "download", "convert", "crop", "train", "eval")]
    + [["info", "dataset", "--help"], ["knn", "build", "--help"], ["knn", "show", "--help"]]
    + [["features", "build", "--help"]],
    ids=" ".join,
)
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    assert loaded(main_with(*arguments), SLOW) == []


def test_settings_are_read_without_torch() -> None:
    code = "from stego_cli.config.load import load_config\nfrom stego_cli.config.predict import PredictConfig\n"
    assert loaded(f"{code}load_config(PredictConfig)", HEAVY) == []


def test_a_bad_setting_is_reported_before_torch_loads(tmp_path: Path) -> None:
    code = main_with("predict", str(tmp_path), "--res", "0").replace("assert not end.code", "assert end.code == 2")
    assert loaded(code, HEAVY) == []


def complete(line: str) -> list[str]:
    """Return what bash would be offered at the end of `line`."""
    words = line.split(" ")
    result = run(
        "-c",
        "from stego_cli.cli import app; app(prog_name='stego')",
        _STEGO_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD=str(len(words) - 1),
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("stego pred", "predict"),
        ("stego predict --prob", "--probe"),
        ("stego predict --probe l", "linear"),
        ("stego predict --save labels,o", "labels,overlay"),
        ("stego predict --model emb", "embedded"),
        ("stego predict --precision bf", "bf16"),
        ("stego fit --backbone filt", "filterbank"),
    ],
)
def test_shell_completion_offers_commands_options_and_values(line: str, offered: str) -> None:
    assert complete(line) == [offered]


def test_completion_of_model_names_needs_no_torch() -> None:
    code = "from stego_cli.cli.completion import complete_model\nassert 'embedded' in complete_model('')"
    assert loaded(code, HEAVY) == []


def test_the_module_is_the_command() -> None:
    result = run("-m", "stego_cli", "--version")
    assert result.returncode == 0
    assert result.stdout.startswith("stego ")


def test_a_completion_script_is_offered() -> None:
    assert "--install-completion" in run("-m", "stego_cli", "--help").stdout
    result = run(
        "-c",
        "from stego_cli.cli import app; app(['--show-completion', 'bash'], prog_name='stego')",
        _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",
    )
    assert result.returncode == 0, result.stderr
    assert "_STEGO_COMPLETE=complete_bash" in result.stdout


def test_a_bug_keeps_its_traceback_and_has_an_exit_code_of_its_own() -> None:
    code = (
        "import sys, types\n"
        "engine = types.ModuleType('engine')\n"
        "def predict_folder(*_, **__): raise ZeroDivisionError('ours')\n"
        "engine.predict_folder = predict_folder\n"
        "sys.modules['stego_cli.engine.predict'] = engine\n"
        "sys.argv = ['stego', 'predict', 'x']\n"
        "from stego_cli.cli import main\n"
        "main()"
    )
    result = run("-c", code)
    assert result.returncode == 70
    assert "Traceback" in result.stderr
    assert "ZeroDivisionError: ours" in result.stderr
    assert "bug in stego" in result.stderr


def test_a_file_name_that_is_not_text_never_stops_a_message(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.yaml")
    result = run("-m", "stego_cli", "predict", "x", "--config", str(tmp_path / name), PYTHONIOENCODING="ascii")
    assert result.returncode == 2
    assert r"caf\udce9.yaml" in result.stderr
    assert "Traceback" not in result.stderr


def test_results_with_names_that_the_terminal_cannot_write_are_printed_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "日.npz"
    file.write_bytes(b"not an archive")
    result = run("-m", "stego_cli", "info", str(file), PYTHONIOENCODING="latin-1")
    assert "Traceback" not in result.stderr
    assert r"\u65e5.npz" in result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end in another way there")
def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['stego', 'info']; from stego_cli.cli import main; main()"],
        cwd=REPOSITORY,
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(write_end)
    assert process.returncode == 141
    assert process.stderr == ""
