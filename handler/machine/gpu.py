"""The GPUs of this machine, asked of the driver's own library: no torch, no CUDA context."""

import contextlib
import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Long enough for every string that NVML writes (nvml.h, NVML_DEVICE_UUID_V2_BUFFER_SIZE).
_TEXT_BYTES = 96

# nvml.h, nvmlReturn_t.
_INIT_FAULTS = {
    9: "the NVIDIA driver is not loaded on this machine (NVML error 9)",
    18: "the driver on this machine and its library in the container are of different versions "
    "(NVML error 18, driver/library version mismatch)",
    999: "the driver answers with an unknown error (NVML error 999)",
}


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA card. `capability` is CUDA's, (8, 9) for Ada. `memory_bytes` is all of its memory,
    of which CUDA shows a program 1 to 2 % less; `used_bytes` is what every program on it holds."""

    name: str
    uuid: str
    memory_bytes: int
    used_bytes: int
    capability: tuple[int, int]


class _Memory(ctypes.Structure):
    """nvml.h, nvmlMemory_t."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def load_nvml() -> Any:
    """The driver's library; raises OSError where there is none."""
    return ctypes.CDLL("libnvidia-ml.so.1")


def has_gpu() -> bool:
    """True with an NVIDIA GPU or an AMD compute device."""
    with _nvml(load_nvml) as nvml:
        return bool(nvml and _count(nvml)) or Path("/dev/kfd").exists()


def gpu_fault(
    needed_cuda: tuple[int, int] | None,
    visible: str | None = None,
    load: Callable[[], Any] = load_nvml,
) -> str | None:
    """Why a program can't use the GPU; None where it can. `needed_cuda` is the version of CUDA that
    it was built for, (13, 0), and `visible` CUDA_VISIBLE_DEVICES.

    A driver runs programs of its own major version of CUDA and of older ones (CUDA compatibility,
    minor version compatibility). AMD's are not looked at.
    """
    if Path("/dev/kfd").exists():
        return None
    try:
        nvml = load()
    except OSError:
        return "no NVIDIA driver is in this container: was it started with a GPU?"
    if code := nvml.nvmlInit_v2():
        return _INIT_FAULTS.get(code, f"NVML can't be initialised (error {code})")
    try:
        if not _count(nvml):
            return "the driver shows no device"
        if visible is not None and visible.strip() in {"", "-1"}:
            return f"CUDA_VISIBLE_DEVICES={visible} hides every device"
        return _driver_fault(nvml, needed_cuda)
    finally:
        nvml.nvmlShutdown()


def _driver_fault(nvml: Any, needed_cuda: tuple[int, int] | None) -> str | None:
    version = ctypes.c_int(0)
    if needed_cuda is None or nvml.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(version)) != 0:
        return None
    # 12040 is 12.4 (nvml.h, NVML_CUDA_DRIVER_VERSION_MAJOR).
    major, minor = version.value // 1000, version.value % 1000 // 10
    if major >= needed_cuda[0]:
        return None
    return (
        f"the driver is too old: it supports CUDA {major}.{minor}, and this image needs "
        f"{needed_cuda[0]}.{needed_cuda[1]}"
    )


def read_gpus(load: Callable[[], Any] = load_nvml) -> tuple[Gpu, ...]:
    """In the order of the PCI bus. None at all where there is no driver, or where it can't tell of
    one of them: the others' numbers would then be wrong."""
    with _nvml(load) as nvml:
        try:
            return tuple(_read(nvml, index) for index in range(_count(nvml))) if nvml else ()
        except _NvmlError:
            return ()


def cuda_first(gpus: Sequence[Gpu], visible: str | None, order: str | None) -> Gpu | None:
    """The card that a CUDA program sees as its device 0; None when it sees none, or can't be told.

    `visible` and `order` are CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER. CUDA numbers the fastest
    card first unless told to go by the bus, and which it holds for the fastest only it knows (CUDA
    programming guide, environment variables): of cards that differ, the weakest is taken then, so
    that what is chosen for it does for each.
    """
    first = "0" if visible is None else visible.partition(",")[0].strip()
    if first.startswith("GPU-"):
        return next((gpu for gpu in gpus if gpu.uuid.startswith(first)), None)
    if not first.isdecimal() or int(first) >= len(gpus):
        return None
    if order == "PCI_BUS_ID":
        return gpus[int(first)]
    return min(gpus, key=lambda gpu: (gpu.memory_bytes, gpu.capability))


class _NvmlError(Exception):
    """NVML refused a call: a card that fell off the bus, or one that is not ours to see."""


@contextlib.contextmanager
def _nvml(load: Callable[[], Any]) -> Iterator[Any]:
    try:
        nvml = load()
    except OSError:
        nvml = None
    if nvml is None or nvml.nvmlInit_v2() != 0:
        yield None
        return
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def _count(nvml: Any) -> int:
    count = ctypes.c_uint(0)
    return count.value if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0 else 0


def _read(nvml: Any, index: int) -> Gpu:
    card = ctypes.c_void_p()
    _call(nvml.nvmlDeviceGetHandleByIndex_v2, ctypes.c_uint(index), ctypes.byref(card))
    memory, major, minor = _Memory(), ctypes.c_int(0), ctypes.c_int(0)
    _call(nvml.nvmlDeviceGetMemoryInfo, card, ctypes.byref(memory))
    _call(nvml.nvmlDeviceGetCudaComputeCapability, card, ctypes.byref(major), ctypes.byref(minor))
    return Gpu(
        name=_text(nvml.nvmlDeviceGetName, card),
        uuid=_text(nvml.nvmlDeviceGetUUID, card),
        memory_bytes=memory.total,
        used_bytes=memory.used,
        capability=(major.value, minor.value),
    )


def _text(function: Any, card: ctypes.c_void_p) -> str:
    text = ctypes.create_string_buffer(_TEXT_BYTES)
    _call(function, card, text, ctypes.c_uint(_TEXT_BYTES))
    return text.value.decode("utf-8", "replace")


def _call(function: Any, *arguments: Any) -> None:
    if function(*arguments) != 0:
        raise _NvmlError
