"""Loading leaves the collector as it was, and takes what was loaded out of its way."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from stego_cli.cli.loading import heavy_imports

TORCH_IS_NOT_THERE = (
    "import gc, sys\nassert 'torch' not in sys.modules\nfrom stego_cli.cli.loading import heavy_imports\n"
)


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", TORCH_IS_NOT_THERE + code], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_collector_rests_while_modules_load_and_passes_them_by_afterwards() -> None:
    code = (
        "with heavy_imports():\n"
        "    assert not gc.isenabled()\n"
        "    kept = [[] for _ in range(1000)]\n"
        "assert gc.isenabled()\n"
        "assert gc.get_freeze_count() > 1000\n"
        "known = {id(each) for each in gc.get_objects()}\n"
        "assert not any(id(each) in known for each in kept)\n"
    )
    result = run(code)
    assert result.returncode == 0, result.stderr


def test_garbage_made_later_is_still_collected() -> None:
    code = (
        "import weakref\n"
        "class Thing: pass\n"
        "with heavy_imports():\n    pass\n"
        "thing = Thing(); thing.itself = thing; seen = weakref.ref(thing)\n"
        "del thing; gc.collect()\n"
        "assert seen() is None\n"
    )
    result = run(code)
    assert result.returncode == 0, result.stderr


def test_an_import_that_fails_brings_the_collector_back() -> None:
    result = run("try:\n    with heavy_imports():\n        import no_such_module\nexcept ImportError:\n    pass\n"
                 "assert gc.isenabled()\n")  # fmt: skip
    assert result.returncode == 0, result.stderr


def test_nothing_changes_where_torch_is_loaded_or_the_collector_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", sys.modules.get("torch"))
    before = gc.get_freeze_count()
    with heavy_imports():
        assert gc.isenabled()
    assert gc.get_freeze_count() == before
    off = "gc.disable()\nwith heavy_imports():\n    pass\nassert not gc.isenabled()\nassert not gc.get_freeze_count()\n"
    result = run(off)
    assert result.returncode == 0, result.stderr


def test_predict_loads_that_way() -> None:
    code = (
        "sys.argv = ['stego', 'predict', 'no such file', '--quiet']\n"
        "from stego_cli.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 2, end.code\n"
        "assert 'torch' in sys.modules\n"
        "assert gc.isenabled()\n"
        "assert gc.get_freeze_count() > 100_000\n"
    )
    result = run(code)
    assert result.returncode == 0, result.stderr
