"""A stand-in for the driver's libnvidia-ml.so.1 with the cards that a test names.

Written from nvml.h; no driver has been at hand to hold it to.
"""

from dataclasses import dataclass
from typing import Any

from handler.machine.gpu import Gpu

_SUCCESS, _NO_PERMISSION, _UNINITIALIZED = 0, 4, 1


@dataclass
class Nvml:
    """`unreadable` is the index of a card that refuses; `is_broken` makes the first call fail."""

    gpus: tuple[Gpu, ...]
    unreadable: int | None = None
    is_broken: bool = False
    init_code: int = _SUCCESS
    cuda: int = 13000
    open_calls: int = 0

    def nvmlInit_v2(self) -> int:
        if self.is_broken:
            return _UNINITIALIZED
        if self.init_code:
            return self.init_code
        self.open_calls += 1
        return _SUCCESS

    def nvmlShutdown(self) -> int:
        self.open_calls -= 1
        return _SUCCESS

    def nvmlSystemGetCudaDriverVersion_v2(self, version: Any) -> int:
        version._obj.value = self.cuda
        return _SUCCESS

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = len(self.gpus)
        return _SUCCESS

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, card: Any) -> int:
        # A handle is an address, and NULL is none.
        card._obj.value = index.value + 1
        return _NO_PERMISSION if index.value == self.unreadable else _SUCCESS

    def nvmlDeviceGetMemoryInfo(self, card: Any, memory: Any) -> int:
        gpu = self.gpus[card.value - 1]
        memory._obj.total, memory._obj.used = gpu.memory_bytes, gpu.used_bytes
        return _SUCCESS

    def nvmlDeviceGetCudaComputeCapability(self, card: Any, major: Any, minor: Any) -> int:
        major._obj.value, minor._obj.value = self.gpus[card.value - 1].capability
        return _SUCCESS

    def nvmlDeviceGetName(self, card: Any, text: Any, length: Any) -> int:
        text.value = self.gpus[card.value - 1].name.encode()[: length.value - 1]
        return _SUCCESS

    def nvmlDeviceGetUUID(self, card: Any, text: Any, length: Any) -> int:
        text.value = self.gpus[card.value - 1].uuid.encode()[: length.value - 1]
        return _SUCCESS
