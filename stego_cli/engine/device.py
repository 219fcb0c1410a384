"""Which device and precision a run uses, chosen once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from stego_cli.errors import DeviceError

if TYPE_CHECKING:
    from stego_cli.config.words import Precision


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called `name`; `auto` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        DeviceError: If the device is not on this machine; names what is.
    """
    # Said outright, PyTorch also tells its matrix library never to take fewer. Later, when threads are given cores of
    # their own, it would be told in the middle of a run, and a training could differ in the last bit from there on.
    torch.set_num_threads(torch.get_num_threads())
    present = devices_present()
    if name == "auto":
        return torch.device("cuda" if "cuda:0" in present else present[0])
    device = torch.device(name)
    wanted = f"cuda:{device.index or 0}" if device.type == "cuda" else device.type
    if wanted not in present:
        raise DeviceError(f"device `{name}` is not on this machine\n\nhint: choose from auto, {', '.join(present)}")
    return device


def devices_present() -> list[str]:
    """Return the devices of this machine, the preferred one first among `mps` and `cpu`, then every CUDA card."""
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*mps, "cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]


def autocast_dtype(
    precision: Precision, device: torch.device, *, exact: bool, also_cpu: bool = False
) -> torch.dtype | None:
    """Return the type for the backbone's arithmetic, or None for plain float32.

    Args:
        precision: What was asked for. `auto` is bfloat16 on CUDA cards that have it and float32 elsewhere.
        device: Where the model runs.
        exact: True under the protocol `paper`, where `auto` never leaves float32.
        also_cpu: Whether `auto` takes bfloat16 on a CPU that computes in it, too.

    Raises:
        DeviceError: If the device has no such arithmetic.
    """
    if precision == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        fast = fast or (also_cpu and device.type == "cpu" and cpu_computes_in_bf16())
        return torch.bfloat16 if fast and not exact else None
    if precision == "fp16" and device.type == "cpu":
        raise DeviceError("half precision (fp16) is not for the CPU\n\nhint: use --precision bf16 or fp32")
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def cpu_computes_in_bf16() -> bool:
    """Say whether the CPU multiplies matrices of bfloat16 itself (AVX-512 BF16, AMX); emulated, it would be slower."""
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(bool(has()) for has in asked if has is not None)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that the device's or the machine's memory is used up."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The CPU allocator and MPS report it as a plain RuntimeError, so only the words tell.
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
