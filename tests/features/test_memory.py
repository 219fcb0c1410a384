from __future__ import annotations

from pathlib import Path

import pytest

from stego_cli.features import memory


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Linux machine with 1000 KiB available, whose process is in the job `slurm/job_7`."""
    (tmp_path / "meminfo").write_text("MemTotal: 4000 kB\nMemFree: 10 kB\nMemAvailable: 1000 kB\n")
    (tmp_path / "own").write_text("12:cpu:/elsewhere\n0::/slurm/job_7\n")
    (tmp_path / "groups" / "slurm" / "job_7").mkdir(parents=True)
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "groups")
    return tmp_path / "groups"


def limit(group: Path, most: str, used: int, cached: int) -> None:
    (group / "memory.max").write_text(f"{most}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")


def test_without_limits_it_is_what_the_kernel_says(machine: Path) -> None:
    limit(machine / "slurm", "max", 10**6, 0)
    assert memory.available_memory() == 1000 * 1024


@pytest.mark.parametrize("group", [".", "slurm", "slurm/job_7"])
def test_a_limit_of_any_group_around_the_process_counts_and_cached_files_do_not(machine: Path, group: str) -> None:
    limit(machine / group, "500000", 300_000, 100_000)
    assert memory.available_memory() == 300_000


def test_a_group_beyond_its_limit_leaves_nothing(machine: Path) -> None:
    limit(machine, "1000", 5000, 0)
    assert memory.available_memory() == 0


def test_what_fits_leaves_a_fifth_to_spare(machine: Path) -> None:
    available = 1000 * 1024
    assert memory.fits_in_memory(available * 8 // 10)
    assert not memory.fits_in_memory(available * 8 // 10 + 1)


def test_without_meminfo_half_of_all_memory_is_taken(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_MEMINFO", machine / "nowhere")
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 100, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert memory.available_memory() == 50 * 4096


def test_where_nobody_tells_nothing_is_said_to_fit(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_MEMINFO", machine / "nowhere")
    monkeypatch.delattr("os.sysconf")
    assert memory.available_memory() is None
    assert not memory.fits_in_memory(1)
