"""Whether this machine has a GPU that torch can use, without importing torch."""

import ctypes
from pathlib import Path


def has_gpu() -> bool:
    """True with an NVIDIA GPU (asked of the driver's own library) or an AMD compute device."""
    return _nvidia_count() > 0 or Path("/dev/kfd").exists()


def _nvidia_count() -> int:
    """NVML's nvmlDeviceGetCount; 0 where there is no driver. Makes no CUDA context."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return 0
    if nvml.nvmlInit_v2() != 0:
        return 0
    count = ctypes.c_uint(0)
    try:
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return 0
    finally:
        nvml.nvmlShutdown()
    return count.value
