"""Measure the machine instead of assuming it: matrix-product rates, and the speed of real steps.

What is chosen here (device, threads, precision, compilation) is frozen in the run's recipe, so a
resumed run computes exactly as it began. Left out: the choices that need no measuring (`recipe`).
"""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch

from triptych.errors import ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine of a run.

    Units: `flops_float32` and `flops_bfloat16` are floating-point operations per second, as
    measured on one large matrix product.
    """

    name: str
    device: str
    threads: int
    flops_float32: float
    flops_bfloat16: float

    def flops(self, precision: str) -> float:
        """Return the measured rate of a precision."""
        return self.flops_bfloat16 if precision == "bfloat16" else self.flops_float32


def choose_device(device: str) -> str:
    """Return the device to train on; `auto` is the GPU if there is one, else the CPU.

    Raises: ConfigError for a device that this machine lacks.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"train.device = {device!r}, and this machine or this torch has no CUDA",
            hint="set train.device=cpu, or leave it at auto",
        )
    try:
        return str(torch.device(device))
    except RuntimeError as error:
        raise ConfigError(
            f"train.device = {device!r} is not a device", hint="use cpu, cuda or auto"
        ) from error


def probe_machine(device: str, threads: int) -> Machine:
    """Measure the matrix-product rates of this machine; takes about half a second."""
    if threads:
        torch.set_num_threads(threads)
    return Machine(
        name=_name(device),
        device=device,
        threads=torch.get_num_threads(),
        flops_float32=matmul_flops(device, torch.float32),
        flops_bfloat16=matmul_flops(device, torch.bfloat16),
    )


def matmul_flops(device: str, dtype: torch.dtype, budget_s: float = 0.1) -> float:
    """Measure floating-point operations per second of a square matrix product.

    Returns: the best of several tries, which the machine's other work disturbs least.
    """
    size = 8192 if device.startswith("cuda") else 1024
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    best_s = float("inf")
    started_s = time.perf_counter()
    while time.perf_counter() - started_s < budget_s or best_s == float("inf"):
        best_s = min(best_s, seconds(lambda: left @ right, device))
    return 2 * size**3 / best_s


def seconds(work: Callable[[], object], device: str) -> float:
    """Return the duration of one call, including the work it leaves to the device."""
    synchronize(device)
    started_s = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - started_s


def synchronize(device: str) -> None:
    """Wait until the device has finished all queued work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def memory_bytes(device: str) -> int:
    """Return the memory of this process: the peak on the GPU, or the resident size now."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


def has_compiler(device: str) -> bool:
    """Return whether torch.compile works here: on a CPU it needs a C++ compiler."""
    return device.startswith("cuda") or any(shutil.which(name) for name in ("g++", "clang++"))


def _name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            for line in file:
                if line.startswith("model name"):
                    return f"{line.partition(':')[2].strip()}, {psutil.cpu_count()} cores"
    except OSError:
        pass
    return f"{platform.machine()}, {psutil.cpu_count()} cores"
