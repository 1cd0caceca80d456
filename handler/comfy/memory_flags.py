"""Asks this machine for its card and memory, and says with which memory flags ComfyUI starts."""

from collections.abc import Iterable, Sequence

from handler.comfy.memory_choice import Weights, choose_memory_flags
from handler.logs import get_logger
from handler.machine import cuda_first, host_memory_bytes, read_gpus
from handler.models import FoundModel

log = get_logger()


def comfy_memory_flags(
    found: Iterable[FoundModel],
    arguments: Sequence[str],
    *,
    visible_devices: str | None,
    device_order: str | None,
) -> tuple[str, ...]:
    """The flags, logged once with the reason. `arguments` are the operator's; the last two are
    CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER."""
    gpu = cuda_first(read_gpus(), visible_devices, device_order)
    choice = choose_memory_flags(gpu, Weights.of(at.model for at in found), arguments)
    card = {}
    if gpu is not None:
        capability = ".".join(map(str, gpu.capability))
        card = {"gpu": gpu.name, "gpu_bytes": gpu.memory_bytes, "capability": capability}
    log.info("memory flags", flags=choice.flags, reason=choice.reason, **card)
    host = host_memory_bytes()
    if gpu is not None and host is not None and host < choice.host_bytes:
        log.warning("host memory is short", bytes=host, needed=choice.host_bytes)
    return choice.flags
