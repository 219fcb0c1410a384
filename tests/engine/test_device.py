"""Devices and precisions are chosen once and refused in words."""

from __future__ import annotations

import pytest
import torch

from stego_cli.engine.device import autocast_dtype, choose_device, devices_present, is_out_of_memory
from stego_cli.errors import DeviceError


def test_auto_takes_a_device_that_is_there() -> None:
    device = choose_device("auto")
    name = f"cuda:{device.index or 0}" if device.type == "cuda" else device.type
    assert name in devices_present()


def test_a_missing_device_names_those_that_are_there() -> None:
    with pytest.raises(DeviceError, match="`cuda:77` is not on this machine") as caught:
        choose_device("cuda:77")
    assert "cpu" in str(caught.value)


def test_paper_never_leaves_float32_by_itself() -> None:
    assert autocast_dtype("auto", torch.device("cpu"), exact=True) is None
    assert autocast_dtype("fp32", torch.device("cpu"), exact=False) is None
    assert autocast_dtype("bf16", torch.device("cpu"), exact=False) is torch.bfloat16


def test_auto_takes_bfloat16_on_a_cpu_that_has_it_only_where_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert autocast_dtype("auto", cpu, exact=False, also_cpu=True) is torch.bfloat16
    assert autocast_dtype("auto", cpu, exact=False) is None
    assert autocast_dtype("auto", cpu, exact=True, also_cpu=True) is None
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert autocast_dtype("auto", cpu, exact=False, also_cpu=True) is None


def test_half_precision_on_the_cpu_is_refused() -> None:
    with pytest.raises(DeviceError, match="bf16 or fp32"):
        autocast_dtype("fp16", torch.device("cpu"), exact=False)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_memory_errors_are_told_from_others(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
